"""Reading from web servers that send whatever they like."""

from __future__ import annotations

import base64
import functools
import gzip
import socket
import ssl
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from helpers.certificates import self_signed
from helpers.web_server import Answer, WebServer, answer, redirect
from yoloship._util import fetching
from yoloship._util.addresses import AddressRules, parse_address, resolve
from yoloship._util.fetching import fetch
from yoloship.errors import DownloadError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 40
RULES = AddressRules(allow_http=True, allow_private=True, max_bytes=100_000, timeout_s=20)
QUICK = AddressRules(allow_http=True, allow_private=True, max_bytes=100_000, timeout_s=0.4)


def served(*answers: Answer) -> WebServer:
    """A server whose target ``/N`` gives answer N."""
    return WebServer(lambda target: answers[int(target.partition("?")[0][1:] or 0)])


def test_a_file_is_read_with_its_type() -> None:
    with served(answer(BODY, kind="Image/PNG; x=1")) as server:
        found = fetch(f"{server.url}/0?a=b", RULES)
    assert (found.data, found.content_type, found.shown) == (BODY, "image/png", f"{server.url}/0?a=b")
    request = server.requests[0].split("\r\n")
    assert request[0] == "GET /0?a=b HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in request
    assert "Accept-Encoding: identity" in request


@pytest.mark.parametrize(
    "whole",
    [
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + BODY,
        answer(BODY, kind=""),
    ],
)
def test_every_way_to_send_a_file_is_read(whole: bytes) -> None:
    with served(whole) as server:
        assert fetch(f"{server.url}/0", RULES).data == BODY


def drip(head: bytes, seconds: float = 0.05) -> Iterator[bytes | float]:
    yield head
    while True:
        yield b"x"
        yield seconds


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        (answer(BODY, length=len(BODY) + 5), "ended after 10,240 of 10,245 bytes"),
        (answer(b"", length=200_000), "is too large: expected at most 100,000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200_000), "is too large: expected at most 100,000 bytes"),
        (CHUNKED + b"30d40\r\n" + bytes(200_000) + b"\r\n0\r\n\r\n", "is too large"),
        (CHUNKED + b"100\r\n" + bytes(100), "was cut short, or its parts"),
        (CHUNKED + b"zz\r\n", "was cut short, or its parts"),
        (answer(b"", status="404 Not Found"), "the server answered 404 Not Found"),
        (answer(b"", status="204 No Content"), "the server answered 204 No Content"),
        (answer(b"", status="500 \x1b[2J"), r"the server answered 500 \\x1b"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be read: SSH-2.0-OpenSSH"),
        (b"", "cannot be read: Remote end closed connection"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "cannot be read: got more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, "cannot be read: got more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10_000_000), mtime=0),
         "is sent in the encoding 'gzip', which was not requested"),
        (redirect(""), "the server redirects without saying where to"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "the server redirects without saying where to"),
    ],
)  # fmt: skip
def test_what_is_not_whole_or_not_expected_is_one_clear_line(whole: bytes, problem: str) -> None:
    with served(whole) as server, pytest.raises(DownloadError, match=problem) as caught:
        fetch(f"{server.url}/0", RULES)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{server.url}/0: ")


@pytest.mark.parametrize(
    "head",
    [
        b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        CHUNKED,
    ],
)  # fmt: skip
def test_a_server_that_sends_a_byte_now_and_then_is_left(head: bytes) -> None:
    with served(drip(head)) as server, pytest.raises(DownloadError, match=r"took longer than 0.4 s"):
        fetch(f"{server.url}/0", QUICK)


def test_a_server_that_never_answers_is_left() -> None:
    with served([10.0]) as server, pytest.raises(DownloadError, match=r"took longer than 0.4 s"):
        fetch(f"{server.url}/0", QUICK)


def test_large_answers_are_not_read_beyond_the_limit() -> None:
    def endless() -> Iterator[bytes | float]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield bytes(65536)

    tracemalloc.start()
    try:
        with served(endless()) as server, pytest.raises(DownloadError, match="is too large"):
            fetch(f"{server.url}/0", RULES)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_the_type_can_be_refused_before_the_content_is_read() -> None:
    def refuse(kind: str, shown: str) -> None:
        raise InputError(f"is {kind}", subject=shown)

    endless = drip(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
    with served(endless) as server, pytest.raises(InputError, match="is video/mp4"):
        fetch(f"{server.url}/0", RULES, refuse)


def test_redirects_are_followed_up_to_a_limit() -> None:
    with served(redirect("/1"), redirect("2?x=é", 307), answer(BODY), redirect("/3", 308)) as server:
        assert fetch(f"{server.url}/0", RULES).shown == f"{server.url}/2?x=é"
        with pytest.raises(DownloadError, match="the server redirects more than 5 times"):
            fetch(f"{server.url}/3", RULES)
    assert [request.split(" ")[1] for request in server.requests[:3]] == ["/0", "/1", "/2?x=%C3%A9"]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("https://10.0.0.1/a.jpg", "leads into a private network"),
        ("file:///etc/passwd", "redirects to an address that is not an https address"),
        ("ftp://example.org/", "redirects to an address that is not an https address"),
        ("http://example.org/", "redirects to an address that uses http, which is not allowed by default"),
        ("https://example.org:25/", "redirects to an address that port 25 is not a web port"),
        ("https://a b/", "redirects to an address that is not a valid address"),
        ("//127.0.0.1:1/", "redirects to an address that uses http, which is not allowed by default"),
    ],
)
def test_each_redirect_is_checked_like_the_first_address(
    place: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address is allowed as if it were a public one."""
    whole, asked = parse_address, resolve
    with served(redirect(place)) as server:

        def first_is_public(url: str, rules: AddressRules) -> Any:
            return whole(url, RULES if url.startswith(server.url) else rules)

        monkeypatch.setattr(fetching, "parse_address", first_is_public)
        monkeypatch.setattr(
            fetching, "resolve",
            lambda address, rules, s: asked(address, RULES if address.port == server.port else rules, s),
        )  # fmt: skip
        with pytest.raises(InputError, match=problem):
            fetch(f"{server.url}/0", AddressRules())


def test_credentials_go_only_to_the_host_that_they_are_for() -> None:
    expected = f"Authorization: Basic {base64.b64encode(b'me:p@ss').decode()}"
    with served(answer(BODY)) as other, served(redirect("/1"), redirect(f"{other.url}/0")) as server:
        url = f"{server.url}/0".replace("://", "://me:p%40ss@")
        assert fetch(url, RULES).shown == f"{other.url}/0"
    assert [expected in request for request in server.requests] == [True, True]
    assert [expected in request for request in other.requests] == [False]


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that gives another answer the second time is not asked a second time."""
    asked: list[str] = []

    def ask(host: str, port: int, **rest: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with served(answer(BODY)) as server:
        assert fetch(f"http://rebind.example:{server.port}/0", RULES).data == BODY
    assert asked == ["rebind.example"]
    assert f"Host: rebind.example:{server.port}" in server.requests[0]


def test_another_address_of_the_host_is_tried_if_the_first_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    with served(answer(BODY)) as server:
        places = [(socket.AF_INET, ("127.0.0.1", port)) for port in (closed, server.port)]
        monkeypatch.setattr(fetching, "resolve", lambda *arguments: places)
        assert fetch("http://example.org/0", RULES).data == BODY
        monkeypatch.setattr(fetching, "resolve", lambda *arguments: places[:1])
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        with pytest.raises(DownloadError, match=r"cannot be read: Connection refused"):
            fetch("http://example.org/0", RULES)
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:8080")
        with pytest.raises(DownloadError, match=r"proxies from the environment are not used"):
            fetch("http://example.org/0", RULES)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for the host ``named.example``, which signs itself."""
    return self_signed(tmp_path_factory.mktemp("certificate"), "named.example")


def test_a_certificate_must_be_trusted_and_be_that_of_the_name(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting: Callable[[], ssl.SSLContext] = functools.partial(ssl.create_default_context, cafile=certificate)
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))

    def ask(host: str, port: int, **rest: Any) -> list[tuple[Any, ...]]:
        return [(*place[:4], ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with WebServer(lambda target: answer(BODY), context) as server:
        with pytest.raises(DownloadError, match=r"its certificate is not valid: self.signed certificate"):
            fetch(f"https://named.example:{server.port}/", RULES)
        monkeypatch.setattr(fetching, "_tls", trusting)
        assert fetch(f"https://named.example:{server.port}/", RULES).data == BODY
        for host in ("other.example", "127.0.0.1"):
            with pytest.raises(DownloadError, match=r"its certificate is not valid: .*(mismatch|not valid for)"):
                fetch(f"https://{host}:{server.port}/", RULES)
