"""Who decodes JPEG files for a detector on a GPU: `JpegDecoding`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship.detect.gpu.jpeg_engine import MAX_FILES, JpegEngine, jpeg_file
from yoloship.detect.gpu.jpeg_queue import JpegQueue, QueuedJpeg
from yoloship.detect.pipeline import Decoding
from yoloship.errors import CudaError, DependencyError, SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.images import DecodeChoice, ImageFile


_logger = logging.getLogger("yoloship.detect")


class JpegDecoding(Closing):
    """Opens the GPU's JPEG engine, or says why it is not used. Threads may share it.

    Opening takes most of a second, so a thread does it: from `begin` on, or from the first file on.

    Args:
        device: The GPU.
        kernels: A `KernelSet` of that device, open longer than this.
        choice: With ``gpu``, JPEG files wait until the engine is open, and none is decoded if that fails. With
            ``auto``, files of a stream wait, and the CPU decodes others until then. ``cpu`` never opens it.
        model_name: For messages.
        gpus: That this process uses.

    Attributes:
        choice: As above.
    """

    def __init__(
        self, device: Device, kernels: Mapping[str, Launchable], choice: DecodeChoice, model_name: str, gpus: int = 1
    ) -> None:
        self._device = device
        self._gpus = gpus
        self._kernels = kernels
        self.choice = choice
        self._model_name = model_name
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._queue: JpegQueue | None = None
        self._opener: threading.Thread | None = None
        self._is_settled = self._closed = False
        self._reason = ""
        self._is_demanded = choice == "gpu"
        self._refusal: CudaError | DependencyError | None = None
        if choice == "cpu":
            self._is_settled, self._reason = True, "chosen"

    def begin(self) -> None:
        """Open the engine in a thread, unless that has begun."""
        if self._is_settled or self._opener is not None:
            return

        def work() -> None:
            with contextlib.suppress(CudaError, DependencyError, SessionError):  # whoever asks gets it
                self.queue()

        self._opener = threading.Thread(target=work, name="yoloship-jpeg-open")
        self._opener.start()

    @property
    def chosen(self) -> Decoding:
        """Who decodes, and why. The engine is opened if it was not, as by `queue`."""
        queue = self.queue()
        if queue is None:
            return Decoding("cpu", self._reason)
        if queue.engine.has_given_up:
            return Decoding("cpu", "the GPU refused too many files")
        return Decoding("gpu", queue.engine.library)

    @property
    def files_ahead(self) -> int:
        """Files worth reading ahead for the engine: a batch in it, and one that waits; 0 if the CPU decodes."""
        return 0 if self._is_settled and self._queue is None else 2 * MAX_FILES

    def queue(self) -> JpegQueue | None:
        """The queue of the GPU's engine; None if the CPU decodes.

        Raises:
            CudaError: the choice is ``gpu``, and the GPU has no JPEG engine, or it failed.
            DependencyError: the choice is ``gpu``, and the library nvJPEG is not installed.
            SessionError: it is closed.
        """
        if not self._is_settled:
            with self._lock:
                if self._closed:
                    raise SessionError("the detector is closed", subject=self._model_name)
                if self._refusal is not None:
                    raise self._refusal.with_traceback(None)
                if not self._is_settled:
                    try:
                        self._open()
                    except (CudaError, DependencyError) as error:
                        if self._is_demanded:
                            self._refusal = error
                            raise
                        self._reason = f"{error.subject}: {error.problem}"
                        self._is_settled = True
                        _logger.info("JPEGs are decoded on the CPU: %s", error)
        return self._queue

    @property
    def waiting(self) -> int:
        """Files that wait to be decoded on the GPU."""
        return 0 if self._queue is None else self._queue.waiting

    @property
    def is_lost(self) -> bool:
        """Whether the GPU's context was lost while it decoded."""
        return self._queue is not None and self._queue.is_lost

    def taken(self, file: ImageFile, *, of_stream: bool = False) -> QueuedJpeg | None:
        """A file in the form that the engine decodes; None if the host's reader must decode it.

        Args:
            file: The file.
            of_stream: Whether more will come. Then it waits until the engine is open: the network is not ready before,
                and to pin memory for images of the host would hold up both.

        Raises:
            YoloshipError: as `queue`, if the choice is ``gpu``.
        """
        if file.header.format != "JPEG":
            return None
        if not self._is_settled:
            if self._is_demanded or of_stream:
                self.queue()
            else:
                self.begin()
        queue = self._queue
        if queue is None or queue.engine.has_given_up:
            return None
        jpeg = jpeg_file(file)
        return None if jpeg is None else QueuedJpeg(jpeg, queue)

    def close(self) -> None:
        """Finish the batch in progress, fail what waits, and give everything back. Closing twice is not an error."""
        if os.getpid() != self._pid:  # a forked child, where a thread that does not run may hold the locks
            return
        with self._lock:  # which who opens the engine holds
            self._closed = True
            queue = self._queue
        if queue is not None:
            queue.close()

    def _open(self) -> None:
        self._queue = queue = JpegQueue(JpegEngine(self._device, self._kernels), self._model_name, self._gpus)
        weakref.finalize(self, queue.abandon).atexit = False  # its thread keeps the engine otherwise
        self._is_settled = True
        _logger.info("JPEGs are decoded on %s by %s", self._device, queue.engine.library)
