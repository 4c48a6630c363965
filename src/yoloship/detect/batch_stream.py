"""Streams of images on a device that runs what waits as a batch: `in_batches`."""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from yoloship.detect.readers import Readers
from yoloship.detect.stream import ImageBudget, Outcome
from yoloship.errors import YoloshipError
from yoloship.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from yoloship.detect.batching import Answer, Ran
    from yoloship.detect.stream import Reserve


@dataclass(frozen=True, slots=True)
class Steps:
    """How `in_batches` processes a source.

    Attributes:
        is_read: Whether a source is an image already, so that no reader is needed.
        read: Reads a source as an image, as for `in_order`.
        submit: Queues images for the device, each with what gets its answer, also if that is an error. The device runs
            what waits as a batch.
        devices: That do so.
    """

    is_read: Callable[[object], bool]
    read: Callable[[object, Reserve], Any]
    submit: Callable[[Sequence[tuple[Any, Answer]]], None]
    devices: int = 1


class _Flow:
    """What the sources of a stream have in common.

    Attributes:
        lock: Held by who begins to run an image, and by who stops the stream.
        is_stopped: Whether nobody wants any more.
        wanted: The source whose outcome the consumer waits for.
        arrived: A call when it is known.
    """

    __slots__ = ("arrived", "is_stopped", "lock", "wanted")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_stopped = False
        self.wanted: _Ticket | None = None
        self.arrived: SimpleQueue[None] = SimpleQueue()


class _Ticket:
    """The state of one source of a stream, and the `Answer` of its image.

    A future and its condition for each would cost more than all else that Python does for an image.
    """

    is_of_stream = True
    __slots__ = ("decoded_s", "error", "flow", "image", "index", "is_done", "is_running", "ran", "result", "source")

    def __init__(self, flow: _Flow, index: int, source: object) -> None:
        self.flow = flow
        self.index = index
        self.source = source
        self.image: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_running = self.is_done = False
        self.ran: Ran | None = None
        self.decoded_s: float | None = None

    def cancelled(self) -> bool:
        return self.flow.is_stopped

    def set_running_or_notify_cancel(self) -> bool:
        with self.flow.lock:
            self.is_running = not self.flow.is_stopped
        return self.is_running

    def set_result(self, result: Any, /) -> None:
        self.result = result
        self._end()

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception
        self._end()

    def _end(self) -> None:
        self.is_done = True
        if self.flow.wanted is self:
            self.flow.arrived.put(None)

    def wait(self) -> None:
        """Wait until its outcome is known."""
        self.flow.wanted = self
        while not self.is_done:
            self.flow.arrived.get()
        self.flow.wanted = None

    def outcome(self) -> Outcome:
        """Its outcome, which is known; what is not an error of ours is raised."""
        if self.error is not None and not isinstance(self.error, YoloshipError):
            raise self.error
        return Outcome(self.index, self.source, self.result, self.error, self.image)


def in_batches(
    sources: Iterable[object],
    steps: Steps,
    *,
    in_flight: int,
    readers: int,
    keep_images: bool,
    budget: ImageBudget | None = None,
) -> Iterator[Outcome]:
    """Read in worker threads, queue images for the device as they come, and yield outcomes in the order of the sources.

    Even with few readers, enough images are queued to fill the device's batches. A source that is already an image does
    not need a reader. Errors are handled as in `in_order`.

    Args:
        sources: Read in the consumer's thread. Finished results are yielded before the next source is read.
        steps: How each source is processed.
        in_flight: Images that may wait for the device or be on it; each reader may have one more.
        readers: Images that are read at once.
        keep_images: Whether an `Outcome` contains its image.
        budget: The memory of all images that are read here, from decoding until their results are finished.

    Yields:
        One `Outcome` for each source.
    """
    memory, flow, failures = budget or ImageBudget(), _Flow(), list[Exception]()
    drawn = memory.draw(sources, failures)
    live = sources if isinstance(sources, Source) and sources.is_live else None  # see `in_order`
    pending: deque[_Ticket] = deque()

    def read(ticket: _Ticket, flush: Callable[[], None]) -> None:
        is_first = True

        def reserve(wanted_bytes: int) -> None:
            nonlocal is_first
            if not is_first:  # then it is decoded here, or comes from a pipe that is silent: that may take long
                flush()
            is_first = False
            memory.reserve(ticket.index, wanted_bytes, flush)

        try:
            ticket.image = image = steps.read(ticket.source, reserve)
            if keep_images:
                ticket.image = image, _on_host(image)
                image = ticket.image[1]
            memory.release(ticket.index, image)
        except Exception as error:  # one that is not ours is raised in its turn
            ticket.set_exception(error)
            memory.release(ticket.index)

    def hand_over(tickets: Sequence[_Ticket]) -> None:
        handed: list[tuple[Any, Answer]] = []
        for ticket in tickets:
            if ticket.is_done or flow.is_stopped:
                continue
            image, ticket.image = ticket.image if keep_images else (ticket.image, None)
            handed.append((image, ticket))
        try:
            steps.submit(handed)
        except Exception as error:
            for ticket in tickets:
                if not ticket.is_done:
                    ticket.set_exception(error)

    threads = Readers(readers, read, hand_over, devices=steps.devices)
    consumer = threading.get_ident()
    try:
        while True:
            consumer = threading.get_ident()
            for _ in range(in_flight + readers - len(pending)):  # `while` could miss `finally`: see `sources.ahead`
                if pending and (pending[0].is_done or not memory.has_room or (live and not live.is_ready())):
                    break
                item = next(drawn, None)
                if item is None:
                    break
                ticket = _Ticket(flow, *item)
                pending.append(ticket)
                if steps.is_read(ticket.source):
                    read(ticket, _nothing)
                    hand_over((ticket,))
                else:
                    threads.add(ticket)
                del item, ticket
            if not pending:
                break
            pending[0].wait()
            outcome = pending[0].outcome()
            pending.popleft()
            if not keep_images:
                memory.release(outcome.index)
            yield outcome
            if keep_images:
                memory.release(outcome.index)
        for failure in failures:
            raise failure
    finally:
        with flow.lock:
            flow.is_stopped = True
        memory.close()
        # See `in_order`. At the end of the process, the threads that would answer do not run any more.
        may_wait = threading.get_ident() == consumer and not sys.is_finalizing()
        threads.close(wait=may_wait)
        for ticket in pending:
            if may_wait and ticket.is_running:
                ticket.wait()  # afterwards the caller may change its arrays


def _nothing() -> None:
    pass


def _on_host(image: Any) -> Any:
    """An image for drawing; one that a decoder has put into device memory comes down."""
    return image.host() if hasattr(image, "host") else image
