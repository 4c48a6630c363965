"""Reads one file from an address on the network, within limits: `fetch`.

The name of the host is resolved once, and the connection goes to the address that was checked: a second answer of a
name server cannot lead it elsewhere. The certificate must be that of the host's name all the same. A redirect is a new
address, which is checked like the first. Proxies of the environment are not used, because a proxy would resolve the
name anew. A deadline holds for everything together, so a server that sends a byte now and then holds nobody up.

Nothing is unpacked: an answer with a content encoding was not asked for, and is refused.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import os
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from yoloship._util.addresses import Address, AddressRules, parse_address, resolve
from yoloship.errors import DownloadError, InputError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES: Final = 1 << 16
_MAX_TRIED: Final = 4
"""Addresses of one host that are tried."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PROXIES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address gave.

    Attributes:
        data: The bytes.
        content_type: The type that the server states, in lower case without parameters; empty if it states none.
        shown: The address that gave it, after all redirects, without credentials.
    """

    data: bytes
    content_type: str
    shown: str


def fetch(url: str, rules: AddressRules, check_type: Callable[[str, str], None] | None = None) -> Fetched:
    """Read a file.

    Args:
        url: An address of https, or of http if the rules allow it.
        rules: Which addresses may be read, and how much of them.
        check_type: Given the content type and the address, raises if the content need not be read.

    Raises:
        InputError: the rules do not allow the address, or one that it leads to.
        DownloadError: it cannot be read, is larger or takes longer than the rules allow, or is cut short.
    """
    first = address = parse_address(url, rules)
    deadline_s = time.monotonic() + rules.timeout_s
    for _ in range(rules.max_redirects + 1):
        with ExitStack() as stack:
            try:
                response = _ask(address, rules, deadline_s, stack)
                if response.status not in _REDIRECTS:
                    return _read(response, address, rules, check_type)
                location = response.headers.get("Location")
            except TimeoutError as error:
                raise DownloadError(f"took longer than {rules.timeout_s:g} s", subject=address.shown) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _unreadable(error, address) from error
        if not location:
            raise DownloadError("the server redirects without saying where to", subject=address.shown)
        address = _redirected(address, location, rules, first)
    raise DownloadError(f"the server redirects more than {rules.max_redirects} times", subject=first.shown)


def _redirected(address: Address, location: str, rules: AddressRules, first: Address) -> Address:
    """The next address; credentials go only to the host that they were given for."""
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()  # a header is read as Latin-1, and most servers send UTF-8
    try:
        following = parse_address(urljoin(address.shown, location), rules)
    except (InputError, ValueError) as error:
        problem = error.problem if isinstance(error, YoloshipError) else str(error)
        hint = error.hint if isinstance(error, YoloshipError) else None
        raise InputError(f"redirects to an address that {problem}", subject=first.shown, hint=hint) from error
    credentials = first.credentials if following.origin == first.origin else None
    return replace(following, credentials=credentials)


def _ask(address: Address, rules: AddressRules, deadline_s: float, stack: ExitStack) -> http.client.HTTPResponse:
    """Connect, send the request, and read the header of the answer."""
    connection = _connected(address, rules, deadline_s)
    stack.callback(connection.close)
    if address.scheme == "https":
        connection.settimeout(_left_s(deadline_s))
        connection = _tls().wrap_socket(connection, server_hostname=address.host)
        stack.callback(connection.close)
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = "" if address.port == {"https": 443, "http": 80}[address.scheme] else f":{address.port}"
    lines = [
        f"GET {address.target} HTTP/1.1", f"Host: {host}{port}", "User-Agent: yoloship", "Accept: image/*,*/*;q=0.5",
        "Accept-Encoding: identity", "Connection: close",
    ]  # fmt: skip
    if address.credentials is not None:
        lines.append(f"Authorization: Basic {base64.b64encode(address.credentials.encode()).decode()}")
    connection.settimeout(_left_s(deadline_s))
    connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
    response = http.client.HTTPResponse(_Readable(connection, deadline_s), method="GET")  # type: ignore[arg-type]
    stack.callback(response.close)
    response.begin()
    return response


def _connected(address: Address, rules: AddressRules, deadline_s: float) -> socket.socket:
    """A connection to one of the checked addresses of the host."""
    failure: OSError | None = None
    for family, place in resolve(address, rules, _left_s(deadline_s))[:_MAX_TRIED]:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left_s(deadline_s))
            connection.connect(place)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    assert failure is not None  # there was at least one address
    raise failure


def _read(
    response: http.client.HTTPResponse,
    address: Address,
    rules: AddressRules,
    check_type: Callable[[str, str], None] | None,
) -> Fetched:
    if response.status != http.client.OK:
        raise DownloadError(f"the server answered {response.status} {response.reason}".rstrip(), subject=address.shown)
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if check_type is not None:
        check_type(content_type, address.shown)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        raise DownloadError(f"is sent in the encoding {encoding!r}, which was not requested", subject=address.shown)
    stated = response.length
    if stated is not None and stated > rules.max_bytes:
        raise _too_large(address, rules)
    parts, count = [], 0
    while part := response.read(_CHUNK_BYTES):
        parts.append(part)
        count += len(part)
        if count > rules.max_bytes:
            raise _too_large(address, rules)
    if stated is not None and count < stated:
        raise DownloadError(f"ended after {count:,} of {stated:,} bytes", subject=address.shown)
    return Fetched(b"".join(parts), content_type, address.shown)


class _Readable:
    """A connection for `http.client`, which asks nothing of it but a file."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection, self._deadline_s = connection, deadline_s

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReads(self._connection, self._deadline_s), _CHUNK_BYTES)


class _TimedReads(io.RawIOBase):
    """Reads from a connection until a deadline, however often something comes."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection, self._deadline_s = connection, deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left_s(self._deadline_s))
        return self._connection.recv_into(buffer)


def _left_s(deadline_s: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: it is over.
    """
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes some 20 ms, so it is done once."""
    return ssl.create_default_context()


def _too_large(address: Address, rules: AddressRules) -> DownloadError:
    return DownloadError("is too large", subject=address.shown, expected=f"at most {rules.max_bytes:,} bytes")


def _unreadable(error: Exception, address: Address) -> DownloadError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DownloadError(f"its certificate is not valid: {error.verify_message}", subject=address.shown)
    if isinstance(error, http.client.IncompleteRead):
        return DownloadError("was cut short, or its parts are not marked as they should be", subject=address.shown)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    hint = None
    if isinstance(error, OSError) and any(map(os.environ.get, _PROXIES)):
        hint = "proxies from the environment are not used: download it with another program"
    return DownloadError(f"cannot be read: {reason}", subject=address.shown, hint=hint)
