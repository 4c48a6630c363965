"""Runs images that wait at the same time as one batch: `Batcher`, and the way there: `Submitting`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from yoloship.detect.pipeline import Encoded
from yoloship.errors import SessionError, YoloshipError
from yoloship.model import images_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.pipeline import DecodeQueue, Pipeline, PlacedImage
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


class Answer(Protocol):
    """Gets what becomes of a submitted image. `RunFuture` is one.

    Attributes:
        ran: The run that it was part of; None until that has succeeded.
        decoded_s: When other threads had decoded it, by `time.perf_counter`; None if they did not.
    """

    ran: Ran | None
    decoded_s: float | None

    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""

    def set_running_or_notify_cancel(self) -> bool:
        """Say that it is being run; False if nobody wants it any more."""

    def set_result(self, result: Any, /) -> None:
        """Take the result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Take what failed."""


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
    future: Answer
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

    def submit_all(self, images: Sequence[PlacedImage], options: DetectOptions, answers: Sequence[Answer]) -> None:
        """Queue images that came together, at once and without waiting for room: others limit how many there are.

        Args:
            images: The images, which must not change until their answers are there.
            options: What to keep of their answers.
            answers: As many; they get them.

        Raises:
            SessionError: as `submit`; then no image was queued.
        """
        if os.getpid() != self._pid:
            raise forked(self._model_name)
        requests = [
            _Request(image, answer, (image.letterbox.input_hw, options))
            for image, answer in zip(images, answers, strict=True)
        ]
        with self._lock:
            if self._closed:
                raise self._is_closed()
            self._waiting.extend(requests)
            if not self._is_called and self._may_begin():
                self._call()

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
            request.image.release()
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(self._is_closed())
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _is_closed(self) -> SessionError:
        return SessionError("the detector is closed", subject=self._model_name)

    def _work(self) -> None:
        while requests := self._next():
            running = []
            for request in requests:
                if request.future.set_running_or_notify_cancel():
                    running.append(request)
                else:
                    request.image.release()
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
                    request.image.release()
                    request.future.set_exception(error)
            else:
                self._end()
                for request, detections in zip(running, found, strict=True):
                    request.image.release()
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


class Submitting:
    """Brings images to the threads that run them, by way of those that decode them if others do that.

    Args:
        pipeline: Reads and places them.
        batcher: Gives the threads that run them; it raises if there are none any more.
        options: What to keep of their answers.
    """

    def __init__(self, pipeline: Pipeline, batcher: Callable[[], Batcher], options: DetectOptions) -> None:
        self._pipeline = pipeline
        self._batcher = batcher
        self._options = options

    def one(self, image: object, channels: ChannelOrder) -> RunFuture:
        """Queue an image.

        Args:
            image: As `Detector.submit` takes it.
            channels: The order of its colours if it is an array.

        Raises:
            YoloshipError: it cannot be read, or is not an image that the model takes; or the detector is closed.
        """
        batcher, future = self._batcher(), RunFuture()
        image, channels = self._pipeline.opened(image, channels)
        if isinstance(image, Encoded):
            image.queue.put_all([(image, future)], self._decoded, may_wait=not batcher.runs_in_this_thread)
            return future
        handed = self._pipeline.hand_over(self._pipeline.place(image, channels))
        try:
            return batcher.submit(handed, self._options, future)
        except BaseException:
            handed.release()
            raise

    def all(self, images: Sequence[tuple[object, ChannelOrder, Answer]]) -> None:
        """Queue images that `Pipeline.opened` gave, with what gets their answers, and also whatever fails here.

        It blocks while many wait for others who decode them.
        """
        placed: list[tuple[Answer, object, ChannelOrder]] = []
        encoded: dict[DecodeQueue, list[tuple[Any, Answer]]] = {}
        for image, channels, answer in images:
            if isinstance(image, Encoded):
                encoded.setdefault(image.queue, []).append((image, answer))
            else:
                placed.append((answer, image, channels))
        for queue, files in encoded.items():
            self._decode(queue, files)
        if placed:
            self._run(placed)

    def _decode(self, queue: DecodeQueue, files: Sequence[tuple[Any, Answer]]) -> None:
        try:
            queue.put_all(files, self._decoded)
        except YoloshipError as error:
            for _, answer in files:
                _fail(answer, error)

    def _decoded(self, found: Sequence[tuple[Answer, object]]) -> None:
        """Queue what others have decoded."""
        now_s = time.perf_counter()
        for answer, _ in found:
            answer.decoded_s = now_s
        self._run([(answer, image, "bgr") for answer, image in found])

    def _run(self, images: Sequence[tuple[Answer, object, ChannelOrder]]) -> None:
        pipeline = self._pipeline
        handed: list[PlacedImage] = []
        answers: list[Answer] = []
        for answer, image, channels in images:
            if isinstance(image, BaseException):
                _fail(answer, image)
                continue
            try:
                handed.append(pipeline.hand_over(pipeline.place(image, channels)))
            except Exception as error:
                _fail(answer, error)
            else:
                answers.append(answer)
        if not handed:
            return
        try:
            self._batcher().submit_all(handed, self._options, answers)
        except Exception as error:
            for one in handed:
                one.release()
            for answer in answers:
                _fail(answer, error)


def _fail(answer: Answer, error: BaseException) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)


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
