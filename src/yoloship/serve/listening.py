"""Runs the application in this process until a signal: `serve`."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import ssl
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from yoloship.errors import InputError, OutputError
from yoloship.serve.app import create_app
from yoloship.serve.connections import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from yoloship.serve.settings import ServeSettings

_SWITCH_S: Final = 0.0005
"""How long a thread may keep the interpreter. Answers are written by the event loop's thread, which would wait for 5 ms
for each thread that decodes or suppresses."""
_OBJECTS: Final = 10_000
"""New objects that are kept until the garbage collector looks at them. Hundreds of requests in progress hold more than
the 700 of Python, so it would look at them again and again, for a fifth of the event loop's time."""
_KEEP_ALIVE_S: Final = 30
_BACKLOG: Final = 2048
_ACCEPTED: Final = 16
"""New connections in one turn of the event loop: asyncio takes as many as its backlog. Thousands that arrive at once
would hold up all others."""
_OTHER_FILES: Final = 512
"""Files that are open besides connections: models, libraries, caches."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how to listen.

    Attributes:
        host: An IP address or a name of this machine.
        port: 0 takes a free one.
        certificate: The file of the TLS certificate (PEM); None serves plain HTTP.
        private_key: The file of its key; None if the certificate's file has it.
        drain_s: Seconds for the requests under way when the server is asked to end.
        is_shared: Other processes of this user listen at the port too (Linux). Then it is not listened at before the
            models are loaded.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    private_key: Path | None = None
    drain_s: float = 30.0
    is_shared: bool = False


def serve(
    settings: ServeSettings,
    listening: Listening,
    started: Callable[[str], None],
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in progress. A second SIGINT ends at once.

    Args:
        settings: What to serve.
        listening: Where.
        started: Called with the address once it listens; models may still be loading.
        ready: Called in a thread when all models are loaded, if the port is shared; when it returns, this listens.

    Raises:
        InputError: the files for TLS cannot be used.
        OutputError: the address cannot be listened on.
        YoloshipError: a model cannot be loaded.
    """
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, failed, ready if listening.is_shared else None)
    config = uvicorn.Config(
        app,
        http=Connection.within(settings.limits, app.state.guard),
        backlog=_ACCEPTED,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever reaches the server could give any address
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(listening.drain_s)),
    )
    config.load()
    config.ssl = check_tls(listening)
    server = Server(config, settings.limits.head_timeout_s)
    allow_files(settings.limits.max_connections + _OTHER_FILES)
    with bound_socket(listening) as sock:
        if not listening.is_shared:
            sock.listen(_BACKLOG)  # connections wait until they are taken
        started(address_of(listening, sock))
        with interpreter_for_answers():
            asyncio.run(server.serve(sockets=[sock]))
    if failures:
        raise failures[0]


@contextmanager
def interpreter_for_answers() -> Iterator[None]:
    """Switch quickly between threads, and collect garbage seldom, because requests leave little."""
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(before)


def allow_files(count: int) -> None:
    """Let this process open this many files, as far as the system allows.

    Connections count too, and the system often allows only 1024 by default.

    Args:
        count: How many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Server(uvicorn.Server):
    """Uvicorn's server, with our signals, and with a limit for the handshake of TLS.

    Args:
        config: Of Uvicorn.
        handshake_timeout_s: Seconds for the handshake. Connections that have none yet are not counted.
    """

    def __init__(self, config: uvicorn.Config, handshake_timeout_s: float) -> None:
        super().__init__(config)
        self._handshake_timeout_s = handshake_timeout_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        if self.config.ssl is not None:  # Uvicorn does not pass this on, and asyncio would wait for a minute
            loop = asyncio.get_running_loop()
            listen = partial(loop.create_server, ssl_handshake_timeout=self._handshake_timeout_s)
            loop.create_server = listen  # type: ignore[method-assign]
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_BACKLOG)  # again: asyncio has told the system its own number

    def capture_signals(self) -> Any:
        """Let signals end the server. Uvicorn would raise them again afterwards, although it has obeyed them."""
        return on_signals(self.handle_exit)


@contextmanager
def on_signals(act: Callable[[int, Any], object]) -> Iterator[None]:
    """Handle the signals that ask a process to end with this function instead."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, act) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def bound_socket(listening: Listening) -> socket.socket:
    """A socket that is bound to the address and does not listen yet.

    Raises:
        OutputError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol. It would hold answers for 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # where it would let others listen at the same port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((listening.host, listening.port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        subject = f"{listening.host}:{listening.port}"
        is_about_port = getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}
        hint = f"choose another --{'port' if is_about_port else 'host'}"
        raise OutputError(f"cannot be listened on: {reason}", subject=subject, hint=hint) from error
    sock.setblocking(False)
    return sock


def address_of(listening: Listening, sock: socket.socket) -> str:
    """The address of a server as a client writes it."""
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"http{'' if listening.certificate is None else 's'}://{host}:{sock.getsockname()[1]}/"


def check_tls(listening: Listening) -> ssl.SSLContext | None:
    """The certificate and its key, ready for use; None for plain HTTP.

    Raises:
        InputError: they cannot be used.
    """
    if listening.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(listening.certificate, listening.private_key, password="")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificate or its key cannot be used: {getattr(error, 'reason', None) or error}",
            subject=str(listening.certificate), hint="give PEM files: --tls-cert FILE --tls-key FILE",
        ) from error  # fmt: skip
    return context
