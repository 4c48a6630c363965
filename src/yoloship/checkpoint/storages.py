"""Storages: the bytes behind tensors, found now and read when asked for."""

from __future__ import annotations

import mmap
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.tensors import DType

STORAGE_DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "torch.FloatStorage": "float32",
        "torch.HalfStorage": "float16",
        "torch.DoubleStorage": "float64",
        "torch.BFloat16Storage": "bfloat16",
        "torch.LongStorage": "int64",
        "torch.IntStorage": "int32",
        "torch.ShortStorage": "int16",
        "torch.CharStorage": "int8",
        "torch.ByteStorage": "uint8",
        "torch.BoolStorage": "bool",
        "torch.storage.UntypedStorage": "uint8",
        "torch.UntypedStorage": "uint8",
    }
)
"""The storage classes that torch.save names, and their element types. An untyped one counts bytes."""

NUMPY_DTYPES: Mapping[DType, np.dtype[np.generic]] = MappingProxyType(
    {
        "bool": np.dtype("?"),
        "uint8": np.dtype("u1"),
        "int8": np.dtype("i1"),
        "int16": np.dtype("<i2"),
        "int32": np.dtype("<i4"),
        "int64": np.dtype("<i8"),
        "float16": np.dtype("<f2"),
        "bfloat16": np.dtype("<u2"),
        "float32": np.dtype("<f4"),
        "float64": np.dtype("<f8"),
    }
)
"""How NumPy sees each element type in the file, which is little-endian; bfloat16 as bit patterns."""


_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_LEAST_RELEASED = 1 << 16
"""Bytes below which it is not worth a call of the system."""


class Piece(Protocol):
    """A run of bytes in the container."""

    @property
    def nbytes(self) -> int:
        """How many there are, uncompressed."""

    def read(self) -> memoryview:
        """The bytes, read only.

        Raises:
            CheckpointError: they are damaged.
        """

    def release(self) -> None:
        """Let go of the memory that the bytes take, as far as they can be had again at no cost."""


class PlainPiece:
    """Bytes that stand in the file as they are: a view of the mapping, no copy.

    Args:
        buffer: The mapped file, or its bytes.
        start: Position of the first byte; the caller has checked the bounds.
        nbytes: Length.
        crc: CRC-32 of the bytes where the container has one; checked at the first read.
        subject: For messages.
    """

    __slots__ = ("_buffer", "_crc", "_nbytes", "_start", "_subject")

    def __init__(self, buffer: bytes | mmap.mmap, start: int, nbytes: int, *, crc: int | None, subject: str) -> None:
        self._buffer = buffer
        self._start = start
        self._nbytes = nbytes
        self._crc = crc
        self._subject = subject

    @property
    def nbytes(self) -> int:
        """Length, uncompressed."""
        return self._nbytes

    def read(self) -> memoryview:
        """A view of the file."""
        view = memoryview(self._buffer)[self._start : self._start + self._nbytes]
        crc = self._crc
        if crc is not None:
            check_crc(view, crc, self._subject)
            self._crc = None  # once is enough; two threads that both check do no harm
        return view

    def release(self) -> None:
        """Give the mapped pages back to the system, which reads them again when they are asked for.

        Without this a program that goes through the weights once would in the end hold the whole file.
        """
        if isinstance(self._buffer, mmap.mmap) and _DONT_NEED is not None and self._nbytes >= _LEAST_RELEASED:
            start = self._start - self._start % mmap.PAGESIZE
            self._buffer.madvise(_DONT_NEED, start, self._start + self._nbytes - start)


class DeflatedPiece:
    """Compressed bytes; inflated at the first read, never beyond the size that the directory claims."""

    __slots__ = ("_compressed", "_crc", "_inflated", "_nbytes", "_subject")

    def __init__(self, compressed: PlainPiece, nbytes: int, *, crc: int, subject: str) -> None:
        self._compressed = compressed
        self._nbytes = nbytes
        self._crc = crc
        self._subject = subject
        self._inflated: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Length, uncompressed."""
        return self._nbytes

    def read(self) -> memoryview:
        """A view of the inflated bytes, which are kept."""
        if self._inflated is None:
            machine = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                inflated = machine.decompress(self._compressed.read(), self._nbytes + 1)
            except zlib.error as error:
                raise CheckpointError(f"compressed data is damaged: {error}", subject=self._subject) from error
            if len(inflated) != self._nbytes:
                got = f"{len(inflated)} bytes" if len(inflated) < self._nbytes else "more"
                raise CheckpointError(
                    "compressed data has another size than the directory says",
                    subject=self._subject,
                    expected=f"{self._nbytes} bytes",
                    got=got,
                )
            check_crc(memoryview(inflated), self._crc, self._subject)
            self._inflated = inflated
        return memoryview(self._inflated)

    def release(self) -> None:
        """Nothing: to inflate again costs time, and many tensors may lie in one piece."""


def check_crc(view: memoryview, crc: int, subject: str) -> None:
    """Compare a member's bytes with the checksum that the container has for it.

    Raises:
        CheckpointError: they differ.
    """
    found = zlib.crc32(view)
    if found != crc:
        raise CheckpointError(
            "bytes are damaged",
            subject=subject,
            expected=f"CRC-32 {crc:08x}",
            got=f"{found:08x}",
            hint="copy or download the file again",
        )


class LazyStorage:
    """One storage of the file. Satisfies `yoloship.checkpoint.records.Storage`.

    It holds a reference to the mapping (through its piece); arrays that `elements` returns hold one too, so the file
    stays mapped until the last of them has gone, and nobody has to close anything.
    """

    __slots__ = ("dtype", "length", "piece", "subject")

    def __init__(self, dtype: DType, length: int, piece: Piece | None, *, subject: str) -> None:
        self.dtype: DType = dtype
        self.length = length
        self.piece = piece
        self.subject = subject

    def elements(self) -> npt.NDArray[np.generic]:
        """(length,) read-only view of the file, bfloat16 as uint16 bit patterns.

        Raises:
            CheckpointError: the bytes are not there, or are damaged.
        """
        if self.length == 0:
            return np.empty(0, NUMPY_DTYPES[self.dtype])
        if self.piece is None:
            raise CheckpointError("the file does not hold this storage", subject=self.subject)
        array = np.frombuffer(self.piece.read(), NUMPY_DTYPES[self.dtype], self.length)
        array.flags.writeable = False
        return array

    def release(self) -> None:
        """See `Piece.release`."""
        if self.piece is not None:
            self.piece.release()

    def retyped(self, dtype: DType) -> LazyStorage:
        """The same bytes as elements of another type; what does not fill an element is left out."""
        nbytes = self.length * NUMPY_DTYPES[self.dtype].itemsize
        return LazyStorage(dtype, nbytes // NUMPY_DTYPES[dtype].itemsize, self.piece, subject=self.subject)
