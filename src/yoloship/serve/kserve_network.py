"""Runs the network of a served model on tensors of clients: `Network`.

Tensors go in as they are, and the outputs come out as they are: no letterbox, no suppression. Requests that wait at the
same time run as one batch if the detector runs batches on its device.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship._util.closing import Closing
from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.model import images_first
from yoloship.runtime.session import check_feeds
from yoloship.serve.kserve_models import Counts, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.runtime.session import Session
    from yoloship.serve.engine import Loaded

    Arrays = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """The outputs for a request, in the order of the network, and the seconds that it waited and ran."""

    outputs: Arrays
    queue_s: float
    network_s: float
    images: int


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    feeds: Mapping[str, npt.NDArray[Any]]
    images: int
    future: asyncio.Future[Ran]
    came_s: float

    def runs_with(self, other: _Waiting) -> bool:
        """Whether both can share a run: they differ only in their batch."""
        return all(array.shape[1:] == other.feeds[name].shape[1:] for name, array in self.feeds.items())


class Network(Closing):
    """The network of a loaded model. It belongs to the thread of the event loop.

    Args:
        loaded: The model. It is leased during each run.

    Attributes:
        inputs: What it takes, the images first.
        outputs: What it gives.
        is_batched: Whether the first extent of all tensors is the same open batch.
        max_batch: Images of the largest run.
        canvas_hw: (height, width) of the canvas, in model pixels.
        counts: What it has done.
        json_turn: Held by the one request whose JSON is read or written: that takes much memory for a moment, and the
            interpreter, so two at once would only take more.

    Raises:
        InputError: the protocol has no form for a tensor.
    """

    def __init__(self, loaded: Loaded) -> None:
        detector = loaded.detector
        self._loaded, self._info = loaded, detector.info
        self._own: Session | None = None
        session = detector.session
        self.inputs, self.outputs = images_first(session.inputs), tuple(session.outputs)
        for spec in (*self.inputs, *self.outputs):
            datatype_of(spec)
        if hasattr(session, "run"):
            self._session = session
        else:
            self._session = self._own = session.as_host_session(streams=detector.parallel_runs)
        axes = {spec.shape[0] if spec.shape else 1 for spec in (*self.inputs, *self.outputs)}
        self.is_batched = len(axes) == 1 and isinstance(next(iter(axes)), str)
        self.max_batch, self.canvas_hw = detector.max_batch, detector.input_hw
        self.runtime = session.name.split()[0].lower()
        self.counts = Counts()
        self.json_turn = asyncio.Semaphore(1)
        self._merged = max(detector.batches) if self.is_batched else 1
        self._free = detector.parallel_runs
        self._waiting: deque[_Waiting] = deque()

    @classmethod
    def of(cls, loaded: Loaded) -> Network:
        """The network of a loaded model, which is made once.

        Raises:
            InputError: the protocol has no form for one of its tensors.
        """
        if loaded.network is None:
            loaded.network = cls(loaded)
        return loaded.network

    def check(self, feeds: Mapping[str, npt.NDArray[Any]]) -> int:
        """Refuse tensors that the network does not take.

        Args:
            feeds: An array for each input, C-contiguous.

        Returns:
            How many images they are.

        Raises:
            InputError: one is missing or unknown, of another datatype or shape, or larger than the model's canvas.
        """
        check_feeds(self.inputs, feeds)
        spec = self.inputs[0]
        shape, info = feeds[spec.name].shape, self._info
        images = shape[0]
        if not 1 <= images <= self.max_batch:
            raise InputError(
                "wrong number of images", subject=spec.name, expected=f"1 to {self.max_batch}", got=str(images)
            )
        height, width = shape[1:3] if info.input_form == "image" else shape[2:4]
        multiple, (most_height, most_width) = info.size_multiple, self.canvas_hw
        if height % multiple or width % multiple or not 0 < height * width <= most_height * most_width:
            raise InputError(
                "wrong image size", subject=spec.name,
                expected=f"multiples of {multiple}, and no more pixels than {most_height}×{most_width}",
                got=f"{height}×{width}",
            )  # fmt: skip
        return int(images)

    async def run(self, feeds: Mapping[str, npt.NDArray[Any]], images: int) -> Ran:
        """Run the network as soon as it is free.

        Args:
            feeds: What `check` let pass. They must not change until the run has ended.
            images: How many images they are.

        Raises:
            SessionError: the runtime failed.
        """
        waiting = _Waiting(feeds, images, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(waiting)
        self._begin()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def _begin(self) -> None:
        """Start runs as long as one is free and a request waits."""
        while self._free and self._waiting:
            batch = [self._waiting.popleft()]
            images = batch[0].images
            while self._waiting and images + self._waiting[0].images <= self._merged:
                if not batch[0].runs_with(self._waiting[0]):
                    break
                batch.append(self._waiting.popleft())
                images += batch[-1].images
            self._free -= 1
            self._loaded.users += 1
            work = asyncio.get_running_loop().run_in_executor(None, self._work, batch)
            work.add_done_callback(lambda done, batch=batch: self._end(batch, done))  # type: ignore[misc]

    def _work(self, batch: Sequence[_Waiting]) -> tuple[list[Arrays], float, float]:
        """In a thread: the outputs of each request, and when the run began and ended."""
        feeds = dict(batch[0].feeds)
        if len(batch) > 1:
            feeds = {name: np.concatenate([one.feeds[name] for one in batch]) for name in feeds}
        started_s = time.perf_counter()
        outputs = self._session.run(feeds)
        ended_s = time.perf_counter()
        if len(batch) == 1:
            return [outputs], started_s, ended_s
        images = sum(one.images for one in batch)
        if any(array.shape[0] != images for array in outputs):
            raise SessionError("the model's output has another batch size", expected=str(images))
        ends = np.cumsum([one.images for one in batch])
        found = [
            tuple(array[end - one.images : end] for array in outputs) for one, end in zip(batch, ends, strict=True)
        ]
        return found, started_s, ended_s

    def _end(self, batch: Sequence[_Waiting], done: asyncio.Future[tuple[list[Arrays], float, float]]) -> None:
        self._free += 1
        self._loaded.release()
        self._begin()
        error = done.exception()
        now_s = time.perf_counter()
        if error is not None:
            for one in batch:
                self.counts.failed += 1
                self.counts.failed_s += now_s - one.came_s
                if not one.future.done():
                    one.future.set_exception(_known(error))
            return
        found, started_s, ended_s = done.result()
        images = sum(one.images for one in batch)
        runs, seconds = self.counts.runs.get(images, (0, 0.0))
        self.counts.runs[images] = runs + 1, seconds + ended_s - started_s
        for one, outputs in zip(batch, found, strict=True):
            self._count(one, started_s, ended_s, now_s)
            if not one.future.done():
                one.future.set_result(Ran(outputs, started_s - one.came_s, ended_s - started_s, images))

    def _count(self, one: _Waiting, started_s: float, ended_s: float, now_s: float) -> None:
        counts = self.counts
        counts.answered += 1
        counts.images += one.images
        counts.last_s = time.time()
        counts.queue_s += started_s - one.came_s
        counts.network_s += ended_s - started_s
        counts.total_s += now_s - one.came_s

    def close(self) -> None:
        """Close what it has opened. It does not own the detector."""
        if self._own is not None:
            self._own.close()


def _known(error: BaseException) -> BaseException:
    """An error of ours, even if the runtime raised an unexpected one."""
    if isinstance(error, YoloshipError):
        return error
    made = SessionError(f"the run failed: {type(error).__name__}: {error}"[:300])
    made.__cause__ = error
    return made
