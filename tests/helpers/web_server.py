"""A web server on the loopback interface that answers with exactly the bytes that a test wants, slowly if it must."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

Answer: TypeAlias = "bytes | Iterable[bytes | float]"
"""Bytes to send; or pieces of them, with seconds to wait between."""


def answer(body: bytes, *, status: str = "200 OK", kind: str = "image/png", length: int | None = None) -> bytes:
    """A plain answer.

    Args:
        body: What follows the header.
        status: Code and reason.
        kind: The content type; empty leaves it out.
        length: The content length to state; None states the right one.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(place: str, code: int = 302) -> bytes:
    """An answer that leads elsewhere."""
    return f"HTTP/1.1 {code} Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode("utf-8", "surrogateescape")


class WebServer:
    """Answers each request by the first line of it, until it is closed.

    Args:
        respond: Gives the answer for a target such as ``/a.png``.
        context: Speaks TLS with this; None speaks plain http.
        address: Where to listen.

    Attributes:
        port: Its port.
        requests: The whole text of each request.
    """

    def __init__(
        self, respond: Callable[[str], Answer], context: ssl.SSLContext | None = None, address: str = "127.0.0.1"
    ) -> None:
        self._respond, self._context = respond, context
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}"
        self.requests: list[str] = []
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # wakes `accept`
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), connection:
            connection.settimeout(10)
            stream = connection if self._context is None else self._context.wrap_socket(connection, server_side=True)
            with stream:
                request = b""
                while b"\r\n\r\n" not in request and (part := stream.recv(65536)):
                    request += part
                self.requests.append(request.decode("latin-1"))
                for piece in _pieces(self._respond(request.decode("latin-1").split(" ")[1])):
                    if self._closed.is_set():
                        break
                    if isinstance(piece, float):
                        self._closed.wait(piece)
                    else:
                        stream.sendall(piece)
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_WR)
                    while stream.recv(65536):
                        pass


def _pieces(whole: Answer) -> Iterator[bytes | float]:
    if isinstance(whole, bytes):
        yield whole
    else:
        yield from whole
