"""Addresses of every form: none leads to a private network, however it is written."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship._util.addresses import AddressRules, is_allowed, parse_address, redacted, resolve
from yoloship.errors import InputError, YoloshipError, visible

RULES: Final = AddressRules()
PRIVATE: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
        ),
    )
)


@st.composite
def private_numbers(draw: st.DrawFn) -> int:
    """An IPv4 address of a private network, as a number."""
    network = draw(st.sampled_from(PRIVATE))
    return int(network.network_address) + draw(st.integers(0, network.num_addresses - 1))


def spellings(number: int) -> list[str]:
    """Ways to write an IPv4 address that systems understand."""
    a, b, c, d = number.to_bytes(4, "big")
    return [
        f"{a}.{b}.{c}.{d}", f"{number}", f"0x{number:x}", f"0{number:o}", f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}", f"0x{a:x}.0{b:o}.{c}.{d}", f"0{a:o}.{b}.{c}.{d}",
        f"[::ffff:{a}.{b}.{c}.{d}]", f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}]", f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]",
        f"[::{a}.{b}.{c}.{d}]", f"{a}.{b}.{c}.{d}.",
        "".join(chr(ord(one) + 0xFEE0) if one.isdigit() else one for one in f"{a}.{b}.{c}.{d}"),
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(private_numbers(), st.integers(0, 14))
def test_no_spelling_of_a_private_address_is_allowed(number: int, form: int) -> None:
    host = spellings(number)[form]
    try:
        endpoints = resolve(parse_address(f"https://{host}/a.jpg", RULES), RULES, 20)
    except YoloshipError:
        return
    reached = [ipaddress.ip_address(str(place[0])) for _, place in endpoints]
    assert all(str(one) != str(ipaddress.IPv4Address(number)) for one in reached), "octal, and so another address"
    assert all(is_allowed(str(one), RULES) for one in reached)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, (1 << 128) - 1))
def test_only_global_ipv6_addresses_are_allowed(number: int) -> None:
    for place in (number, 0xFE80 << 112 | number >> 16, 0xFC << 120 | number >> 8, number & 0xFFFF_FFFF):
        address = ipaddress.IPv6Address(place)
        if is_allowed(str(address), RULES):
            assert address.is_global or address in ipaddress.IPv6Network("64:ff9b::/96")
            assert not address.is_multicast


URL_PARTS: Final = st.one_of(
    st.sampled_from(
        ["https://", "http://", "//", "@", ":", "/", "?", "#", "\\", "[", "]", "::1", "127.0.0.1", "%", "%2e", " "]
    ),
    st.text(max_size=6),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(URL_PARTS, max_size=8))
def test_any_text_is_an_address_or_one_clear_line(parts: list[str]) -> None:
    url = "https://" + "".join(parts)
    try:
        found = parse_address(url, AddressRules(allow_http=True))
    except InputError as error:
        message = str(error)
    else:
        message = f"{found.host}{found.target}"
        assert found.host.isascii()
        assert found.target.isascii()
        assert found.target.startswith("/")
        assert not set(message) & set("\r\n \\\0")
        assert "#" not in message
        assert urlsplit(found.shown).username is None
    assert visible(message) == message


@settings(max_examples=200, deadline=None)
@given(st.text("abc:@/?#", max_size=12), st.text("abc:%", min_size=1, max_size=8), st.text("ab/?#@", max_size=8))
def test_what_is_before_the_host_is_never_shown(user: str, password: str, rest: str) -> None:
    url = f"https://u:SECRET{password}@host/{rest}"
    assert "SECRET" not in redacted(url)
    assert redacted(url) == f"https://host/{rest}"
    assert redacted(user) == user if "://" not in user else True


def test_the_system_reads_numbers_as_it_is_checked_here() -> None:
    """If this fails, the spellings above are not what this system connects to."""
    ((*_, place), *_) = socket.getaddrinfo("2130706433", 443, type=socket.SOCK_STREAM)
    assert place[0] == "127.0.0.1"
