"""Takes images from requests to a detector, and results and errors back to the event loop: `Handover`."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from yoloship._util.cores import usable_cores
from yoloship.detect.readers import Readers
from yoloship.detect.stream import ImageBudget
from yoloship.serve.errors import ClientLeftError
from yoloship.serve.priority import step_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.detect.batching import Ran
    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.images import ImageLimits

    Image = npt.NDArray[np.uint8]


class HeldImages:
    """The memory that the images of all models may take."""

    def __init__(self) -> None:
        self.budget = ImageBudget()
        self._indices = self.budget.draw(itertools.count(), [])
        self._lock = threading.Lock()

    def begin(self) -> int:
        """Start an image in the budget, and return its index there."""
        with self._lock:
            return next(self._indices)[0]


class Begun:
    """An image that is being processed. The detector gives it its result or its error.

    Args:
        data: An image file.
        options: What to keep; None takes the model's own.
        limits: What the image may cost.
        keep_image: Whether it is needed afterwards, so the GPU cannot decode it.

    Attributes:
        result: The result.
        error: Why there is none.
        image: (height, width, 3) uint8 BGR, read only; None unless it is kept.
        ran: The run that it was part of.
        started_s: When a thread began to read it, by `time.perf_counter`.
        opened_s: When it was read, or found to be for the GPU's decoder.
        decoded_s: When others had decoded it; None if they did not.
        known: Done in the thread of the event loop when the result or the error is known, or nobody waits for it.
        ended: Called in any thread when it has its result or its error.
    """

    ran: Ran | None = None
    decoded_s: float | None = None
    result: Any = None
    error: BaseException | None = None
    image: Image | None = None
    started_s = opened_s = 0.0
    opened: object = None
    is_dropped = is_handed = is_running = False
    release: Callable[[], None] = staticmethod(lambda: None)
    known: asyncio.Future[None]
    ended: Callable[[Begun], None]

    def __init__(self, data: bytes, options: DetectOptions | None, limits: ImageLimits, *, keep_image: bool) -> None:
        self.data, self.options, self.limits, self.keep_image = data, options, limits, keep_image

    def cancelled(self) -> bool:
        """Whether nobody is waiting for it any more."""
        return self.is_dropped

    def set_running_or_notify_cancel(self) -> bool:
        """A run takes it; False if nobody is waiting for it any more."""
        self.is_running = not self.is_dropped
        if self.is_dropped:
            self.release()
        return self.is_running

    def set_result(self, result: Any, /) -> None:
        """Take the result."""
        self.result = result
        self._end()

    def set_exception(self, error: BaseException, /) -> None:
        """Take the error."""
        self.error = error
        self._end()

    def drop(self) -> None:
        """Nobody is waiting for it any more."""
        self.is_dropped = True
        if self.is_handed and not self.is_running:
            self.release()

    def _end(self) -> None:
        self.release()
        self.ended(self)


class Handover:
    """Threads that read images and hand them to one detector. Results wake the event loop.

    Images that the GPU decodes are handed over together if they come quickly. The event loop is woken once for all
    results that came since it last looked, not for each.

    Args:
        detector: Gets the images. Its files are decoded here, unless the GPU decodes them.
        held: The memory of images.
    """

    def __init__(self, detector: Detector[Any], held: HeldImages) -> None:
        self._detector, self._held = detector, held
        most = max(2, usable_cores())
        few = None if detector.decoding.images == "gpu" else most
        self._readers = Readers[Begun](most, self._read, self._submit, few=few, begin=step_back)
        self._ended: deque[Begun] = deque()
        self._is_called = False

    async def result(self, begun: Begun) -> None:
        """Wait until an image has its result or its error. If the wait is cancelled, the image is dropped."""
        loop = asyncio.get_running_loop()
        begun.known, begun.ended = loop.create_future(), partial(self._settle, loop)
        self._readers.add(begun)
        try:
            await begun.known
        except asyncio.CancelledError:
            begun.drop()
            raise

    def close(self) -> None:
        """End the threads. Nobody is waiting for an image any more."""
        self._readers.close(wait=True)

    def _settle(self, loop: asyncio.AbstractEventLoop, begun: Begun) -> None:
        """In any thread: an image has its result or its error."""
        self._ended.append(begun)
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._is_called = False  # what is appended from now on calls again
        while self._ended:
            known = self._ended.popleft().known
            if not known.done():  # nobody waits any more
                known.set_result(None)

    def _read(self, begun: Begun, hand_over: Callable[[], None]) -> None:
        """In a reader: decode an image, unless the GPU does so and nobody draws on it."""
        from yoloship.images import open_image, read_image

        if begun.is_dropped:
            return
        index, budget = self._held.begin(), self._held.budget
        begun.release = partial(budget.release, index)
        reserve = partial(budget.reserve, index, before_waiting=hand_over)
        try:
            begun.started_s = time.perf_counter()
            file = open_image(begun.data, limits=begun.limits, reserve=reserve)
            if begun.keep_image:
                begun.image = begun.opened = read_image(file, reserve=reserve)
                begun.image.flags.writeable = False
            else:
                begun.opened = self._detector.opened(file, reserve)
            begun.opened_s = time.perf_counter()
            budget.release(index, begun.opened)
        except BaseException as error:  # raised where the image is awaited
            begun.set_exception(error)

    def _submit(self, read: Sequence[Begun]) -> None:
        """In a reader: hand over what was read one after the other."""
        by_options: dict[DetectOptions | None, list[tuple[object, Begun]]] = {}
        for begun in read:
            opened, begun.opened = begun.opened, None
            if begun.is_dropped:
                begun.set_exception(ClientLeftError("nobody is waiting for it"))
            elif opened is not None:
                begun.is_handed = True
                by_options.setdefault(begun.options, []).append((opened, begun))
        for options, images in by_options.items():
            self._submit_alike(images, options)
        for begun in read:
            if begun.is_dropped:  # meanwhile
                begun.release()

    def _submit_alike(self, images: Sequence[tuple[object, Begun]], options: DetectOptions | None) -> None:
        try:
            self._detector.submit_opened(images, options)
        except BaseException as error:
            for _, begun in images:
                begun.set_exception(error)
