"""Reads compressed bytes in small pieces and within limits: `Unpacked`, for tar archives."""

from __future__ import annotations

import bz2
import lzma
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

Packing: TypeAlias = Literal["tar", "gzip", "bzip2", "xz"]

_IN_BYTES: Final = 1 << 16
_OUT_BYTES: Final = 1 << 20
_XZ_MEMORY_BYTES: Final = 128 << 20
"""Twice what the highest level of xz needs, and far less than a file may ask for."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may cost.

    Attributes:
        max_member_bytes: Most bytes of one image.
        max_members: Most entries of an archive.
        max_directory_bytes: Most bytes of a zip archive's table of its entries.
        free_bytes: What may be unpacked whatever the ratio.
        max_ratio: Beyond that, most unpacked bytes for a packed one. Photos are about 1, and bombs 1000.
    """

    max_member_bytes: int = 256 << 20
    max_members: int = 2_000_000
    max_directory_bytes: int = 512 << 20
    free_bytes: int = 64 << 20
    max_ratio: int = 200

    def is_bomb(self, packed_bytes: int, unpacked_bytes: int) -> bool:
        """Whether so many bytes are too many for what they were packed in."""
        return unpacked_bytes > self.free_bytes and unpacked_bytes > self.max_ratio * packed_bytes


DEFAULT_ARCHIVE_LIMITS: Final = ArchiveLimits()


class _Decompressor(Protocol):
    """What `bz2` and `lzma` give."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """A member of a gzip file, in the form of `_Decompressor`."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)  # with the header of gzip and its checksum
        self._full = False

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._object.decompress(self._object.unconsumed_tail + data, max_length)
        self._full = len(out) == max_length  # there may be more of it without further input
        return out


_MAKE: Final[dict[Packing, Callable[[], _Decompressor]]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY_BYTES),
}


class Unpacked:
    """The unpacked bytes of a file, from its start to its end.

    Args:
        file: Open for reading, at its start.
        size_bytes: The length of the file.
        packing: How it is packed; ``tar`` is not at all.
        limits: What it may cost.
    """

    def __init__(self, file: IO[bytes], size_bytes: int, packing: Packing, limits: ArchiveLimits) -> None:
        self._file, self._size_bytes, self._limits = file, size_bytes, limits
        self._make = _MAKE.get(packing)
        self._object = None if self._make is None else self._make()
        self._in_bytes = self._out_bytes = 0
        self._ready = memoryview(b"")
        self._waiting = b""

    def read(self, count: int) -> bytes:
        """The next bytes; fewer only at the end.

        Raises:
            InputError: the file is damaged, cut short, or unpacks to too much.
        """
        if self._object is None:
            data = self._file.read(count)
            self._in_bytes += len(data)
            return data
        parts, missing = [], count
        while missing > 0:
            if not self._ready and not self._unpack():
                break
            part = bytes(self._ready[:missing])
            self._ready = self._ready[len(part) :]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def skip(self, count: int) -> bool:
        """Pass over some bytes; False if there are fewer. A file that is not packed is not read for this."""
        if self._object is None:
            self._in_bytes += count
            if self._in_bytes > self._size_bytes:
                return False
            self._file.seek(self._in_bytes)
            return True
        while count > 0:
            data = self.read(min(count, _OUT_BYTES))
            if not data:
                return False
            count -= len(data)
        return True

    def _unpack(self) -> bool:
        """Make more bytes ready; False at the end."""
        assert self._make is not None
        assert self._object is not None
        while not self._ready:
            if self._object.eof:
                rest = (self._object.unused_data or self._more()).lstrip(b"\0")  # members may be padded
                if not rest:
                    return False
                self._object, self._waiting = self._make(), rest
            if self._object.needs_input and not self._waiting:
                self._waiting = self._more()
                if not self._waiting:
                    raise InputError("is cut short")
            data, self._waiting = self._waiting, b""
            try:
                out = self._object.decompress(data, _OUT_BYTES)
            except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, MemoryError) as error:
                raise InputError(f"is damaged, or asks for too much memory: {error}") from error
            self._out_bytes += len(out)
            if self._limits.is_bomb(self._in_bytes, self._out_bytes):
                raise InputError(
                    "unpacks to much more than an archive of images does", got=f"{self._out_bytes:,} bytes so far",
                    expected=f"at most {self._limits.max_ratio} times its size",
                )  # fmt: skip
            self._ready = memoryview(out)
        return True

    def _more(self) -> bytes:
        data = self._file.read(_IN_BYTES)
        self._in_bytes += len(data)
        return data
