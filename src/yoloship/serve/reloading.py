"""Loads the models of a server, and loads a model again when its file is replaced: `ModelTable`."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import YoloshipError
from yoloship.serve.cost import RunCost
from yoloship.serve.engine import Loaded, ModelHost, Workers
from yoloship.serve.errors import NotFoundError
from yoloship.serve.handover import Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.serve.handover import HeldImages
    from yoloship.serve.metrics import Metrics
    from yoloship.serve.settings import ServedModel, ServeSettings

    Stamp = tuple[int, int, int, int]
    """Device, inode, size and modification time of a file."""

_MEASURED_RUNS: Final = 2
_GREY: Final = 114

_logger = logging.getLogger("yoloship.serve")


class ModelTable:
    """All models of a server, by name. It belongs to the thread of the event loop.

    Args:
        settings: Which models, and their limits.
        metrics: Counts loads.
        failed: Called with the error of a model that cannot be loaded when the server starts.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics, failed: Callable[[Exception], None]) -> None:
        self._settings, self._metrics, self._failed = settings, metrics, failed
        self.workers = Workers()
        self._hosts = {model.name: ModelHost(model, settings.limits, self.workers) for model in settings.models}
        self._stamps: dict[str, Stamp | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    def __iter__(self) -> Iterator[ModelHost]:
        return iter(self._hosts.values())

    def host(self, name: str) -> ModelHost:
        """The model of this name.

        Raises:
            NotFoundError: there is none.
        """
        found = self._hosts.get(name)
        if found is None:
            names = ", ".join(list(self._hosts)[:10])
            raise NotFoundError("there is no such model", subject=name[:80], expected=names)
        return found

    @property
    def is_ready(self) -> bool:
        """Whether all models answer."""
        return all(host.is_ready for host in self)

    def start(self) -> None:
        """Load the models in the background, one after the other, and then watch their files."""
        for host in self:
            self._metrics.ready.labels(host.name).set(0)
            in_flight = self._metrics.in_flight.labels(host.name)
            in_flight.set(0)
            host.admission.changed = in_flight.set
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def are_loaded(self) -> bool:
        """Wait until all models have been loaded once, or one of them could not be. Whether all are ready."""
        await self._tried.wait()
        return self.is_ready

    async def stop(self) -> None:
        """Stop watching, and close all detectors once their requests have their answers."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for host in self:
            host.close()
        self.workers.close()

    async def _run(self) -> None:
        try:
            for host in self:
                self._stamps[host.name] = stamp_of(host.model)
                error = await self._load(host)
                if error is not None:
                    self._failed(error)
                    return
        finally:  # also if it is the metrics that fail: somebody waits for this
            self._tried.set()
        if not self._settings.watch_s:
            return
        changed: dict[str, Stamp] = {}
        while True:
            await asyncio.sleep(self._settings.watch_s)
            for host in self:
                stamp = stamp_of(host.model)
                if stamp is None or stamp == self._stamps[host.name]:
                    changed.pop(host.name, None)
                elif changed.get(host.name) != stamp:  # perhaps it is still being written
                    changed[host.name] = stamp
                else:
                    self._stamps[host.name] = stamp
                    await self._load(host)

    async def _load(self, host: ModelHost) -> Exception | None:
        """Load a model in a thread, and let it answer. If loading fails, the previous model stays."""
        try:
            loop = asyncio.get_running_loop()
            loaded = await loop.run_in_executor(self.workers.loader, load_warm, host.model, self.workers.held)
        except Exception as error:  # whatever a replaced file does to its loader, the old model must stay
            host.problem = str(error) if isinstance(error, YoloshipError) else f"{type(error).__name__}: {error}"
            self._metrics.reloads.labels(host.name, "failed").inc()
            what = "the previous model stays" if host.is_loaded else "there is no model to answer"
            _logger.error("model %s cannot be loaded, and %s: %s", host.name, what, host.problem)
            return error
        host.problem = ""
        host.take(loaded)
        self._metrics.reloads.labels(host.name, "ok").inc()
        self._metrics.ready.labels(host.name).set(1)
        a, b = loaded.cost.line
        _logger.info("model %s is ready; a run of n images takes %.1f·n + %.1f ms", host.name, a * 1e3, b * 1e3)
        return None


def load_warm(model: ServedModel, held: HeldImages) -> Loaded:
    """Load a model, run each of its batch sizes, and measure their cost.

    Args:
        model: Which.
        held: The memory of images.

    Raises:
        YoloshipError: it cannot be loaded.
    """
    from yoloship.models.loading import load

    detector = load(model.source, **model.arguments)
    try:
        detector.prepare()
        cost = RunCost()
        image = np.full((*detector.input_hw, detector.info.channels), _GREY, np.uint8)
        for size in detector.batches:
            for _ in range(_MEASURED_RUNS):
                cost.add(size, detector.profile([image] * size).total_ms / 1e3)
    except BaseException:
        detector.close()
        raise
    return Loaded(detector, Handover(detector, held), cost)


def stamp_of(model: ServedModel) -> Stamp | None:
    """Changes if a model's file is replaced. None if there is no file, or it is the name of a release."""
    try:
        status = os.stat(model.source)  # noqa: PTH116 - the name of a release is no path
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
