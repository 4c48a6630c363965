from __future__ import annotations

import re
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from yoloship.errors import OutputError
from yoloship.sinks.show import ShowPage, server
from yoloship.sinks.show.server import is_right_host, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def page() -> Iterator[ShowPage]:
    with ShowPage() as made:
        yield made


def status(address: str, host: str | None = None) -> int:
    request = urllib.request.Request(address, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def test_the_page_needs_nothing_from_elsewhere_and_may_load_nothing(page: ShowPage) -> None:
    with urllib.request.urlopen(page.address) as response:
        html, policy = response.read().decode(), response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', html))
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in html
    assert "https:" not in html
    assert "innerHTML" not in html, "names of classes are not markup"
    assert "prefers-color-scheme: dark" in html
    with urllib.request.urlopen(page.address) as again:
        assert nonce not in again.read().decode()


def test_only_who_knows_the_token_gets_anything(page: ShowPage) -> None:
    root = page.address.rsplit("/", 2)[0]
    token = page.address.split("/")[3]
    assert len(token) >= 20
    assert token != new_token()
    for path in (
        "",
        "/",
        "/x/",
        f"/{token[:-1]}/",
        f"/{token}x/everything",
        "/everything",
        f"/x/{token}/",
        "//",
        "/%00/",
    ):
        assert status(root + path) == 404, path
    assert status(page.address) == 200


@pytest.mark.parametrize(
    "path", ["nothing", "x.mjpg", "-1.mjpg", "².mjpg".encode().hex() + ".mjpgx", "../", "page.html"]
)
def test_there_is_nothing_else(page: ShowPage, path: str) -> None:
    assert status(page.address + path) == 404


def test_a_name_that_points_here_is_refused(page: ShowPage) -> None:
    assert status(page.address, "evil.example") == 421
    assert status(page.address, "127.0.0.1.evil.example") == 421
    assert status(page.address, "localhost:9000") == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80", "192.168.1.7:8080", "LOCALHOST"])
def test_addresses_are_right_hosts(host: str) -> None:
    assert is_right_host(host)


@pytest.mark.parametrize(
    "host", [None, "", ":80", "evil.example", "localhost.evil", "[::1", "1", "127.1", "a@127.0.0.2@b"]
)
def test_all_others_are_not(host: str | None) -> None:
    assert not is_right_host(host)


def test_it_listens_at_this_machine_only_unless_told_otherwise(page: ShowPage) -> None:
    assert page.address.startswith("http://127.0.0.1:")
    with ShowPage("::1") as other:
        assert other.address.startswith("http://[::1]:")
        assert status(other.address) == 200


def test_a_port_that_is_taken_or_none_is_an_error_with_a_way_forward(page: ShowPage) -> None:
    port = int(page.address.split(":")[2].split("/")[0])
    with pytest.raises(OutputError, match=f"127.0.0.1:{port}: cannot be listened on: .*choose another port"):
        ShowPage(port=port)
    with pytest.raises(OutputError, match="cannot be listened on"):
        ShowPage(port=70_000)


def test_there_may_only_be_so_many_viewers(page: ShowPage, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        for _ in range(server.MAX_VIEWERS):
            stack.enter_context(urllib.request.urlopen(page.address + "everything"))
        assert status(page.address + "everything") == 503
        assert status(page.address) == 200


def test_connections_without_a_request_are_not_more_than_it_can_bear(page: ShowPage) -> None:
    host, port = page.address.split("/")[2].split(":")
    with ExitStack() as stack:
        for _ in range(server.MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port))))
        last = stack.enter_context(socket.create_connection((host, int(port))))
        assert last.recv(1) == b""


def test_rubbish_is_answered_or_dropped_without_a_word(page: ShowPage, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = page.address.split("/")[2].split(":")
    for data in (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 70_000 + b"\r\n",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert status(page.address) == 200
    assert capfd.readouterr() == ("", "")


def test_the_page_is_in_the_package() -> None:
    assert Path(server.__file__).with_name("page.html").stat().st_size < 10_000
