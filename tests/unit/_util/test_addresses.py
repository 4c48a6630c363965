"""Which addresses on the network may be read."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from yoloship._util.addresses import AddressRules, is_allowed, parse_address, redacted, resolve
from yoloship.errors import DownloadError, InputError

RULES = AddressRules()
OPEN = AddressRules(allow_http=True, allow_private=True)


def test_an_address_is_taken_apart() -> None:
    found = parse_address("https://me:p%40ss@Example.org:8443/a b.jpg".replace(" ", "%20") + "?size=9&x=é#part", RULES)
    assert (found.scheme, found.host, found.port) == ("https", "example.org", 8443)
    assert found.target == "/a%20b.jpg?size=9&x=%C3%A9"
    assert found.credentials == "me:p@ss"
    assert found.shown == "https://Example.org:8443/a%20b.jpg?size=9&x=é"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.org", "example.org", 443),
        ("HTTPS://example.org./", "example.org", 443),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("https://①②⑦.0.0.1/", "127.0.0.1", 443),
    ],
)
def test_hosts_are_in_ascii(url: str, host: str, port: int) -> None:
    found = parse_address(url, RULES)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "https://", "https:///a.jpg", "https://a b/", "https://a\r\nHost: b/", "https://a\\@b/", "https://a:99999/",
        "https://a:x/", "https://[::1", "https://[fe80::1%25eth0]/", "https://..", "https://-a/",
        "https://a/" + "x" * 5000,
        "ftp://a/b.jpg", "file:///etc/passwd", "gopher://a", "a.jpg", "https://" + "ü" * 300 + "/", "https://a\0b/",
        "https://%31%32%37.0.0.1/", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_address_of_https_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_address(url, RULES)
    assert "\n" not in str(caught.value)


def test_http_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(InputError, match=r"allow it \(--allow-http, allow_http\); for a stream, put live: in front"):
        parse_address("http://example.org/a.jpg", RULES)
    assert parse_address("http://example.org/a.jpg", OPEN).port == 80


@pytest.mark.parametrize("port", [0, 22, 25, 465, 1023])
def test_ports_of_other_services_are_refused(port: int) -> None:
    with pytest.raises(InputError, match=f"port {port} is not a web port"):
        parse_address(f"https://example.org:{port}/", OPEN)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:secret@host/a.jpg", "https://host/a.jpg"),
        ("rtsp://me:se@cret@host:554/cam?x=a@b", "rtsp://host:554/cam?x=a@b"),
        ("https://host/a@b.jpg", "https://host/a@b.jpg"),
        ("https://host#me:x@evil", "https://host#me:x@evil"),
        ("photo@2x.jpg", "photo@2x.jpg"),
        ("https://host/a.jpg?token=abc&x=1", "https://host/a.jpg?token=***&x=1"),
    ],
)
def test_credentials_are_never_shown(url: str, expected: str) -> None:
    assert redacted(url) == expected


@pytest.mark.parametrize(
    "number",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
        "172.31.9.9",
        "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
        "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1", "x", "",
    ],
)  # fmt: skip
def test_addresses_of_private_networks_and_of_this_machine_are_refused(number: str) -> None:
    assert not is_allowed(number, RULES)


@pytest.mark.parametrize(
    "number",
    ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_allowed(number: str) -> None:
    assert is_allowed(number, RULES)


def test_private_addresses_may_be_allowed_but_never_those_of_many_machines() -> None:
    for number in ("127.0.0.1", "10.0.0.1", "::1", "fd00::1", "8.8.8.8", "::ffff:127.0.0.1"):
        assert is_allowed(number, OPEN)
    for number in ("224.0.0.1", "255.255.255.255", "ff02::1", "240.0.0.1"):
        assert not is_allowed(number, OPEN)


@pytest.mark.parametrize(
    "number",
    ["169.254.169.254", "169.254.1.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fe80::1%eth0",
     "fd00:ec2::254", "100.100.100.200", "192.0.0.192"],
)  # fmt: skip
def test_addresses_where_clouds_keep_credentials_are_refused_even_if_private_ones_are_allowed(number: str) -> None:
    assert not is_allowed(number, OPEN)


def test_the_refusal_of_such_an_address_says_that_no_option_allows_it() -> None:
    address = parse_address("https://169.254.169.254/latest/meta-data/", OPEN)
    with pytest.raises(InputError, match=r"clouds keep credentials.*never reads these: got 169\.254\.169\.254$"):
        resolve(address, OPEN, 5)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "[::1]",
     "[::ffff:7f00:1]"],
)  # fmt: skip
def test_however_this_machine_is_written_it_is_refused(host: str) -> None:
    address = parse_address(f"https://{host}/a.jpg", RULES)
    with pytest.raises(InputError, match=r"leads into a private network or to this machine: got .*--allow-private"):
        resolve(address, RULES, 5)
    assert resolve(address, OPEN, 5)


def answers(monkeypatch: pytest.MonkeyPatch, *numbers: str) -> None:
    """Let every host stand for these addresses."""

    def ask(host: str, port: int, **rest: Any) -> list[tuple[Any, ...]]:
        families = [socket.AF_INET6 if ":" in number else socket.AF_INET for number in numbers]
        return [(family, 1, 6, "", (number, port)) for family, number in zip(families, numbers, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", ask)


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address("https://example.org/", RULES)
    answers(monkeypatch, "8.8.8.8", "2606:4700::1111")
    assert [place[0] for _, place in resolve(address, RULES, 5)] == ["8.8.8.8", "2606:4700::1111"]
    for numbers in (("8.8.8.8", "10.0.0.1"), ("8.8.8.8", "::1"), ("fd00::1", "8.8.8.8")):
        answers(monkeypatch, *numbers)
        with pytest.raises(InputError, match="leads into a private network"):
            resolve(address, RULES, 5)


def test_a_host_that_is_not_found_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address("https://example.invalid/", RULES)

    def fail(*arguments: object, **rest: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=r"its host was not found: Name or service not known$"):
        resolve(address, RULES, 5)
    answers(monkeypatch)
    with pytest.raises(DownloadError, match=r"its host was not found: no address$"):
        resolve(address, RULES, 5)


@pytest.mark.timeout(60)
def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **rest: [over.wait()])
    with pytest.raises(DownloadError, match="its host was not found in time"):
        resolve(parse_address("https://example.org/", RULES), RULES, 0.05)
    over.set()
