"""Addresses on the network that a user or a file names, and which of them may be read: `AddressRules`.

An address is untrusted: it may lead to a machine that only this one can reach. So its name is resolved once, all that
it resolves to must be allowed, and the connection is made to what was checked (`yoloship._util.fetching`). What counts
is the resolved address, so it makes no difference how a host is written: as a name, ``127.1``, ``0x7f000001`` or
``2130706433``.

Sources: the registries of special addresses: RFC 6890, RFC 8190, and the IANA's lists; NAT64: RFC 6052.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yoloship._util.secrets import HIDDEN, SECRET
from yoloship.errors import DownloadError, InputError

if TYPE_CHECKING:
    import socket
    from ipaddress import IPv4Address, IPv6Address

MAX_CHARS: Final = 4096
_PORTS: Final = {"https": 443, "http": 80}
_FIRST_FREE_PORT: Final = 1024
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]{1,44}")
_CLOSED_V4: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_OPEN_V6: Final = "2000::/3"
_CLOSED_V6: Final = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
"""Of the global addresses, those for protocols (Teredo among them), documentation and 6to4."""
_MAPPED: Final = ("::ffff:0:0/96", "64:ff9b::/96")
"""IPv6 addresses whose last four bytes are the IPv4 address that is reached."""
_NEVER_V4: Final = ("100.100.100.200/32", "169.254.0.0/16", "192.0.0.192/32", "224.0.0.0/4", "240.0.0.0/4")
_NEVER_V6: Final = ("fd00:ec2::/32", "fe80::/10", "ff00::/8")
"""Groups; and link-local addresses and a few others, where clouds give a machine its credentials."""
_NEVER: Final = (
    "leads to a link-local address, to one where clouds keep credentials, or to a group; yoloship never reads these"
)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Which addresses on the network may be read, and how much of them.

    Attributes:
        allow_http: Whether images may come by plain http, which anybody on the way can change.
        allow_private: Whether an address may be private, loopback or of this machine; never link-local, where clouds
            give a machine its credentials.
        max_bytes: Most bytes of one image.
        timeout_s: Seconds for one image, from the first byte of the request to the last one of the answer.
        max_redirects: Redirects that are followed; each new address is checked anew.
    """

    allow_http: bool = False
    allow_private: bool = False
    max_bytes: int = 64 << 20
    timeout_s: float = 30.0
    max_redirects: int = 5


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address of http or https.

    Attributes:
        scheme: ``https`` or ``http``.
        host: In ASCII; without the brackets of IPv6.
        port: Given, or that of the scheme.
        target: Path and query, as they are sent.
        credentials: ``user:password`` if there are any.
        shown: The address without credentials and fragment, for names and messages.
    """

    scheme: str
    host: str
    port: int
    target: str
    credentials: str | None
    shown: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: credentials are sent to no other."""
        return self.scheme, self.host, self.port


Endpoint: TypeAlias = "tuple[socket.AddressFamily, tuple[Any, ...]]"
"""What `socket` connects to."""


def redacted(url: str) -> str:
    """An address without a user name, a password and the values of keys and tokens, whatever else it is."""
    scheme, mark, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    open_part = SECRET.sub(rf"\1{HIDDEN}", rest[end:])
    return f"{scheme}{mark}{rest[:end].rpartition('@')[2]}{open_part}" if mark else url


def parse_address(url: str, rules: AddressRules) -> Address:
    """Check the form of an address.

    Raises:
        InputError: it is not one that may be read.
    """
    from urllib.parse import quote, unquote, urlsplit

    shown = redacted(url)
    if len(url) > MAX_CHARS or _UNSAFE.search(url):
        raise InputError(
            "is not a valid address", subject=shown[:200],
            expected=f"at most {MAX_CHARS} characters without spaces, control characters and backslashes",
        )  # fmt: skip
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        host = (host or "").removesuffix(".")
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError as error:  # also what IDNA cannot encode
        raise InputError(f"is not a valid address: {error}", subject=shown) from error
    if scheme not in _PORTS:
        raise InputError("is not an https address", subject=shown, got=f"{scheme}:" if scheme else None)
    if scheme == "http" and not rules.allow_http:
        hint = "use https, or allow it (--allow-http, allow_http); for a stream, put live: in front"
        raise InputError(
            "uses http, which is not allowed by default, because others can change its content", subject=shown,
            hint=hint,
        )  # fmt: skip
    if not _HOST.fullmatch(host):
        raise InputError("is not a valid address: no valid host", subject=shown)
    port = _PORTS[scheme] if port is None else port
    if port < _FIRST_FREE_PORT and port not in _PORTS.values():
        raise InputError(f"port {port} is not a web port", subject=shown, expected="80, 443, or 1024 and above")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]|")
    credentials = None if parts.username is None else unquote(f"{parts.username}:{parts.password or ''}")
    target = f"{path}?{query}" if query else path
    return Address(scheme, host, port, target, credentials, shown.partition("#")[0])


def resolve(address: Address, rules: AddressRules, timeout_s: float) -> list[Endpoint]:
    """Find what the host of an address stands for, and check all of it.

    Args:
        address: The address.
        rules: Which addresses are allowed.
        timeout_s: How long the system may take for it.

    Returns:
        At least one, in the system's order of preference.

    Raises:
        InputError: one of them is not allowed.
        DownloadError: the host has no address, or finding it takes too long.
    """
    import socket
    import threading

    found: list[tuple[Any, ...]] = []
    failure: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failure.append(error)

    asking = threading.Thread(target=ask, name="yoloship-resolve", daemon=True)  # the system's call has no time limit
    asking.start()
    asking.join(timeout_s)
    if asking.is_alive():
        raise DownloadError("its host was not found in time", subject=address.shown)
    if failure or not found:
        reason = getattr(failure[0], "strerror", None) if failure else None
        raise DownloadError(f"its host was not found: {reason or 'no address'}", subject=address.shown) from (
            failure[0] if failure else None
        )
    endpoints: list[Endpoint] = [(family, place) for family, _, _, _, place in found]
    for _, place in endpoints:
        if not is_allowed(str(place[0]), rules):
            raise InputError(
                "leads into a private network or to this machine" if not rules.allow_private else _NEVER,
                subject=address.shown,
                got=str(place[0]),
                hint=None if rules.allow_private else "if you intend this, allow it (allow_private, --allow-private)",
            )
    return endpoints


def is_allowed(text: str, rules: AddressRules) -> bool:
    """Whether an IP address may be connected to."""
    import ipaddress

    try:
        number = _reached(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    is_v4 = number.version == 4
    if rules.allow_private:
        return not _is_in(number, _NEVER_V4 if is_v4 else _NEVER_V6)
    if is_v4:
        return not _is_in(number, _CLOSED_V4)
    return _is_in(number, (_OPEN_V6,)) and not _is_in(number, _CLOSED_V6)


def _reached(number: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for; any other as it is."""
    import ipaddress

    return ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF) if _is_in(number, _MAPPED) else number


def _is_in(number: IPv4Address | IPv6Address, networks: tuple[str, ...]) -> bool:
    import ipaddress

    return any(number in ipaddress.ip_network(network) for network in networks)
