"""The server of the page: one page, one stream of everything for it, and a stream of pictures for other players.

It answers only requests that know its token, and whose Host is an address or ``localhost``: a name could be one that a
page elsewhere has let point here.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import secrets
import socket
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import urlsplit

from yoloship._util.closing import Closing
from yoloship._util.strict_json import json_text
from yoloship.errors import OutputError

LOOPBACK: Final = "127.0.0.1"
MAX_VIEWERS: Final = 16
MAX_CONNECTIONS: Final = 64
SILENT_S: Final = 15.0
"""A viewer that takes nothing for this long is gone."""
_BOUNDARY: Final = "yoloship-picture"
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Page(Protocol):
    """What the server asks the page for; `ShowPage` explains it."""

    def enter(self) -> None: ...  # noqa: D102

    def leave(self) -> None: ...  # noqa: D102

    def names(self) -> list[str]: ...  # noqa: D102

    def news(self, seen: dict[int, int], state_s: float) -> tuple[dict[int, bytes], dict[str, Any] | None]: ...  # noqa: D102


def new_token() -> str:
    """A part of an address that nobody can guess."""
    return secrets.token_urlsafe(16)


def is_right_host(header: str | None) -> bool:
    """Whether the Host of a request is an IP address or ``localhost``, with any port: it may come through a tunnel."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class PageServer(Closing):
    """Serves a page in threads of its own, from when it is made until it is closed.

    Args:
        page: Has the pictures and the state.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        token: The part of the address that viewers must know.

    Raises:
        OutputError: the address cannot be listened on.
    """

    def __init__(self, page: Page, host: str, port: int, token: str) -> None:
        viewers = threading.BoundedSemaphore(MAX_VIEWERS)

        class Handler(_Handler):
            shared = (page, token, viewers)

        try:
            self._server = _Server((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(
                f"cannot be listened on: {reason}", subject=f"{host}:{port}", hint="choose another port"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.server_address[1]}/{token}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="yoloship-show-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end all connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking the network for the name of this machine, which can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many."""
        with self._lock:
            has_room = len(self._connections) < MAX_CONNECTIONS
            if has_room:
                self._connections.add(request)
        if has_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that goes away in the middle is not an error of the run."""

    def server_close(self) -> None:
        """Stop listening, and end all connections."""
        super().server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    shared: ClassVar[tuple[Page, str, threading.BoundedSemaphore]]
    timeout = SILENT_S  # of the socket
    server_version = "yoloship"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer: the page, everything for the page, or the pictures of one stream."""
        page, token, viewers = self.shared
        _, given, name = ([*urlsplit(self.path).path.split("/", 2), "", ""])[:3]
        if not is_right_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "use an IP address or localhost in the address")
        elif not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "use the whole address that was printed")
        elif not name:
            self._page()
        elif name == "everything" or (name.endswith(".mjpg") and name[:-5].isascii() and name[:-5].isdecimal()):
            if not viewers.acquire(blocking=False):
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"there are {MAX_VIEWERS} viewers already")
                return
            page.enter()
            try:
                self._everything(page) if name == "everything" else self._pictures(page, int(name[:-5]))
            finally:
                page.leave()
                viewers.release()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: the addresses have the token."""

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(12)
        html = Path(__file__).with_name("page.html").read_text(encoding="utf-8").replace("NONCE", nonce).encode()
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._begin("text/html; charset=utf-8", ("Content-Security-Policy", policy), ("Content-Length", str(len(html))))
        self.wfile.write(html)

    def _everything(self, page: Page) -> None:
        """Parts of four bytes with the length of a JSON text, that text, and ``bytes`` bytes of a picture."""
        self._begin("application/octet-stream")
        seen: dict[int, int] = {}
        state_s = -math.inf
        while True:
            pictures, state = page.news(seen, state_s)
            for place, picture in pictures.items():
                self._part({"place": place, "bytes": len(picture)}, picture)
            if state is not None:
                state_s = time.monotonic()
                self._part(state)
                if state["ended"]:
                    return

    def _part(self, head: dict[str, Any], picture: bytes = b"") -> None:
        text = json_text(head).encode()
        self.wfile.write(len(text).to_bytes(4, "big") + text + picture)

    def _pictures(self, page: Page, place: int) -> None:
        """The pictures of one stream as MJPEG."""
        self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        seen: dict[int, int] = {}
        has_ended = False
        while not has_ended:
            pictures, state = page.news(seen, -math.inf if not seen else time.monotonic())
            has_ended = state is not None and state["ended"]
            if (picture := pictures.get(place)) is not None:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")

    def _begin(self, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (("Content-Type", kind), *_HEADERS, *headers):
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        text = f"{words}\n".encode()
        self.send_response(status)
        for name, value in (("Content-Type", "text/plain"), ("Content-Length", str(len(text))), *_HEADERS):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
