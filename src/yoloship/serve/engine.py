"""One served model: `ModelHost` decodes images, hands them to the detector's batches, and gives its answers.

An image waits as the bytes of its file until a run is near, so a client that leaves, or a deadline that passes, costs
nothing. Then it is handed over to the detector, which runs what waits as one batch. How many are on their way at once
follows from the measured cost of a run: as many as keep the runs busy, and no more.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cores import usable_cores
from yoloship.errors import CudaError, SessionError
from yoloship.serve.admission import Admission
from yoloship.serve.errors import LateError, NotReadyError
from yoloship.serve.handover import Begun, HeldImages
from yoloship.serve.priority import step_back
from yoloship.serve.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.results import Result
    from yoloship.serve.cost import RunCost
    from yoloship.serve.handover import Handover
    from yoloship.serve.kserve_network import Network
    from yoloship.serve.settings import RequestLimits, ServedModel

    Image = npt.NDArray[np.uint8]

_RUN_SHARE: Final = 0.25
"""Share of the deadline that one run may take."""
_LEAST_ROOM: Final = 32
_FAILED_RUNS: Final = 3
"""If this many runs fail in a row, a GPU is lost or the runtime is broken."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one image.

    Attributes:
        decode_s: Reading the file's bytes as an image.
        queue_s: Waiting, for a thread and for a run.
        network_s: The run that it was part of: letterbox, network and suppression.
        total_s: All together.
        batch: Images of that run.
    """

    decode_s: float
    queue_s: float
    network_s: float
    total_s: float
    batch: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The model's answer for one image.

    Attributes:
        result: The result.
        times: What it took.
        image: (height, width, 3) uint8 BGR, read only; None unless it was requested.
    """

    result: Result
    times: Times
    image: Image | None


@dataclass(slots=True, eq=False)
class Loaded:
    """A detector that is ready, and how many requests use it.

    Attributes:
        detector: The detector.
        handover: Takes images to it.
        cost: The cost of its runs.
        since: When it was loaded, in seconds since the epoch.
        network: Runs the network alone, for tensors; made when it is first asked for.
    """

    detector: Detector[Any]
    handover: Handover
    cost: RunCost
    since: float = field(default_factory=time.time)
    network: Network | None = None
    users: int = 0
    is_retired: bool = False

    def release(self) -> None:
        """Count one user fewer. The last user of a retired detector closes it, in a thread."""
        self.users -= 1
        self.close_if_unused()

    def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        self.is_retired = True
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Close a retired detector that nobody uses. Its runs have ended, but its threads take a moment."""
        if self.is_retired and self.users == 0:
            threading.Thread(target=self._close, name="yoloship-close").start()

    def _close(self) -> None:
        if self.network is not None:
            self.network.close()
        self.handover.close()
        self.detector.close()


class Workers:
    """The threads that all models share, and the memory that decoded images may take."""

    def __init__(self) -> None:
        self.writers = ThreadPoolExecutor(max(2, usable_cores()), thread_name_prefix="yoloship-write")
        # One model is loaded at a time, and the threads that run it inherit the priority of the one that loads it.
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="yoloship-load", initializer=step_back)
        self.held = HeldImages()

    def close(self) -> None:
        """End the threads after they have finished their current work."""
        self.held.budget.close()
        self.writers.shutdown(cancel_futures=True)
        self.loader.shutdown(cancel_futures=True)


class ModelHost:
    """One model behind a name. It belongs to the thread of the event loop.

    Args:
        model: What to load.
        limits: The limits of requests.
        workers: Threads and memory, shared with the other models.

    Attributes:
        name: The model's name in addresses.
        admission: Whether there is room for an image.
        problem: Why the model, or its newest file, could not be loaded; empty if it was.
    """

    def __init__(self, model: ServedModel, limits: RequestLimits, workers: Workers) -> None:
        self.name, self.model = model.name, model
        self._limits, self._workers = limits, workers
        self._loaded: Loaded | None = None
        self._slots = asyncio.Semaphore(1)
        self.admission = Admission(limits.queue or _LEAST_ROOM, self._wait_s, model.name)
        self.problem = ""
        self._failed_runs = 0

    @property
    def is_ready(self) -> bool:
        """Whether the model answers: it is loaded, and not all of its last runs failed."""
        return self._loaded is not None and self._failed_runs < _FAILED_RUNS

    @property
    def is_loaded(self) -> bool:
        """Whether there is a detector."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """The detector that answers now.

        Raises:
            NotReadyError: it is still being loaded.
        """
        if self._loaded is None:
            raise NotReadyError("is still being loaded", subject=self.name, hint="try again in 1 s")
        return self._loaded

    @property
    def batch(self) -> int:
        """Images per run under load, computed from the cost of the last runs.

        Raises:
            NotReadyError: the model is still being loaded.
        """
        loaded = self.loaded
        return loaded.cost.best_batch(loaded.detector.batches, self._limits.deadline_s * _RUN_SHARE)

    @property
    def rate(self) -> float:
        """Images per second that the runs answer under load, computed from the cost of the last ones.

        Raises:
            NotReadyError: the model is still being loaded.
        """
        loaded, batch = self.loaded, self.batch
        return batch * loaded.detector.parallel_runs / max(loaded.cost.seconds(batch), 1e-9)

    def take(self, loaded: Loaded) -> None:
        """Answer with this detector from now on. The previous one is closed once its requests have their answers."""
        before, self._loaded = self._loaded, loaded
        self._failed_runs = 0
        runs, batch, limits = loaded.detector.parallel_runs, self.batch, self._limits
        ahead = max(batch, usable_cores())
        self._slots = asyncio.Semaphore(runs * batch + ahead)
        self.admission.room = limits.queue or max(_LEAST_ROOM, 4 * (runs * batch + ahead), limits.max_images)
        if before is not None:
            before.retire()

    @contextmanager
    def lease(self) -> Iterator[Loaded]:
        """The detector that answers now. It stays open until the end of the block, even if the model is loaded again.

        Raises:
            NotReadyError: it is still being loaded.
        """
        loaded = self.loaded
        loaded.users += 1
        try:
            yield loaded
        finally:
            loaded.release()

    async def infer(
        self, data: bytes, options: DetectOptions | None, deadline_s: float, *, keep_image: bool = False
    ) -> Answer:
        """Run the model on one image. The caller has a permit of `admission`.

        Args:
            data: An image file.
            options: What to keep; None takes the model's own.
            deadline_s: By the event loop's clock.
            keep_image: Whether the answer has the image, for drawing.

        Raises:
            LateError: the deadline passed.
            YoloshipError: the image or the run failed.
        """
        came_s = time.perf_counter()
        late = LateError("the deadline passed", subject=self.name)
        async with until(deadline_s, late), self._slots:
            with self.lease() as loaded:
                begun = Begun(data, options, self._limits.image, keep_image=keep_image)
                await loaded.handover.result(begun)
                if begun.error is not None:
                    self._failed_runs += isinstance(begun.error, (SessionError, CudaError))
                    raise begun.error
                self._failed_runs = 0
                ended_s = time.perf_counter()
                assert begun.ran is not None, "it has succeeded"
                ran = begun.ran
                loaded.cost.add(ran.images, ran.ended_s - ran.started_s)
        decode_s = (begun.decoded_s or begun.opened_s) - begun.started_s
        network_s, total_s = ran.ended_s - ran.started_s, ended_s - came_s
        queue_s = max(total_s - network_s - decode_s, 0)
        return Answer(begun.result, Times(decode_s, queue_s, network_s, total_s, ran.images), begun.image)

    def note_run(self, *, is_lost: bool) -> None:
        """Count a run that was started elsewhere. If several in a row lose their device, the model is not ready."""
        self._failed_runs = self._failed_runs + 1 if is_lost else 0

    async def call(self, work: Callable[[], Any]) -> Any:
        """Do some work for a request in a thread, such as writing its answer."""
        return await asyncio.get_running_loop().run_in_executor(self._workers.writers, work)

    def _wait_s(self, images: int) -> float:
        """Seconds until the last of this many images has its answer, if they all start now."""
        if self._loaded is None:
            return 1.0
        return images / self.rate

    def close(self) -> None:
        """Close the detector once nobody uses it."""
        if self._loaded is not None:
            self._loaded.retire()
            self._loaded = None
