"""Decodes JPEG files that wait at the same time as one batch: `JpegQueue`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yoloship._util.closing import Closing
from yoloship._util.cores import usable_cores
from yoloship.cuda.device import LOST_CODES, OUT_OF_MEMORY
from yoloship.detect.gpu.jpeg_engine import MAX_FILES, one_batch
from yoloship.detect.pipeline import Encoded
from yoloship.errors import CudaError, SessionError, YoloshipError
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.cuda.buffers import DeviceBuffer
    from yoloship.cuda.device import Device
    from yoloship.cuda.device_image import DeviceImage
    from yoloship.detect.gpu.jpeg_engine import JpegEngine, JpegFile

Decoded: TypeAlias = "DeviceImage | npt.NDArray[np.uint8] | BaseException"
"""An image on the device; (height, width, 3) uint8 BGR on the host; or why there is none."""

_WAITING: Final = 512
"""Files that may wait; with more, `put` blocks."""
_HOST_READERS: Final = 8
_THREAD_NAME: Final = "yoloship-jpeg"


def _always() -> bool:
    return True


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

    def decode_later(
        self, then: Callable[[Any], None], *, is_wanted: Callable[[], bool] = _always, may_wait: bool = True
    ) -> None:
        """Queue it; `then` gets a `DeviceImage`, an array (height, width, 3) BGR, or an error."""
        self.queue.put(self.jpeg, then, is_wanted=is_wanted, may_wait=may_wait)

    def decode_soon(self) -> DeviceImage | npt.NDArray[np.uint8]:
        """Decode it together with those that other threads wait for, and wait for it.

        Raises:
            YoloshipError: it is damaged, the device failed, or the detector is closed.
        """
        done: Future[Any] = Future()
        self.queue.put(self.jpeg, done.set_result)
        found: Decoded = done.result()
        if isinstance(found, BaseException):
            raise found
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """A file that waits.

    Attributes:
        file: The file.
        is_wanted: Asked before it is decoded.
        then: Called with what became of it, by one of the queue's threads.
        room: Where it has taken a place; None if it was let in without one.
    """

    file: JpegFile
    is_wanted: Callable[[], bool]
    then: Callable[[Decoded], None]
    room: threading.Semaphore | None

    def drop(self) -> bool:
        """Leave its place to another if it is not wanted any more; whether it did."""
        if self.is_wanted():
            return False
        self.leave()
        return True

    def end(self, found: Decoded) -> None:
        """Leave its place to another, and say what became of it."""
        self.leave()
        self.then(found)

    def leave(self) -> None:
        """Leave its place to another."""
        if self.room is not None:
            self.room.release()


class JpegQueue(Closing):
    """A thread that decodes what waits, in batches. No batch waits for more files, so a single one is decoded at once.

    While the device's memory for images is in use, files wait until some of it is given back. Files that the engine
    refuses, or that are not sound, go to the host's reader, in threads of their own.

    Args:
        engine: The GPU's; closed with the queue.
        model_name: For messages.

    Attributes:
        is_lost: Whether the GPU's context was lost in a batch.
    """

    def __init__(self, engine: JpegEngine, model_name: str) -> None:
        self.engine = engine
        self._model_name = model_name
        self._room = threading.Semaphore(_WAITING)
        self._calls: SimpleQueue[_Request | None] = SimpleQueue()  # as for `Batcher`, it takes no lock of ours
        self._held: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._closed = self._abandoned = self.is_lost = False
        self._readers: ThreadPoolExecutor | None = None
        self._thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Files that wait."""
        return self._calls.qsize() + len(self._held)

    def put(
        self,
        file: JpegFile,
        then: Callable[[Decoded], None],
        *,
        is_wanted: Callable[[], bool] = _always,
        may_wait: bool = True,
    ) -> None:
        """Queue a file.

        Args:
            file: The file.
            then: Called once with what became of it, by one of the queue's threads. It must not raise.
            is_wanted: If it says no when the file's turn comes, the file is dropped, and nothing is called.
            may_wait: Whether to wait for room. The queue's own threads never do.

        Raises:
            SessionError: the queue is closed.
        """
        may_wait = may_wait and not threading.current_thread().name.startswith(_THREAD_NAME)
        takes_room = self._room.acquire(blocking=may_wait)
        request = _Request(file, is_wanted, then, self._room if takes_room else None)
        with self._lock:
            if self._closed:
                request.leave()
                raise self._is_closed()
            self._calls.put(request)

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

    def abandon(self) -> None:
        """Decode what waits, and then end the thread and close the engine, without waiting for it."""
        self._abandoned = True
        self._calls.put(None)

    def close(self) -> None:
        """Finish the batch in progress, fail what waits, and give everything back. Closing twice is not an error."""
        with self._lock:
            self._closed = True
        self.engine.memory.close()  # so that nobody waits for memory
        self._calls.put(None)
        is_own = threading.current_thread().name.startswith(_THREAD_NAME)
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
        requests: list[_Request] = []
        is_over = False
        while len(requests) < MAX_FILES:
            if self._held:
                request = self._held.popleft()
            else:
                try:
                    called = self._calls.get(block=not requests and not is_over)
                except Empty:
                    break
                if called is None:
                    is_over = True
                    continue
                request = called
            if not request.drop():
                requests.append(request)
        if is_over:
            self._calls.put(None)  # for the next round
        if not self._closed:
            return requests
        while True:
            for request in (*requests, *self._held):
                request.end(self._is_closed())
            self._held.clear()
            try:
                called = self._calls.get_nowait()
            except Empty:
                return []
            requests = [] if called is None else [called]

    def _decode(self, requests: list[_Request]) -> None:
        """Decode as many of the requests as have room, and hold the others back."""
        if self.engine.has_given_up:
            self._to_host(requests)
            return
        files = one_batch([request.file for request in requests])
        try:
            blocks = self._blocks(files)
            while not blocks and self.engine.memory.wait():
                blocks = self._blocks(files)
            count = len(blocks) or 1
            self._held.extendleft(reversed(requests[count:]))
            images = self._on_gpu(files[:count], blocks) if blocks else [None]
        except BaseException as error:
            self.is_lost = self.is_lost or (isinstance(error, CudaError) and error.code in LOST_CODES)
            for request in requests:
                if request not in self._held:
                    request.end(error)
            return
        for request, image in zip(requests, images, strict=False):
            if image is not None:
                request.end(image)
            elif self._closed:
                request.end(self._is_closed())
            else:
                self._to_host([request])

    def _blocks(self, files: Sequence[JpegFile], *, urgent: bool = False) -> list[DeviceBuffer]:
        """Memory for as many of the files as there is room for, from the first on."""
        memory = self.engine.memory
        blocks: list[DeviceBuffer] = []
        try:
            for file in files:
                block = memory.take(file.decoded_bytes, urgent=urgent)
                if block is None:
                    break
                blocks.append(block)
        except BaseException:
            for block in blocks:
                memory.give(block)
            raise
        return blocks

    def _on_gpu(self, files: Sequence[JpegFile], blocks: Sequence[DeviceBuffer]) -> Sequence[DeviceImage | None]:
        """Decode files; None for those that are left to the host."""
        try:
            return self.engine.decode(files, blocks)
        except CudaError as error:
            if self._closed:
                raise self._is_closed() from error
            if error.code != OUT_OF_MEMORY:
                raise
            _logger.warning("%d JPEGs are decoded on the CPU, because the memory of the GPU is full", len(files))
            return [None] * len(files)

    def _to_host(self, requests: Sequence[_Request]) -> None:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(min(_HOST_READERS, usable_cores()), f"{_THREAD_NAME}-host")
        for request in requests:
            self._readers.submit(_end_on_host, request)


def _end_on_host(request: _Request) -> None:
    if not request.drop():
        request.end(_on_host(request.file))


def _on_host(file: JpegFile) -> Decoded:
    """The host's judgement, which counts: its image, or its error."""
    try:
        return read_image(file.file)
    except YoloshipError as error:
        return error
