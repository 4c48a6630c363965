"""Many images through one detector: results in order, a bounded look-ahead, errors in their place."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import stoppable
from yoloship.errors import InputError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import numpy as np
    import numpy.typing as npt

    from yoloship.results.detections import Detections

    Image = npt.NDArray[np.uint8]
    Reserve = Callable[[int], None]
    """Called by a reader with the bytes that it is about to use; it waits until they may be used."""


DEFAULT_BUDGET_BYTES: Final = 1 << 30
"""Eight images of 20 megapixels while they are decoded. An image that needs more than this is decoded alone."""


class ImageBudget:
    """Bounds the memory of the images that are in flight, whatever their sizes and however many workers there are.

    The oldest image that is in flight is never held up. It therefore always finishes, and all others wait at most for
    the ones before them: no order of requests can block a stream. The memory in use is at most the limit and one image.

    Args:
        limit_bytes: Images other than the oldest wait until they fit below this.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held: dict[int, int] = {}  # the index of each image in flight, oldest first, and its bytes
        self._changed = threading.Condition()
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """The bytes that are in use now."""
        with self._changed:
            return sum(self._held.values())

    @property
    def is_closed(self) -> bool:
        """Whether nobody waits for the images any longer."""
        return self._closed

    def enter(self, index: int) -> None:
        """Begin an image. Indices must be entered in ascending order."""
        with self._changed:
            self._held[index] = 0

    def reserve(self, index: int, wanted_bytes: int) -> None:
        """Wait until an image may use this many bytes more, and count them.

        Raises:
            InputError: the budget was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or index == next(iter(self._held))  # the oldest
                    or sum(self._held.values()) + wanted_bytes <= self._limit_bytes
                )
            )
            if self._closed:
                raise InputError("the stream was closed")
            self._held[index] += wanted_bytes

    def settle(self, index: int, held_bytes: int) -> None:
        """Set what an image uses from now on, once it has been decoded; nothing if it never reserved anything."""
        with self._changed:
            if self._held.get(index):
                self._held[index] = held_bytes
                self._changed.notify_all()

    def leave(self, index: int) -> None:
        """End an image. Ending it twice is not an error."""
        with self._changed:
            self._held.pop(index, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Wake up all that wait, with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


_AHEAD: Final = 2
"""Images waiting or finished for each worker, beside the one it works on: enough to ride out a slow one."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one source: detections, or the error that it met.

    Attributes:
        index: Its place among the sources, from 0.
        source: As it was given.
        detections: None if there is an error.
        error: None if there are detections.
        image: (height, width, 3) uint8 BGR, read only; None unless it was asked for and could be read.
    """

    index: int
    source: object
    detections: Detections | None
    error: YoloshipError | None
    image: Image | None = None

    def unwrap(self) -> Detections:
        """The detections.

        Raises:
            YoloshipError: the error that the source met.
        """
        if self.error is not None:
            raise self.error
        assert self.detections is not None
        return self.detections


def in_order(
    sources: Iterable[object],
    read: Callable[[object, Reserve], Image],
    detect: Callable[[Image], Detections],
    *,
    parallel_runs: int,
    keep_images: bool,
    budget: ImageBudget | None = None,
) -> Iterator[Outcome]:
    """Read and detect in worker threads, and yield in the order of the sources.

    One worker more than runs under way, so that an image is read while the model is busy. An error of ours becomes an
    `Outcome`; any other exception, and one of the iterable itself, is raised here after the results that precede it.

    Args:
        sources: Drawn from in the consumer's thread, only as far ahead as the workers need.
        read: From a source to an image. It reserves the bytes that it needs before it uses them; an image that it
            only passes on, because the caller holds it already, needs none.
        detect: From an image to detections.
        parallel_runs: Calls of `detect` under way at once.
        keep_images: Whether an `Outcome` carries its image. It counts against the budget until the next is asked for.
        budget: The memory of all images that are read ahead, decoded, detected on or kept.

    Yields:
        One `Outcome` for each source.
    """
    from concurrent.futures import ThreadPoolExecutor

    workers = parallel_runs + 1 if parallel_runs == 1 else parallel_runs
    turns = threading.BoundedSemaphore(parallel_runs)
    stopped = threading.Event()
    memory = budget or ImageBudget()

    def work(index: int, source: object) -> Outcome:
        image = None
        try:
            image = read_within(memory, index, read, source)
            with turns:
                if stopped.is_set():
                    raise InputError("the stream was closed")
                found = detect(image)
        except YoloshipError as error:
            return Outcome(index, source, None, error, image if keep_images else None)
        finally:
            if not keep_images or image is None:
                memory.leave(index)
        return Outcome(index, source, found, None, image if keep_images else None)

    pending: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="yoloship")
    failures: list[Exception] = []
    drawn = drawn_from(sources, failures)
    consumer = threading.get_ident()
    try:
        while True:
            consumer = threading.get_ident()
            while len(pending) < workers * (1 + _AHEAD) and (item := next(drawn, None)) is not None:
                memory.enter(item[0])
                pending.append(pool.submit(work, *item))
            if not pending:
                break
            outcome = pending.popleft().result()
            yield outcome
            memory.leave(outcome.index)
        for failure in failures:
            raise failure
    finally:
        stopped.set()
        memory.close()
        # The garbage collector may close a forgotten stream in any thread, even in one that is just starting and holds
        # the lock that joining another needs: there, waiting would never end. The workers end by themselves.
        pool.shutdown(wait=threading.get_ident() == consumer, cancel_futures=True)


def read_within(memory: ImageBudget, index: int, read: Callable[[object, Reserve], Image], source: object) -> Image:
    """Read an image; afterwards it counts as what it is, no longer as what decoding it took."""
    with stoppable(lambda: memory.is_closed):
        image = read(source, partial(memory.reserve, index))
    memory.settle(index, getattr(image, "nbytes", 0))  # one that lies on a device has reserved nothing
    return image


def drawn_from(sources: Iterable[object], failures: list[Exception]) -> Iterator[tuple[int, object]]:
    """Each source with its index; the exception that ends them is kept until the results before it are out."""
    try:
        yield from enumerate(sources)
    except Exception as error:
        failures.append(error)
