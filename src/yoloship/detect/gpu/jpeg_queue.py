"""Decodes JPEG files that wait at the same time as one batch: `JpegQueue`."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from yoloship._util.closing import Closing
from yoloship._util.cores import usable_cores
from yoloship.cuda.device import LOST_CODES, OUT_OF_MEMORY
from yoloship.detect.gpu.jpeg_engine import MAX_FILES, one_batch
from yoloship.detect.pipeline import Encoded, Used
from yoloship.errors import CudaError, SessionError, YoloshipError
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.cuda.buffers import DeviceBuffer
    from yoloship.cuda.device import Device
    from yoloship.cuda.device_image import DeviceImage
    from yoloship.cuda.jpeg_check import PendingCheck
    from yoloship.detect.gpu.jpeg_engine import JpegEngine, JpegFile

Asked = TypeVar("Asked")
Decoded: TypeAlias = "DeviceImage | npt.NDArray[np.uint8] | BaseException"
"""An image on the device; (height, width, 3) uint8 BGR on the host; or why there is none."""

_WAITING: Final = 512
"""Files that may wait; with more, `put_all` blocks."""
_BUSY: Final = 2 * MAX_FILES
"""Decoded images that are not done with yet: so many keep the network busy for longer than it takes to fill a batch."""
_MOST: Final = 4 * MAX_FILES
"""Decoded images that are not done with, with which no other batch begins: two batches compute, one waits, and one is
decoded."""
_IDLE_S: Final = 5.0
"""After this time without a file, the memory for images is freed."""
_PATIENCE_S: Final = 10e-3
"""How long a batch waits for more files meanwhile; each batch costs Python about as much as ten files."""
_TOGETHER: Final = 4
"""If so many files wait for one of several GPUs, and the last is of a stream, a batch waits for those that come soon,
also if the network is not busy. Otherwise a host that just keeps up has small batches, which make it fall behind."""
_QUIET_S: Final = 5e-3
"""After this time without another file, no more are waited for."""
_HOST_READERS: Final = 8
_THREAD_NAME: Final = "yoloship-jpeg"

_logger = logging.getLogger("yoloship.detect")


@dataclass(frozen=True, slots=True, eq=False)
class QueuedJpeg(Encoded):
    """A JPEG file for the GPU's decoder.

    Attributes:
        jpeg: The file.
        queue: Where it can wait.
    """

    jpeg: JpegFile
    queue: JpegQueue

    @property
    def device(self) -> Device:
        """The GPU that is to decode it."""
        return self.queue.engine.device

    @property
    def nbytes(self) -> int:
        """Bytes of the host's memory that it takes."""
        return self.jpeg.nbytes

    def decode_soon(self) -> DeviceImage | npt.NDArray[np.uint8]:
        """Decode it together with those that other threads wait for, and wait for it.

        Raises:
            YoloshipError: it is damaged, the device failed, or the detector is closed.
        """
        done: Future[Any] = Future()

        def then(found: Sequence[tuple[object, Decoded]]) -> None:
            done.set_result(found[0][1])

        self.queue.put_all([(self, done)], then)
        found: Decoded = done.result()
        if isinstance(found, BaseException):
            raise found
        return found

    def decode_for(self, use: Callable[[DeviceImage | npt.NDArray[np.uint8]], Used]) -> Used:
        """Decode it in this thread, and give what is made of it; see `Encoded.decode_for`."""
        return self.queue.decode_for(self.jpeg, use)


class _Request(NamedTuple):
    """A file that waits.

    Attributes:
        file: The file.
        answer: Tells whether it is still wanted.
        then: Called with the answer and what became of the file, by one of the queue's threads.
    """

    file: JpegFile
    answer: Any
    then: Callable[[Sequence[tuple[Any, Decoded]]], None]

    def end(self, found: Decoded) -> None:
        """Say what became of it."""
        self.then([(self.answer, found)])


class JpegQueue(Closing):
    """A thread that decodes what waits, in batches.

    A single file is decoded at once. A batch waits for more files for a moment if the network is busy for longer; with
    several GPUs, also if files of a stream come one soon after the other. While too many images, or too large ones, are
    not done with, files wait until memory is given back. Memory that no file needs for a while is freed. The host's
    reader takes files that the engine refuses, or that are not sound, in threads of their own.

    Args:
        engine: The GPU's; closed with the queue.
        model_name: For messages.
        gpus: That this process uses.

    Attributes:
        is_lost: Whether the GPU's context was lost in a batch.
        waiting: Files that wait.
    """

    def __init__(self, engine: JpegEngine, model_name: str, gpus: int = 1) -> None:
        self.engine = engine
        self._together = _TOGETHER if gpus > 1 else MAX_FILES
        self._model_name = model_name
        # As for `Batcher`, it takes no lock of ours; None says that no more will come.
        self._calls: SimpleQueue[list[_Request] | None] = SimpleQueue()
        self._held: deque[_Request] = deque()
        self._for_host: deque[_Request] = deque()
        self._has_room = threading.Condition(threading.Lock())
        self.waiting = 0
        self._closed = self._abandoned = self._is_over = self.is_lost = False
        self._readers: ThreadPoolExecutor | None = None
        self._thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def put_all(
        self,
        images: Sequence[tuple[QueuedJpeg, Any]],
        then: Callable[[Sequence[tuple[Any, Decoded]]], None],
        *,
        may_wait: bool = True,
    ) -> None:
        """Queue files, as `DecodeQueue.put_all`; `then` gets a `DeviceImage`, an array, or an error of each.

        Args:
            images: The files, with what tells whether they are still wanted (`cancelled`) and is handed to `then`.
            then: Called with those that were decoded together, by one of the queue's threads. It must not raise.
            may_wait: Whether to wait for room. The queue's own threads never do.

        Raises:
            SessionError: the queue is closed.
        """
        requests = [_Request(image.jpeg, answer, then) for image, answer in images]
        with self._has_room:
            if may_wait and not _is_own_thread():
                self._has_room.wait_for(lambda: self._closed or self.waiting < _WAITING)
            if self._closed:
                raise self._is_closed()
            self.waiting += len(requests)
            self._calls.put(requests)

    def decode(self, files: Sequence[JpegFile]) -> list[Decoded]:
        """Decode files in this thread, and wait for them. What does not fit into the device's memory is decoded here.

        Args:
            files: Any number.

        Returns:
            What became of each. A file that is damaged gives its error.

        Raises:
            CudaError: the device failed.
            SessionError: the queue is closed.
        """
        found: list[Decoded] = []
        while len(found) < len(files):
            if self._closed:
                raise self._is_closed()
            part = one_batch(files[len(found) : len(found) + MAX_FILES])
            blocks = [] if self.engine.has_given_up else self._blocks(part, urgent=True)
            if blocks:
                images = self._on_gpu(part[: len(blocks)], blocks)
                found += [_on_host(file) if image is None else image for file, image in zip(part, images, strict=False)]
            else:
                found.append(_on_host(part[0]))
        return found

    def decode_for(self, file: JpegFile, use: Callable[[DeviceImage | npt.NDArray[np.uint8]], Used]) -> Used:
        """Decode a lone file in this thread, and let it be used before the check of its data is over.

        Args:
            file: The file.
            use: Makes something of the image. What it makes of a file that is not sound, or raises, is thrown away;
                then it is called with what the host's reader makes of the file. It must not keep the image.

        Returns:
            What `use` made of the image that counts.

        Raises:
            CudaError: the device failed.
            SessionError: the queue is closed.
            YoloshipError: the host's reader refuses the file.
        """
        if self._closed:
            raise self._is_closed()
        blocks = [] if self.engine.has_given_up else self._blocks([file], urgent=True)
        begun = self._unless_full(partial(self.engine.decode_unchecked, file, *blocks), 1) if blocks else None
        if begun is not None:
            image, check = begun
            with image:
                try:
                    used = use(image)
                except Exception as error:
                    try:
                        is_sound = self._is_sound(check)
                    except YoloshipError:  # the device has failed, and what it failed with first says more
                        raise error from None
                    if is_sound:
                        raise
                else:
                    if self._is_sound(check):
                        return used
        found = _on_host(file)
        if isinstance(found, BaseException):
            raise found
        return use(found)

    def abandon(self) -> None:
        """Decode what waits, and then end the thread and close the engine, without waiting for it."""
        self._abandoned = True
        self._calls.put(None)

    def close(self) -> None:
        """Finish the batch in progress, fail what waits, and give everything back. Closing twice is not an error."""
        with self._has_room:
            self._closed = True
            self._has_room.notify_all()
        self.engine.memory.close()  # so that nobody waits for memory
        self._calls.put(None)
        is_own = _is_own_thread()
        if not is_own:
            self._thread.join()
        if self._readers is not None:
            self._readers.shutdown(wait=not is_own)
        self.engine.close()

    def _is_closed(self) -> SessionError:
        return SessionError("the detector is closed", subject=self._model_name)

    def _work(self) -> None:
        while requests := self._next():
            self._decode(requests)
            del requests  # a file of the last batch must not live until the next
        if self._abandoned and not self._closed:
            if self._readers is not None:
                self._readers.shutdown()
            self.engine.memory.close()
            self.engine.close()

    def _next(self) -> list[_Request]:
        """The oldest requests; empty if no more will come."""
        while True:
            self._gather()
            held = self._held
            taken = [held.popleft() for _ in range(min(len(held), MAX_FILES))]
            with self._has_room:
                self.waiting -= len(taken)
                self._has_room.notify_all()
            if self._closed:
                for request in taken:
                    request.end(self._is_closed())
            requests = [] if self._closed else [request for request in taken if not request.answer.cancelled()]
            if requests or not taken:
                return requests
            del taken  # what nobody wants must not live until the next file comes

    def _gather(self) -> None:
        """Hold at least one request unless no more will come, and as many as fill a batch if they come soon enough."""
        until_s: float | None = None
        is_stream = False
        memory = self.engine.memory
        while len(self._held) < MAX_FILES:
            wait_s = _IDLE_S
            if self._held:
                now_s = time.monotonic()
                until_s = until_s or now_s + _PATIENCE_S
                if self._is_over:
                    wait_s = 0
                elif memory.used_blocks >= _BUSY:
                    wait_s = max(0, until_s - now_s)
                else:
                    wait_s = min(_QUIET_S, max(0, until_s - now_s)) if is_stream else 0
            elif self._is_over:
                wait_s = 0
            try:
                called = self._calls.get(wait_s != 0, wait_s)
            except Empty:
                if self._held or self._is_over:
                    return
                with suppress(CudaError):  # whoever needs the device gets the error
                    memory.free_idle()
                continue
            if called is None:
                self._is_over = True
            else:
                self._held.extend(called)
                is_stream = len(self._held) >= self._together and getattr(called[0].answer, "is_of_stream", False)

    def _decode(self, requests: list[_Request]) -> None:
        """Decode as many of the requests as have room, and hold the others back."""
        if self.engine.has_given_up:
            self._to_host(requests)
            return
        files = one_batch([request.file for request in requests])
        images: Sequence[DeviceImage | None]
        failure: BaseException | None
        try:
            blocks = self._blocks(files)
            while not blocks and self.engine.memory.wait():
                blocks = self._blocks(files)
            count = len(blocks) or 1
            if count < len(requests):
                self._hold(requests[count:])
                del requests[count:]
            images = self._on_gpu(files[:count], blocks) if blocks else [None]
        except BaseException as error:
            self.is_lost = self.is_lost or (isinstance(error, CudaError) and error.code in LOST_CODES)
            images, failure = [None] * len(requests), error
        else:
            failure = self._is_closed() if self._closed else None
        self._answer(requests, images, failure)

    def _hold(self, requests: Sequence[_Request]) -> None:
        """Put requests back to the front."""
        self._held.extendleft(reversed(requests))
        with self._has_room:
            self.waiting += len(requests)

    def _answer(
        self, requests: Sequence[_Request], images: Sequence[DeviceImage | None], failure: BaseException | None
    ) -> None:
        """Hand images on, those of each caller together; files without one go to the host, or fail."""
        found: dict[Any, list[tuple[Any, Decoded]]] = {}
        for request, image in zip(requests, images, strict=True):
            decoded = image if image is not None else failure
            if decoded is None:
                self._to_host([request])
            else:
                found.setdefault(request.then, []).append((request.answer, decoded))
        for then, answers in found.items():
            then(answers)

    def _blocks(self, files: Sequence[JpegFile], *, urgent: bool = False) -> list[DeviceBuffer]:
        """Memory for as many of the files as there is room for, from the first on."""
        if not urgent and self.engine.memory.used_blocks > _MOST - len(files):
            return []
        return self.engine.memory.take([file.decoded_bytes for file in files], urgent=urgent)

    def _on_gpu(self, files: Sequence[JpegFile], blocks: Sequence[DeviceBuffer]) -> Sequence[DeviceImage | None]:
        """Decode files; None for those that are left to the host."""
        count = len(files)
        return self._unless_full(partial(self.engine.decode, files, blocks), count) or [None] * count

    def _is_sound(self, check: PendingCheck) -> bool:
        """Whether the check found a lone file sound; False if the host has to judge it."""
        return self._unless_full(check.verdicts, 1) == [True]

    def _unless_full(self, ask: Callable[[], Asked], count: int) -> Asked | None:
        """What the engine gives for so many files; None if the device's memory is full, so that the host takes them."""
        try:
            return ask()
        except CudaError as error:
            if self._closed:
                raise self._is_closed() from error
            if error.code != OUT_OF_MEMORY:
                raise
            _logger.warning("%d JPEGs are decoded on the CPU, because the memory of the GPU is full", count)
            return None

    def _to_host(self, requests: Sequence[_Request]) -> None:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(min(_HOST_READERS, usable_cores()), f"{_THREAD_NAME}-host")
        self._for_host.extend(requests)
        try:
            for _ in requests:
                self._readers.submit(self._read_on_host)
        except RuntimeError:  # the process ends while some thread waits for files, or no thread can be started
            while self._for_host:
                self._read_on_host()

    def _read_on_host(self) -> None:
        try:
            request = self._for_host.popleft()
        except IndexError:  # another thread has read it
            return
        if not request.answer.cancelled():
            request.end(_on_host(request.file))


def _is_own_thread() -> bool:
    return threading.current_thread().name.startswith(_THREAD_NAME)


def _on_host(file: JpegFile) -> Decoded:
    """The host's judgement, which counts: its image, or its error."""
    try:
        return read_image(file.file)
    except Exception as error:  # whoever waits gets it, also if it is not ours
        return error
