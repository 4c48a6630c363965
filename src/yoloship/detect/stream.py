"""Runs many images through one detector: results in order, limited reading ahead, errors as outcomes."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final, Generic

from yoloship.errors import InputError, YoloshipError
from yoloship.results import ResultT
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import numpy as np
    import numpy.typing as npt

    from yoloship.results import Result

    Image = npt.NDArray[np.uint8]
    Reserve = Callable[[int], None]
    """Called by a reader with the bytes that it is about to use; it waits until there is room for them."""


DEFAULT_BUDGET_BYTES: Final = 1 << 30
"""Eight images of 20 megapixels while they are decoded. An image that needs more than this is decoded alone."""


class ImageBudget:
    """Limits the memory of the images in flight, whatever their sizes and the number of workers.

    The oldest image in flight never waits, so it always finishes, and every other image waits at most for those before
    it. Therefore no order of requests can block a stream. The memory in use is at most the limit plus one image.

    Args:
        limit_bytes: Images other than the oldest wait until they fit below this.

    Attributes:
        has_room: Whether another frame may be taken from a source that gives decoded ones.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held: dict[int, int] = {}  # the index of each image in flight, oldest first, and its bytes
        self._held_bytes = 0
        self._waiting = 0
        # Ctrl-C may come right behind `with condition`, whose lock is then never given back; not behind `with lock`.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self.has_room = True

    @property
    def held_bytes(self) -> int:
        """The bytes that are in use now."""
        with self._lock:
            return self._held_bytes

    @property
    def is_closed(self) -> bool:
        """Whether the stream was closed."""
        return self._closed

    def draw(self, sources: Iterable[object], failures: list[Exception]) -> Iterator[tuple[int, object]]:
        """Begin the image of each source, and give the source with its index.

        Args:
            sources: Read as the results are drawn.
            failures: Gets an exception of the iterable, to be raised after the results before it.
        """
        try:
            for index, source in enumerate(sources):
                with self._lock:
                    size = getattr(getattr(source, "image", None), "nbytes", 0)  # of a video
                    self._held[index] = size
                    self._held_bytes += size
                    self.has_room = self._held_bytes < self._limit_bytes
                yield index, source
        except Exception as error:
            failures.append(error)

    def reserve(self, index: int, wanted_bytes: int, before_waiting: Callable[[], None] | None = None) -> None:
        """Wait until an image may use this many more bytes, and count them.

        Args:
            index: The image's.
            wanted_bytes: 0 or more.
            before_waiting: Called if it has to wait: the caller must hold back no image that others wait for.

        Raises:
            InputError: the budget was closed while waiting.
        """
        with self._lock:
            if not self._closed and self._held_bytes + wanted_bytes <= self._limit_bytes:  # nearly always
                self._held[index] += wanted_bytes
                self._held_bytes += wanted_bytes
                return
        if before_waiting is not None and not self._may_use(index, wanted_bytes):
            before_waiting()
        with self._lock:
            self._waiting += 1
            try:
                while True:  # with a condition, Ctrl-C could keep the lock: see `sources.ahead`
                    if self._may_use(index, wanted_bytes):
                        break
                    self._changed.wait()
            finally:
                self._waiting -= 1
            if self._closed:
                raise InputError("the stream was closed")
            self._held[index] += wanted_bytes
            self._held_bytes += wanted_bytes

    def _may_use(self, index: int, wanted_bytes: int) -> bool:
        """Whether an image need not wait."""
        if self._closed or self._held_bytes + wanted_bytes <= self._limit_bytes:
            return True
        with self._lock:
            return index == next(iter(self._held))  # the oldest

    def release(self, index: int, image: object = None) -> None:
        """Give back what an image reserved, except for its own size; without the image, end it, if it has not ended."""
        with self._lock:
            if image is None:
                self._held_bytes -= self._held.pop(index, 0)
            elif held := self._held.get(index):  # an image on a device has reserved nothing
                self._held[index] = size = getattr(image, "nbytes", 0)
                self._held_bytes += size - held
            self.has_room = self._held_bytes < self._limit_bytes
            if self._waiting:
                self._changed.notify_all()

    def close(self) -> None:
        """Wake all waiting readers with an error."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()


_AHEAD: Final = 2
"""Waiting or finished images per worker, besides the one it works on; enough to bridge a slow image."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome(Generic[ResultT]):
    """The outcome of one source: its result or its error.

    Attributes:
        index: The position of the source among all sources, from 0.
        source: The source as the caller gave it.
        result: The result; None if there is an error.
        error: The error; None if there is a result.
        image: (height, width, 3) uint8 BGR, read only; None unless you asked for it and it could be read.
    """

    index: int
    source: object
    result: ResultT | None
    error: YoloshipError | None
    image: Image | None = None

    @property
    def frame(self) -> Frame | None:
        """The source, if it is a frame of `yoloship.sources`, with its name, its time and its video; else None."""
        return self.source if isinstance(self.source, Frame) else None

    def unwrap(self) -> ResultT:
        """The result.

        Raises:
            YoloshipError: the error of this source.
        """
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def in_order(  # noqa: PLR0913 - the last two have defaults
    sources: Iterable[object],
    read: Callable[[object, Reserve], Image],
    detect: Callable[[Image], Result],
    *,
    parallel_runs: int,
    keep_images: bool,
    readers: int = 0,
    budget: ImageBudget | None = None,
) -> Iterator[Outcome]:
    """Read and detect in worker threads, and yield in the order of the sources.

    Beside a single run, there is one more worker, so that an image is read while the model is busy. A `YoloshipError`
    becomes an `Outcome`. Any other exception, also one of the iterable itself, is raised here after the results before
    it.

    Args:
        sources: Read in the consumer's thread, only as far ahead as the workers need; a live source only by as many
            frames as are worked on at once, so that results are not late.
        read: Reads a source as an image. It reserves the bytes that it needs before it uses them. An image that the
            caller already holds needs none.
        detect: Turns an image into detections.
        parallel_runs: Calls of `detect` at the same time.
        readers: Workers besides those of the runs. They read images while runs of several threads use the cores.
        keep_images: Whether an `Outcome` contains its image. It counts against the budget until the next outcome is
            requested.
        budget: The memory of all images that are read ahead, decoded, detected on or kept.

    Yields:
        One `Outcome` for each source.
    """
    from concurrent.futures import ThreadPoolExecutor

    workers = parallel_runs + max(readers, parallel_runs == 1)
    turns = threading.BoundedSemaphore(parallel_runs)
    stopped = threading.Event()
    memory = budget or ImageBudget()

    def work(index: int, source: object) -> Outcome:
        image = None
        try:
            image = read(source, partial(memory.reserve, index))
            memory.release(index, image)
            with turns:
                if stopped.is_set():
                    raise InputError("the stream was closed")
                found = detect(image)
        except YoloshipError as error:
            return Outcome(index, source, None, error, image if keep_images else None)
        finally:
            if not keep_images or image is None:
                memory.release(index)
        return Outcome(index, source, found, None, image if keep_images else None)

    # Nothing is drawn from a camera while results are under way unless its next frame is there. To wait for it would
    # make them late by the time of a frame, or for as long as the camera is silent.
    live = sources if isinstance(sources, Source) and sources.is_live else None
    most = workers * (1 + _AHEAD) if live is None else workers
    pending: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="yoloship")
    failures: list[Exception] = []
    drawn = memory.draw(sources, failures)
    consumer = threading.get_ident()
    try:
        while True:
            consumer = threading.get_ident()
            for _ in range(most - len(pending)):  # `while` could miss `finally`: see `sources.ahead`
                if pending and (not memory.has_room or (live and not live.is_ready())):
                    break
                if (item := next(drawn, None)) is None:
                    break
                pending.append(pool.submit(work, *item))
            if not pending:
                break
            outcome = pending.popleft().result()
            yield outcome
            memory.release(outcome.index)
        for failure in failures:
            raise failure
    finally:
        stopped.set()
        memory.close()
        # The garbage collector may close a forgotten stream in any thread, even in one that is just starting and holds
        # the lock that joining another needs: there, waiting would never end. The workers end by themselves.
        pool.shutdown(wait=threading.get_ident() == consumer, cancel_futures=True)


def opened(name: str | PathLike[str]) -> Iterator[Frame]:
    """The frames of what a name stands for; the source is closed at the end.

    Raises:
        InputError: it cannot be read.
    """
    from yoloship.sources import open_source

    with open_source([fspath(name)]) as source:
        yield from source


def of_name(name: str | PathLike[str], stream: Callable[[Any], Iterator[Outcome]]) -> Iterator[Outcome]:
    """The outcomes of what a name stands for; the source is closed at the end.

    Args:
        name: The name.
        stream: Runs the model on a source.

    Raises:
        InputError: it cannot be read.
    """
    from yoloship.sources import open_source

    with open_source([fspath(name)]) as source:
        yield from stream(source)
