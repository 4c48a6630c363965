"""A server in this process for tests: the application on an event loop of its own, without a network."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import onnx

from helpers.images import saved, smooth
from helpers.models import finds_a_cat
from yoloship.serve.app import create_app
from yoloship.serve.cost import RunCost
from yoloship.serve.engine import Loaded
from yoloship.serve.handover import Handover, HeldImages
from yoloship.serve.settings import RequestLimits, ServedModel, ServeSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette

HW = (64, 64)
PHOTO = saved(smooth(48, 64), "JPEG")
PREDICT = "/v1/models/cat/predict"
JPEG = {"Content-Type": "image/jpeg"}


def cat_model(folder: Path, name: str = "cat.onnx") -> Path:
    """A small detector that finds one cat in every image."""
    path = folder / name
    onnx.save(finds_a_cat(HW), str(path))
    return path


def settings_of(path: Path, limits: RequestLimits | None = None, **others: Any) -> ServeSettings:
    """Settings that serve one file under its name."""
    model = ServedModel(path.stem, str(path), {"tuned_for": "throughput"})
    return ServeSettings((model,), limits or RequestLimits(), **{"watch_s": 0.05, **others})


def loaded_of(detector: Any) -> Loaded:
    """A detector as a server has it, whose runs were not measured."""
    return Loaded(detector, Handover(detector, HeldImages()), RunCost())


class InProcess:
    """A started application, which answers requests of other threads.

    Attributes:
        app: The application.
        failures: Errors of models that could not be loaded at the start.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.failures: list[Exception] = []
        self.loop = asyncio.new_event_loop()
        self.app = create_app(settings, self.failures.append)
        self._begun, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        self._begun.wait()

    async def _run(self) -> None:
        async with self.app.router.lifespan_context(self.app):
            self._begun.set()
            await self._over.wait()

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send a request, and wait for its answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
                return await client.request(method, path, **how)

        answer: httpx.Response = self.do(send())
        return answer

    def do(self, work: Any) -> Any:
        """Run a coroutine on the loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def wait_until(self, condition: Any) -> None:
        """Wait until something is true."""
        while not condition():
            time.sleep(0.01)

    def wait_ready(self) -> None:
        """Wait until all models answer; raise what a model could not be loaded for."""
        self.wait_until(lambda: self.failures or self.ask("GET", "/readyz").status_code == 200)
        for failure in self.failures:
            raise failure

    @contextmanager
    def image_waiting(self, name: str) -> Iterator[None]:
        """While an image that never runs takes a place in the queue of this model."""
        host = self.app.state.server.models.host(name)
        over = asyncio.Event()

        async def wait() -> None:
            with host.admission.permit():
                await over.wait()

        waiting = asyncio.run_coroutine_threadsafe(wait(), self.loop)
        try:
            self.wait_until(lambda: host.admission.held == 1)
            yield
        finally:
            self.loop.call_soon_threadsafe(over.set)
            waiting.result()

    def close(self) -> None:
        """End it, as a process would."""
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self.loop.close()


@contextmanager
def served(settings: ServeSettings) -> Iterator[InProcess]:
    """A server that is ready, and closed at the end."""
    server = InProcess(settings)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


@contextmanager
def listening(settings: ServeSettings) -> Iterator[int]:
    """A server that is ready, in a thread of this process, on a real socket.

    Yields:
        Its port.
    """
    with listening_app(settings) as (port, _):
        yield port


@contextmanager
def listening_app(
    settings: ServeSettings, tls: ssl.SSLContext | None = None, keep_alive_s: float = 5
) -> Iterator[tuple[int, Starlette]]:
    """The same, with the application, and over TLS if there is a context. Idle connections end after `keep_alive_s`.

    Yields:
        Its port, and the application.
    """
    import uvicorn

    from yoloship.serve.connections import Connection
    from yoloship.serve.listening import Server

    failures: list[Exception] = []
    app = create_app(settings, failures.append)
    http = Connection.within(settings.limits, app.state.guard)
    config = uvicorn.Config(app, http=http, ws="none", log_config=None, port=0)
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]  # any number of seconds will do
    config.load()
    config.ssl = tls
    server = Server(config, settings.limits.head_timeout_s)
    server.capture_signals = nullcontext  # type: ignore[method-assign]  # a thread takes no signals
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    try:
        while not server.started or not app.state.server.models.is_ready:
            time.sleep(0.01)
            if failures:
                raise failures[0]
        yield server.servers[0].sockets[0].getsockname()[1], app
    finally:
        server.should_exit = True
        thread.join()


class Said(NamedTuple):
    """What a server answered on a socket.

    Attributes:
        status: The status; 0 if it gave no answer.
        body: The body.
    """

    status: int
    body: bytes


def talk(port: int, data: bytes, patience_s: float | None = None, *, leaves: bool = False) -> Said:
    """The answer that the server gives to these bytes.

    Args:
        port: Its port.
        data: The bytes.
        patience_s: Longest wait for a part of the answer; None waits for ever.
        leaves: Whether we say that nothing more comes from us.
    """
    said = b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(patience_s)
        try:
            connection.sendall(data)
            if leaves:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 20):
                said += part
        except OSError:  # it ended the connection while we were sending, or says nothing
            pass
    head, _, body = said.partition(b"\r\n\r\n")
    return Said(int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0, body)


def segment_model(folder: Path, name: str = "seg.onnx", *, batch: int | None = None) -> Path:
    """A segmentation model in the form of YOLOv5's own export: ``images`` to ``output0`` and ``output1``."""
    from helpers.samples import sample
    from yoloship.graph.build import build_graph
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.onnx_file import graph_bytes

    path = folder / name
    path.write_bytes(graph_bytes(build_graph(sample("yolov5", "segment"), GraphConfig(HW, batch=batch))))
    return path
