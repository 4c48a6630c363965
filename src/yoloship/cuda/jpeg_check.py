"""Whether JPEGs are sound, found out by the GPU: hardware decoders fill damaged images with something and say nothing.

`scan_header` reads a file's header. `JpegCheck` then reads the entropy-coded data of a batch, as kernels/jpeg_check.cu
describes. Nothing that the host's decoder refuses is sound. Of what is not sound, the host's decoder may take some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, upload
from yoloship.cuda.jpeg_scan import TABLE_BYTES, ScanHeader, scan_header
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

__all__ = ["CheckMemory", "JpegCheck", "ScanHeader", "launch_jpeg_check", "pack_scans", "scan_header"]

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
_TAIL_ARRAY: Final = np.frombuffer(TAIL, np.uint8)
MAX_UPLOAD_BYTES: Final = 512 << 20
"""Of a batch."""
_GROWTH: Final = 1.25
"""Memory grows by at least that, so that slowly growing batches do not allocate each time."""
_FIRST_BYTES: Final = 1 << 20


class JpegCheck(Closing):
    """Checks batches of JPEGs on the GPU, one batch after the other. A context manager.

    Device memory and pinned memory grow with the largest batch.

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
        self._count = 0
        self._staging: PinnedBuffer | None = None
        self._upload: DeviceBuffer | None = None
        self._chunks: DeviceBuffer | None = None
        self._verdicts: DeviceBuffer | None = None
        self._answers: PinnedBuffer | None = None
        for entry in ("jpeg_read", "jpeg_judge"):
            kernels[entry]  # compiled and loaded now
        try:
            self._verdicts = DeviceBuffer(device, 4 * max_batch)
            self._answers = PinnedBuffer(device, 4 * max_batch)
            self._grow(_FIRST_BYTES, _FIRST_BYTES)
        except BaseException:
            self.close()
            raise

    def begin(self, stream: Stream, files: Sequence[bytes | memoryview], headers: Sequence[ScanHeader]) -> None:
        """Copy the data of a batch, and queue its upload and its check.

        The batch before must be done: the stream has passed it.

        Args:
            stream: The stream on which it runs.
            files: Whole files. They may change when this returns.
            headers: What `scan_header` gave for each.

        Raises:
            InputError: there are no files, too many or too large ones.
            CudaError: out of memory, or a launch failed. Nothing is known of the batch then.
        """
        self._count = 0
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
        self._grow(size, chunks * CHUNK_RESULT_BYTES)
        if (
            self._staging is None
            or self._upload is None
            or self._chunks is None
            or self._verdicts is None
            or self._answers is None
        ):
            raise InputError("is closed", subject="JpegCheck")
        staged = self._staging.array(np.uint8, (size,))
        staged[: scans.nbytes] = scans.view(np.uint8)
        body = staged[scans.nbytes :]
        for data, header, begin in zip(files, headers, scans["data_at"].tolist(), strict=True):
            end = begin + header.data_bytes
            body[begin:end] = np.frombuffer(data, np.uint8, header.data_bytes, header.data_at)
            body[end : end + len(TAIL)] = _TAIL_ARRAY
        upload(stream, self._upload.pointer, staged)
        table = self._upload.pointer
        memory = CheckMemory(table, table + scans.nbytes, self._chunks.pointer, self._verdicts.pointer)
        launch_jpeg_check(self._kernels, stream, memory, headers)
        download(stream, self._answers.array(np.int32, (len(files),)), self._verdicts.pointer)
        self._count = len(files)

    def verdicts(self) -> list[bool]:
        """Whether each file of the batch is sound. Call it after the stream has passed what `begin` has queued.

        A file that is not sound has to be read by the host's decoder, which judges it, and may take it.
        """
        if self._answers is None:
            raise InputError("is closed", subject="JpegCheck")
        return [answer == 1 for answer in self._answers.array(np.int32, (self._count,)).tolist()]

    def _grow(self, upload_bytes: int, chunks_bytes: int) -> None:
        if self._verdicts is None:
            raise InputError("is closed", subject="JpegCheck")
        if self._upload is None or self._staging is None or upload_bytes > self._upload.size_bytes:
            for old in (self._upload, self._staging):
                if old is not None:
                    old.close()
            self._upload = self._staging = None
            size = int(upload_bytes * _GROWTH)
            self._upload = DeviceBuffer(self._device, size)
            self._staging = PinnedBuffer(self._device, size)
        if self._chunks is None or chunks_bytes > self._chunks.size_bytes:
            if self._chunks is not None:
                self._chunks.close()
                self._chunks = None
            self._chunks = DeviceBuffer(self._device, int(chunks_bytes * _GROWTH))

    def close(self) -> None:
        """Give the memory back. Nothing of it may be in use. Closing twice is not an error."""
        for buffer in (self._staging, self._upload, self._chunks, self._verdicts, self._answers):
            if buffer is not None:
                buffer.close()
        self._staging = self._upload = self._chunks = self._verdicts = self._answers = None
        self._count = 0


def pack_scans(headers: Sequence[ScanHeader]) -> tuple[npt.NDArray[np.void], int, int]:
    """The table that the kernels read.

    Args:
        headers: Of the images of a batch.

    Returns:
        (n,) `SCAN_DTYPE`; the bytes of the upload, which has the data of each image at its `data_at`; and the number of
        chunks of all images.
    """
    scans = np.zeros(len(headers), SCAN_DTYPE)
    rows = []
    at = chunks = 0
    for header in headers:
        count = header.data_bytes // CHUNK_BYTES + 1
        pattern = _pattern_blocks(header)
        rows.append(
            (
                at, header.data_bytes, count, chunks, header.mcus, header.mcu_blocks, header.restart_mcus, pattern,
                header.dc_tables, header.ac_tables,
            )
        )  # fmt: skip
        at += -(-(header.data_bytes + len(TAIL)) // _ALIGNMENT) * _ALIGNMENT
        chunks += count
    numbers = scans.view(np.int32).reshape(len(headers), -1)
    numbers[:, :10] = rows
    scans["tables"] = np.frombuffer(b"".join([header.tables for header in headers]), np.uint8).reshape(
        -1, 4, TABLE_BYTES
    )
    return scans, at, chunks


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
