"""Whether JPEGs are sound, found out by the GPU: hardware decoders fill damaged images with something and say nothing.

`scan_header` reads a file's header. `JpegCheck` then reads the entropy-coded data of a batch, as kernels/jpeg_check.cu
describes. Nothing that the host's decoder refuses is sound. Of what is not sound, the host's decoder may take some.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, upload
from yoloship.cuda.jpeg_scan import TABLE_BYTES, ScanHeader, scan_header
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

__all__ = ["CheckMemory", "JpegCheck", "PendingCheck", "ScanHeader", "launch_jpeg_check", "pack_scans", "scan_header"]

SCAN_DTYPE: Final = np.dtype(
    [
        ("data_at", "<i4"),
        ("data_bytes", "<i4"),
        ("chunks", "<i4"),
        ("first_chunk", "<i4"),
        ("mcus", "<i4"),
        ("mcu_blocks", "<i4"),
        ("restart_mcus", "<i4"),
        ("pattern_blocks", "<i4"),
        ("dc_tables", "<u4"),
        ("ac_tables", "<u4"),
        ("reserved", "<i4", (2,)),
        ("tables", "u1", (4, TABLE_BYTES)),
    ]
)
"""`struct JpegScan` of kernels/jpeg_check.cu, byte for byte."""
CHUNK_BYTES: Final = 256
CHUNK_RESULT_BYTES: Final = 48
_CHUNK_THREADS: Final = 128
_OWN_CHUNKS: Final = 112
_JUDGE_THREADS: Final = 256
_ALIGNMENT: Final = 16
TAIL: Final = b"\xff" * 16
"""What follows each image's data: it ends any reading, and a reader may look at all of it."""
_FILLING: Final = b"\xff" * 64
"""Of which a part is what lies between two images: at most `TAIL` and what makes up for their alignment."""
MAX_UPLOAD_BYTES: Final = 512 << 20
"""Of a batch."""
_GROWTH: Final = 1.25
"""Memory grows by at least that, so that slowly growing batches do not allocate each time."""
_FIRST_BYTES: Final = 1 << 20
_LARGE_BYTES: Final = 2 << 20
"""A batch of more is copied by a thread: at some gigabytes a second, that takes half as long as decoding the batch."""
_ALONE_BYTES: Final = 1 << 18
"""A single file of more likewise: to pack, copy and queue it takes a quarter as long as decoding it."""


class _Buffers(Closing):
    """Memory for batches.

    Args:
        device: The device.
        max_batch: The most images.
        upload_bytes: For the table and the data.
        chunks_bytes: For what the kernels find.
    """

    def __init__(self, device: Device, max_batch: int, upload_bytes: int, chunks_bytes: int) -> None:
        with ExitStack() as stack:
            self.staging = stack.enter_context(PinnedBuffer(device, upload_bytes))
            self.upload = stack.enter_context(DeviceBuffer(device, upload_bytes))
            self.chunks = stack.enter_context(DeviceBuffer(device, chunks_bytes))
            self.verdicts = stack.enter_context(DeviceBuffer(device, 4 * max_batch))
            self.answers = stack.enter_context(PinnedBuffer(device, 4 * max_batch))
            self._owned = stack.pop_all()

    def close(self) -> None:
        """Free it."""
        self._owned.close()


class PendingCheck:
    """The check of a batch that is under way. Any thread may ask for its verdicts, as often and as late as it likes.

    Args:
        stream: On which it runs.
        answers: What the kernels find comes here. It stays open until `wait` has returned.
        count: Images of the batch.
    """

    __slots__ = ("_answers", "_copying", "_count", "_failure", "_is_over", "_lock", "_sound", "_stream")

    def __init__(self, stream: Stream, answers: PinnedBuffer, count: int) -> None:
        self._stream = stream
        self._answers = answers
        self._count = count
        self._lock = threading.Lock()
        self._copying: Future[None] | None = None
        self._is_over = False
        self._failure: BaseException | None = None
        self._sound: list[bool] = []

    def begin_by(self, copier: ThreadPoolExecutor, queue: Callable[[], None]) -> None:
        """Let a thread queue it."""
        self._copying = copier.submit(queue)

    def wait(self) -> None:
        """Wait until nothing of it is under way, and keep what became of it."""
        with self._lock:
            if self._is_over:
                return
            failure = None if self._copying is None else self._copying.exception()
            try:
                self._stream.sync()
            except CudaError as error:
                failure = failure or error
            if failure is None:
                self._sound = [answer == 1 for answer in self._answers.array(np.int32, (self._count,)).tolist()]
            self._failure, self._copying = failure, None
            self._is_over = True

    def verdicts(self) -> list[bool]:
        """Wait for the check; whether each file of the batch is sound.

        A file that is not sound has to be read by the host's decoder, which judges it, and may take it.

        Raises:
            CudaError: the check failed. Nothing is known of the batch then.
        """
        self.wait()
        if self._failure is not None:
            raise self._failure
        return list(self._sound)


class JpegCheck(Closing):
    """Checks batches of JPEGs on the GPU, one batch after the other. A context manager.

    Device memory and pinned memory grow with the largest batch. One thread at a time may begin a check, or close it.

    Args:
        kernels: A `KernelSet`.
        device: The device.
        max_batch: The most images of a batch.

    Raises:
        InputError: `max_batch` is less than 1.
        CudaError: out of memory, or a kernel does not load.
    """

    def __init__(self, kernels: Mapping[str, Launchable], device: Device, max_batch: int) -> None:
        if max_batch < 1:
            raise InputError("must be positive", subject="JpegCheck.max_batch", got=str(max_batch))
        self._kernels = kernels
        self._device = device
        self._max_batch = max_batch
        self._copier: ThreadPoolExecutor | None = None
        self._last: PendingCheck | None = None
        for entry in ("jpeg_read", "jpeg_judge"):
            kernels[entry]  # compiled and loaded now
        self._buffers: _Buffers | None = _Buffers(device, max_batch, _FIRST_BYTES, _FIRST_BYTES)

    def begin(self, stream: Stream, files: Sequence[bytes | memoryview], headers: Sequence[ScanHeader]) -> PendingCheck:
        """Copy the data of a batch, and queue its upload and its check; or let a thread begin that, if it is large.

        It waits for the batch before, whose verdicts can still be asked for.

        Args:
            stream: The stream on which it runs.
            files: Whole files, which must not change until the verdicts are there.
            headers: What `scan_header` gave for each.

        Returns:
            The check, which gives the verdicts.

        Raises:
            InputError: there are no files, too many or too large ones.
            CudaError: out of memory, or a launch failed. Nothing is known of the batch then.
        """
        self._finish_last()
        if not 1 <= len(files) <= self._max_batch or len(files) != len(headers):
            raise InputError(
                "wrong number of files",
                subject="JpegCheck",
                expected=f"1 to {self._max_batch}, each with its header",
                got=f"{len(files)} files and {len(headers)} headers",
            )
        scans, data_bytes, chunks = pack_scans(headers)
        size = scans.nbytes + data_bytes
        if size > MAX_UPLOAD_BYTES:
            raise InputError(
                "too many bytes at once", subject="JpegCheck", expected=f"at most {MAX_UPLOAD_BYTES}", got=str(size)
            )
        buffers = self._with_room(size, chunks * CHUNK_RESULT_BYTES)
        batch = _Batch(files, headers, scans, size)
        check = self._last = PendingCheck(stream, buffers.answers, len(files))
        if size < (_LARGE_BYTES if len(files) > 1 else _ALONE_BYTES):
            self._queue(buffers, stream, batch)
        else:
            if self._copier is None:
                self._copier = ThreadPoolExecutor(1, "yoloship-jpeg-check")
            check.begin_by(self._copier, partial(self._queue, buffers, stream, batch))
        return check

    def _finish_last(self) -> None:
        """Wait until nothing of the last batch is under way: its memory is about to be used again, or to be freed."""
        if self._last is not None:
            self._last.wait()
            self._last = None

    def _queue(self, buffers: _Buffers, stream: Stream, batch: _Batch) -> None:
        scans = batch.scans
        staged = buffers.staging.array(np.uint8, (batch.upload_bytes,))
        staged[: scans.nbytes] = scans.view(np.uint8)
        # Who gives Python's lock up gets it back after 5 ms if another thread runs Python. NumPy would do so for each
        # file. To join the bytes of whole files does so once for all of them, from a mebibyte on.
        if batch.upload_bytes >= _LARGE_BYTES:
            staged[scans.nbytes :] = np.frombuffer(b"".join(_pieces(batch)), np.uint8)
        else:
            body, at = staged[scans.nbytes :].data, 0
            for piece in _pieces(batch):
                body[at : at + len(piece)] = piece
                at += len(piece)
        table, verdicts = buffers.upload.pointer, buffers.verdicts.pointer
        upload(stream, table, staged)
        memory = CheckMemory(table, table + scans.nbytes, buffers.chunks.pointer, verdicts)
        launch_jpeg_check(self._kernels, stream, memory, batch.headers)
        download(stream, buffers.answers.array(np.int32, (len(scans),)), verdicts)

    def _with_room(self, upload_bytes: int, chunks_bytes: int) -> _Buffers:
        buffers = self._buffers
        if buffers is None:
            raise InputError("is closed", subject="JpegCheck")
        if upload_bytes > buffers.upload.size_bytes or chunks_bytes > buffers.chunks.size_bytes:
            self._buffers = None
            buffers.close()
            sizes = max(upload_bytes, buffers.upload.size_bytes), max(chunks_bytes, buffers.chunks.size_bytes)
            try:
                buffers = _Buffers(self._device, self._max_batch, *(int(size * _GROWTH) for size in sizes))
            except CudaError:  # a smaller batch may have room
                self._buffers = _Buffers(self._device, self._max_batch, _FIRST_BYTES, _FIRST_BYTES)
                raise
            self._buffers = buffers
        return buffers

    def close(self) -> None:
        """Wait for the batch under way, and give the memory back. Closing twice is not an error."""
        self._finish_last()
        if self._copier is not None:
            self._copier.shutdown()
            self._copier = None
        if self._buffers is not None:
            self._buffers.close()
            self._buffers = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Files, with their table."""

    files: Sequence[bytes | memoryview]
    headers: Sequence[ScanHeader]
    scans: npt.NDArray[np.void]
    upload_bytes: int


def _pieces(batch: _Batch) -> list[bytes | memoryview]:
    """What is uploaded behind the table: whole files, and what ends reading around them."""
    pieces: list[bytes | memoryview] = []
    at = 0
    for data, header, data_at in zip(batch.files, batch.headers, batch.scans["data_at"].tolist(), strict=True):
        pieces += (_FILLING[: data_at - header.data_at - at], data[: header.data_at + header.data_bytes])
        at = data_at + header.data_bytes
    pieces.append(_FILLING[: batch.upload_bytes - batch.scans.nbytes - at])
    return pieces


def pack_scans(headers: Sequence[ScanHeader]) -> tuple[npt.NDArray[np.void], int, int]:
    """The table that the kernels read.

    Args:
        headers: Of the images of a batch.

    Returns:
        (n,) `SCAN_DTYPE`; the bytes of the upload, which has the data of each image at its `data_at`, with room for the
        rest of its file before that, and `TAIL` behind it; and the number of chunks of all images.
    """
    scans = np.zeros(len(headers), SCAN_DTYPE)
    rows = []
    at = chunks = 0
    for header in headers:
        count = header.data_bytes // CHUNK_BYTES + 1
        pattern = _pattern_blocks(header)
        at = _aligned(at + header.data_at)
        rows.append(
            (
                at, header.data_bytes, count, chunks, header.mcus, header.mcu_blocks, header.restart_mcus, pattern,
                header.dc_tables, header.ac_tables,
            )
        )  # fmt: skip
        at += header.data_bytes + len(TAIL)
        chunks += count
    numbers = scans.view(np.int32).reshape(len(headers), -1)
    numbers[:, :10] = rows
    scans["tables"] = np.frombuffer(b"".join([header.tables for header in headers]), np.uint8).reshape(
        -1, 4, TABLE_BYTES
    )
    return scans, _aligned(at), chunks


def _aligned(at: int) -> int:
    return -(-at // _ALIGNMENT) * _ALIGNMENT


def _pattern_blocks(header: ScanHeader) -> int:
    """After how many blocks the tables of an MCU repeat: the reader cannot tell more blocks than these apart."""
    whole = (1 << header.mcu_blocks) - 1
    same = header.dc_tables in {0, whole} and header.ac_tables in {0, whole}
    return 1 if same else header.mcu_blocks


@dataclass(frozen=True, slots=True)
class CheckMemory:
    """Device addresses of a batch.

    Attributes:
        table: What `pack_scans` made.
        upload: The images' data at their `data_at`, each followed by `TAIL`.
        chunks: `CHUNK_RESULT_BYTES` for each chunk, for the kernels alone.
        verdicts: (n,) int32. A 1 is written for each sound image, and a 0 for the others.
    """

    table: int
    upload: int
    chunks: int
    verdicts: int


def launch_jpeg_check(
    kernels: Mapping[str, Launchable], stream: Stream, memory: CheckMemory, headers: Sequence[ScanHeader]
) -> None:
    """Queue the check of a batch.

    Args:
        kernels: A `KernelSet`.
        stream: The stream on which it runs.
        memory: Where it lies.
        headers: Those of the table.

    Raises:
        CudaError: a launch failed.
    """
    most = max(header.data_bytes for header in headers) // CHUNK_BYTES + 1
    grid = (-(-most // _OWN_CHUNKS), len(headers), 1)
    batch = (memory.table, memory.upload, memory.chunks)
    kernels["jpeg_read"].launch(stream, grid, (_CHUNK_THREADS, 1, 1), *batch)
    kernels["jpeg_judge"].launch(stream, (len(headers), 1, 1), (_JUDGE_THREADS, 1, 1), *batch, memory.verdicts)
