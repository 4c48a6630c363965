"""Many images through the batches of a device: `in_batches`."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.errors import InputError, YoloshipError
from yoloship.pipeline.image_budget import ImageBudget
from yoloship.pipeline.stream import Drawn, Outcome, read_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from yoloship.pipeline.stream import Image, Reserve
    from yoloship.results import Detections


@dataclass(frozen=True, slots=True)
class Steps:
    """What becomes of a source.

    Attributes:
        is_read: Whether a source is an image already, so that no reader is needed.
        read: From a source to an image; see `in_order`.
        submit: Hands an image to the device, which takes whatever waits together as a batch.
    """

    is_read: Callable[[object], bool]
    read: Callable[[object, Reserve], Image]
    submit: Callable[[Image], Future[Detections]]


class _Ticket:
    """One source on its way."""

    def __init__(self, index: int, source: object) -> None:
        self.index = index
        self.source = source
        self.image: Image | None = None
        self.error: YoloshipError | None = None
        self.reading: Future[None] = Future()
        self.detecting: Future[Detections] | None = None

    def is_done(self) -> bool:
        """Whether its outcome is known."""
        return self.reading.done() and (self.detecting is None or self.detecting.done())

    def outcome(self) -> Outcome:
        """Wait for what becomes of it."""
        self.reading.result()
        found, error = None, self.error
        if self.detecting is not None:
            try:
                found = self.detecting.result()
            except YoloshipError as failure:
                error = failure
        return Outcome(self.index, self.source, found, error, self.image)


def in_batches(
    sources: Iterable[object],
    steps: Steps,
    *,
    in_flight: int,
    readers: int,
    keep_images: bool,
    budget: ImageBudget | None = None,
) -> Iterator[Outcome]:
    """Read in worker threads, hand over to the device at once, and yield in the order of the sources.

    The device is kept in work by as many images as its batches hold, however few threads read. An image that is read
    already takes no reader. Errors are treated as by `in_order`.

    Args:
        sources: Drawn from in the consumer's thread. Results that are there are yielded before more is drawn.
        steps: What becomes of each.
        in_flight: Images that may wait for the device or be on it; each reader may hold one more.
        readers: Images that are read at once.
        keep_images: Whether an `Outcome` carries its image.
        budget: The memory of all images that are read here, from decoding on until their results are there.

    Yields:
        One `Outcome` for each source.
    """
    pool = ThreadPoolExecutor(readers, thread_name_prefix="yoloship")
    memory, stopped, drawn = budget or ImageBudget(), threading.Event(), Drawn(sources)
    pending: deque[_Ticket] = deque()

    def work(ticket: _Ticket) -> None:
        try:
            image = read_within(memory, ticket.index, steps.read, ticket.source)
            if stopped.is_set():
                raise InputError("the stream was closed")
            ticket.detecting = steps.submit(image)
        except YoloshipError as error:
            ticket.error = error
            memory.leave(ticket.index)
            return
        if keep_images:
            ticket.image = image
        else:
            ticket.detecting.add_done_callback(lambda _: memory.leave(ticket.index))

    def begin(ticket: _Ticket) -> None:
        pending.append(ticket)
        memory.enter(ticket.index)
        ticket.reading = _at_once(work, ticket) if steps.is_read(ticket.source) else pool.submit(work, ticket)

    consumer = threading.get_ident()
    try:
        while True:
            consumer = threading.get_ident()
            while len(pending) < in_flight + readers and not (pending and pending[0].is_done()) and drawn.advance():
                begin(_Ticket(drawn.index, drawn.source))
            if not pending:
                break
            outcome = pending[0].outcome()
            pending.popleft()
            yield outcome
            memory.leave(outcome.index)
        if drawn.failure is not None:
            raise drawn.failure
    finally:
        stopped.set()
        memory.close()
        may_wait = threading.get_ident() == consumer  # see `in_order`
        pool.shutdown(wait=may_wait, cancel_futures=True)
        under_way = [ticket.detecting for ticket in pending if ticket.detecting and not ticket.detecting.cancel()]
        if may_wait:
            wait(under_way)  # the caller may use its arrays for something else from now on


def _at_once(work: Callable[[_Ticket], None], ticket: _Ticket) -> Future[None]:
    """What `pool.submit` gives, for work that is done here and now; an exception comes out in the ticket's turn."""
    done: Future[None] = Future()
    try:
        work(ticket)
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(None)
    return done
