"""Images that wait together, run together: `Batcher` for calls, `in_batches` for streams."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.detect.stream import Drawn, ImageBudget, Outcome, read_within
from yoloship.errors import InputError, SessionError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from yoloship.detect.gpu.staging import Frame
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Image, Reserve
    from yoloship.results.detections import Detections
    from yoloship.runtime.base import DeviceSession

    Run = Callable[[Sequence[Frame], DetectOptions], list[Detections]]


_SIZES: Final = (1, 4, 16, 64, 256)
"""Pictures a run, beside the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """One picture that somebody waits for."""

    frame: Frame
    options: DetectOptions
    future: Future[Detections]

    @property
    def kind(self) -> Hashable:
        """Orders of one kind can be run together."""
        return self.frame.letterbox.input_hw, self.options


class Batcher:
    """Threads that take whatever waits, up to a batch of one canvas and one set of options, and run it.

    Nobody waits for a batch to fill: a lone picture runs at once, and batches grow when the device is busy. They come
    in a few sizes only, since the network must be made ready for each.

    Args:
        run: From frames to detections.
        threads: Runs under way at once.
        sizes: Pictures that a run may have, ascending from 1.
        waiting: Pictures that may wait; `submit` blocks beyond.
        subject: The model's name, for messages.
    """

    def __init__(self, run: Run, *, threads: int, sizes: tuple[int, ...], waiting: int, subject: str) -> None:
        self._run = run
        self._sizes = sizes
        self._subject = subject
        self._orders: deque[_Order] = deque()
        self._room = threading.Semaphore(waiting)
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"yoloship-gpu-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, frame: Frame, options: DetectOptions) -> Future[Detections]:
        """Hand a picture over; it must not change until the future is done.

        Raises:
            SessionError: the batcher is closed.
        """
        order = _Order(frame, options, Future())
        self._room.acquire()
        with self._changed:
            if self._closed:
                self._room.release()
                raise self._is_closed()
            self._orders.append(order)
            self._changed.notify()
        return order.future

    def close(self) -> None:
        """Finish what is under way, fail what still waits, and end the threads. Closing twice is no error."""
        with self._changed:
            self._closed = True
            left = list(self._orders)
            self._orders.clear()
            self._changed.notify_all()
        for order in left:
            self._room.release()
            if order.future.set_running_or_notify_cancel():
                order.future.set_exception(self._is_closed())
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _is_closed(self) -> SessionError:
        return SessionError("the detector is closed", subject=self._subject)

    def _work(self) -> None:
        while orders := self._next():
            running = [order for order in orders if order.future.set_running_or_notify_cancel()]
            for _ in orders:
                self._room.release()
            if not running:
                continue
            try:
                found = self._run([order.frame for order in running], running[0].options)
            except BaseException as error:
                for order in running:
                    order.future.set_exception(error)
            else:
                for order, detections in zip(running, found, strict=True):
                    order.future.set_result(detections)
            del orders, running  # pictures of the last batch must not live until the next

    def _next(self) -> list[_Order]:
        """The oldest order and those of its kind right behind it; empty where the batcher is closed."""
        with self._changed:
            while not self._orders and not self._closed:
                self._changed.wait()
            alike = 0
            while alike < min(len(self._orders), self._sizes[-1]) and self._orders[alike].kind == self._orders[0].kind:
                alike += 1
            count = max((size for size in self._sizes if size <= alike), default=0)
            return [self._orders.popleft() for _ in range(count)]


def batch_range(session: DeviceSession, fixed: int | None, max_batch: int) -> tuple[int, int]:
    """Pictures of the smallest and the largest run.

    Args:
        session: Its profiles say what a dynamic batch may be.
        fixed: The graph's own batch; None where it is dynamic.
        max_batch: The largest that is wanted.
    """
    if fixed is not None:
        return fixed, fixed
    name = session.inputs[0].name
    ranges = [(one.minimum[0], one.maximum[0]) for profile in session.profiles for one in profile if one.name == name]
    if not ranges:
        return 1, max_batch
    return min(low for low, _ in ranges), min(max_batch, max(high for _, high in ranges))


def run_sizes(fixed: int | None, largest: int) -> tuple[int, ...]:
    """Pictures that a run of a `Batcher` may have: few numbers, since the network is made ready for each.

    Args:
        fixed: The graph's own batch, which is filled up where pictures lack; None where it is dynamic.
        largest: Pictures of the largest run.
    """
    if fixed is not None:
        return tuple(range(1, largest + 1))
    return (*(size for size in _SIZES if size < largest), largest)


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
