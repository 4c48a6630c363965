"""Runs images that wait at the same time as one batch: `Batcher` for calls, `in_batches` for streams."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from yoloship.detect.pipeline import Encoded
from yoloship.detect.readers import Readers
from yoloship.detect.stream import ImageBudget, Outcome
from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.model import images_first
from yoloship.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import Pipeline, PlacedImage
    from yoloship.detect.stream import Image, Reserve
    from yoloship.images import ChannelOrder
    from yoloship.runtime.session import DeviceSession

    Run = Callable[[Sequence[PlacedImage], DetectOptions], list[Any]]


_SIZES: Final = (1, 4, 16, 64, 256)
"""Images per run that are always possible, besides the largest number."""

_logger = logging.getLogger("yoloship.detect")


@dataclass(frozen=True, slots=True)
class Ran:
    """The run that an image was part of, by `time.perf_counter`."""

    started_s: float
    ended_s: float
    images: int


class RunFuture(Future[Any]):
    """The result of a submitted image.

    Attributes:
        ran: The run that it was part of; None until that has succeeded.
        decoded_s: When other threads had decoded it, by `time.perf_counter`; None if they did not.
    """

    ran: Ran | None = None
    decoded_s: float | None = None


class _Request(NamedTuple):
    """One submitted image. Requests with the same kind can run together."""

    image: PlacedImage
    future: RunFuture
    kind: tuple[tuple[int, int], DetectOptions]


@dataclass(frozen=True, slots=True)
class Gathering:
    """How a `Batcher` gathers images for a run.

    Attributes:
        count: From the number of images of one kind that wait, 1 or more, their canvas size and options to the number
            that the next run takes, 1 or more.
        busy: Runs at the same time that keep the device busy; beside as many, only full ones begin. None: never.
    """

    count: Callable[[int, tuple[int, int], DetectOptions], int]
    busy: int | None = None


class Batcher:
    """Threads that run the waiting images in batches; images of a batch have the same canvas size and options.

    A batch is not delayed until it is full: a single image runs at once, and batches grow when the device is busy. Only
    a few batch sizes are used, because the network must be prepared for each.

    Args:
        run: Turns images into detections.
        threads: Runs at the same time.
        sizes: Numbers of images that a run may have, ascending from 1.
        waiting: Images that may wait; with more, `submit` blocks.
        model_name: The model's name, for messages.
        gathering: How images are gathered; None takes as many as the largest size that they fill, whatever else runs.
    """

    def __init__(
        self,
        run: Run,
        *,
        threads: int,
        sizes: tuple[int, ...],
        waiting: int,
        model_name: str,
        gathering: Gathering | None = None,
    ) -> None:
        self._run = run
        self._gathering = gathering or Gathering(partial(_filled, sizes))
        self._running = 0
        self._sizes = sizes
        self._model_name = model_name
        self._waiting: deque[_Request] = deque()
        self._most = waiting
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        # A call when a run may begin, not for each image: to wake a thread costs more than to queue an image. The last
        # one is passed on from thread to thread. To call takes no lock of ours, so that the garbage collector may call
        # too, whatever the thread that it runs in is about to do.
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._is_called = False
        self._closed = self._abandoned = False
        self._pid = os.getpid()
        self._threads = [
            threading.Thread(target=self._work, name=f"yoloship-run-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def runs_in_this_thread(self) -> bool:
        """Whether the caller is one of its threads."""
        return threading.current_thread() in self._threads

    def submit(self, image: PlacedImage, options: DetectOptions, future: RunFuture | None = None) -> RunFuture:
        """Queue an image; it must not change until the future is done.

        It blocks while there is no room, unless it is called by a thread of this batcher: that one has to make room.

        Args:
            image: The image.
            options: What to keep of its answer.
            future: Gets the answer; None makes one.

        Raises:
            SessionError: the batcher is closed, or this is a forked child, where its threads do not run.
        """
        if os.getpid() != self._pid:
            raise forked(self._model_name)
        future = future or RunFuture()
        request = _Request(image, future, (image.letterbox.input_hw, options))
        waiting = self._waiting
        with self._lock:
            if len(waiting) >= self._most and not self.runs_in_this_thread:
                self._room.wait_for(lambda: len(waiting) < self._most or self._closed)
            if self._closed:
                raise self._is_closed()
            waiting.append(request)
            if not self._is_called and self._may_begin():
                self._call()
        return future

    def abandon(self) -> None:
        """Run what waits, and then end the threads, without waiting for them: nobody will hand anything over."""
        self._abandoned = True
        self._calls.put(None)

    def close(self) -> None:
        """Finish the runs that have begun, fail the requests that wait, and end the threads. It may be called twice."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._room.notify_all()
        self._calls.put(None)
        for request in left:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(self._is_closed())
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _is_closed(self) -> SessionError:
        return SessionError("the detector is closed", subject=self._model_name)

    def _work(self) -> None:
        while requests := self._next():
            running = [request for request in requests if request.future.set_running_or_notify_cancel()]
            if not running:
                self._end()
                del requests, running
                continue
            try:
                started = time.perf_counter()
                found = self._run([request.image for request in running], running[0].kind[1])
                ran = Ran(started, time.perf_counter(), len(running))
                _logger.debug("a batch of %d took %.1f ms", ran.images, 1000 * (ran.ended_s - ran.started_s))
            except BaseException as error:
                self._end()
                for request in running:
                    request.future.set_exception(error)
            else:
                self._end()
                for request, detections in zip(running, found, strict=True):
                    request.future.ran = ran
                    request.future.set_result(detections)
            del requests, running  # images of the last batch must not live until the next

    def _next(self) -> list[_Request]:
        """The oldest request and those of its kind directly after it; empty if no more will come."""
        while True:
            self._calls.get()
            with self._lock:
                self._is_called = False
                requests = self._gathered()
                self._running += bool(requests)
                if requests:
                    self._room.notify(len(requests))
                is_over = (self._closed or self._abandoned) and not self._waiting and not requests
                if is_over or self._may_begin():  # there may be no other call for those that are left
                    self._call()
            if is_over or requests:
                return requests

    def _may_begin(self) -> bool:
        """Whether another run of what waits may begin. The lock is held."""
        waiting, busy = self._waiting, self._gathering.busy
        if not waiting:
            return False
        if busy is None or self._running < busy or self._abandoned or len(waiting) >= self._sizes[-1]:
            return True
        return waiting[-1].kind != waiting[0].kind  # beside as many runs, no more come to the first of them

    def _call(self) -> None:
        """Wake a thread. The lock is held."""
        self._is_called = True
        self._calls.put(None)

    def _gathered(self) -> list[_Request]:
        """Take the images of the next run; none if it has to wait. The lock is held."""
        if not self._may_begin():
            return []
        waiting = self._waiting
        kind, alike = waiting[0].kind, 0
        for request in islice(waiting, self._sizes[-1]):
            if request.kind is not kind and request.kind != kind:
                break
            alike += 1
        count = self._gathering.count(alike, *kind)
        return [waiting.popleft() for _ in range(count)]

    def _end(self) -> None:
        """A run is over: what waited for that may begin."""
        with self._lock:
            self._running -= 1
            if not self._is_called and (self._may_begin() or self._closed or self._abandoned):
                self._call()


def _filled(sizes: Sequence[int], waiting: int, _input_hw: tuple[int, int], _options: DetectOptions) -> int:
    """The largest size that so many images fill."""
    return max(size for size in sizes if size <= waiting)


def submitted(
    pipeline: Pipeline, batcher: Batcher, image: object, channels: ChannelOrder, options: DetectOptions
) -> RunFuture:
    """Queue an image that has to be read, placed, and perhaps decoded by others first.

    Args:
        pipeline: Reads and places it.
        batcher: Runs it.
        image: As `Detector.submit` takes it.
        channels: The order of its colours if it is an array.
        options: What to keep of its answer.

    Raises:
        YoloshipError: it cannot be read, or is not an image that the model takes; or the batcher is closed.
    """
    image, channels = pipeline.opened(image, channels)
    future = RunFuture()

    def decoded(found: object) -> None:
        future.decoded_s = time.perf_counter()
        try:
            if isinstance(found, BaseException):
                raise found
            _queue(pipeline, batcher, pipeline.place(found, "bgr"), options, future)
        except BaseException as error:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    if isinstance(image, Encoded):
        may_wait = not batcher.runs_in_this_thread
        image.decode_later(decoded, is_wanted=lambda: not future.cancelled(), may_wait=may_wait)
    else:
        _queue(pipeline, batcher, pipeline.place(image, channels), options, future)
    return future


def _queue(
    pipeline: Pipeline, batcher: Batcher, placed: PlacedImage, options: DetectOptions, future: RunFuture
) -> None:
    handed = pipeline.hand_over(placed)
    try:
        batcher.submit(handed, options, future)
    except BaseException:
        handed.release()
        raise
    if handed is not placed:  # a callback stays with its future, and so does all that it knows
        future.add_done_callback(lambda _: handed.release())


def forked(model_name: str) -> SessionError:
    """The error of a detector that is used in a child of the process that loaded it."""
    return SessionError(
        "the detector was made before this process was forked",
        subject=model_name,
        hint="load the model in the child, and start children with 'spawn'",
    )


def batch_range(session: DeviceSession, fixed: int | None, max_batch: int) -> tuple[int, int]:
    """Images of the smallest and the largest run.

    Args:
        session: The session; its profiles limit a dynamic batch.
        fixed: The graph's own batch; None if it is dynamic.
        max_batch: The largest batch to use.
    """
    if fixed is not None:
        return fixed, fixed
    name = images_first(session.inputs)[0].name
    ranges = [(one.minimum[0], one.maximum[0]) for profile in session.profiles for one in profile if one.name == name]
    if not ranges:
        return 1, max_batch
    return min(low for low, _ in ranges), min(max_batch, max(high for _, high in ranges))


def run_sizes(fixed: int | None, largest: int) -> tuple[int, ...]:
    """The batch sizes of a `Batcher`; there are only a few, because the network must be prepared for each.

    Args:
        fixed: The graph's own batch, which is padded if there are fewer images; None if it is dynamic.
        largest: Images of the largest run.
    """
    if fixed is not None:
        return tuple(range(1, largest + 1))
    return (*(size for size in _SIZES if size < largest), largest)


@dataclass(frozen=True, slots=True)
class Steps:
    """How `in_batches` processes a source.

    Attributes:
        is_read: Whether a source is an image already, so that no reader is needed.
        read: Reads a source as an image, as for `in_order`.
        submit: Queues an image for the device, which runs the waiting images as a batch.
    """

    is_read: Callable[[object], bool]
    read: Callable[[object, Reserve], Image]
    submit: Callable[[Image], Future[Any]]


class _Ticket:
    """The state of one source of a stream."""

    def __init__(self, index: int, source: object) -> None:
        self.index = index
        self.source = source
        self.image: Image | None = None
        self.error: YoloshipError | None = None
        self.reading: Future[None] | None = None
        self.detecting: Future[Any] | None = None

    def is_done(self) -> bool:
        """Whether its outcome is known."""
        is_read = self.reading is None or self.reading.done()
        return is_read and (self.detecting is None or self.detecting.done())

    def outcome(self) -> Outcome:
        """Wait for the outcome."""
        if self.reading is not None:
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
    """Read in worker threads, queue each image for the device at once, and yield outcomes in the order of the sources.

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
    memory, stopped, failures = budget or ImageBudget(), threading.Event(), list[Exception]()
    drawn = memory.draw(sources, failures)
    live = sources if isinstance(sources, Source) and sources.is_live else None  # see `in_order`
    pending: deque[_Ticket] = deque()

    def read(ticket: _Ticket) -> None:
        image = steps.read(ticket.source, partial(memory.reserve, ticket.index))
        if stopped.is_set():
            raise InputError("the stream was closed")
        kept = _on_host(image) if keep_images else None
        memory.release(ticket.index, image if kept is None else kept)
        ticket.detecting = steps.submit(image)
        if keep_images:
            ticket.image = kept
        else:
            index = ticket.index  # a callback that knew the ticket would keep it, and its source, in a cycle
            ticket.detecting.add_done_callback(lambda _: memory.release(index))

    def work(ticket: _Ticket) -> None:
        try:
            read(ticket)
        except YoloshipError as error:
            ticket.error = error
            memory.release(ticket.index)
        except Exception as error:  # raised in the ticket's turn
            ticket.reading = ticket.reading or Future()
            ticket.reading.set_exception(error)
            return
        if ticket.reading is not None:
            ticket.reading.set_result(None)

    def begin(ticket: _Ticket) -> None:
        pending.append(ticket)
        if steps.is_read(ticket.source):
            work(ticket)
        else:
            ticket.reading = Future()
            threads.add(ticket)

    threads = Readers(readers, work)
    consumer = threading.get_ident()
    try:
        while True:
            consumer = threading.get_ident()
            while len(pending) < in_flight + readers and not (pending and pending[0].is_done()):
                if pending and (not memory.has_room or (live and not live.is_ready())):
                    break
                item = next(drawn, None)
                if item is None:
                    break
                begin(_Ticket(*item))
            if not pending:
                break
            outcome = pending[0].outcome()
            pending.popleft()
            yield outcome
            memory.release(outcome.index)
        for failure in failures:
            raise failure
    finally:
        stopped.set()
        memory.close()
        may_wait = threading.get_ident() == consumer  # see `in_order`
        threads.close(wait=may_wait)
        under_way = [ticket.detecting for ticket in pending if ticket.detecting and not ticket.detecting.cancel()]
        if may_wait:
            wait(under_way)  # afterwards the caller may change its arrays


def _on_host(image: Any) -> Any:
    """An image for drawing; one that a decoder has put into device memory comes down."""
    return image.host() if hasattr(image, "host") else image
