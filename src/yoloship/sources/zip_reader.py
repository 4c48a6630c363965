"""Reads a zip archive through its table, without unpacking anything to the disk: `open_zip`, `zip_members`."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from yoloship.errors import InputError
from yoloship.sources.finding import natural_key
from yoloship.sources.member import Member, MemberKind, safe_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.sources.unpacking import ArchiveLimits

_ENCRYPTED: Final = 0x1
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
"""What is unpacked here. LZMA may ask for any amount of memory, and images gain nothing by it."""
_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, struct.error, NotImplementedError, RuntimeError,
    OverflowError, IndexError, KeyError,
)  # fmt: skip
"""What `zipfile` raises for damaged archives."""


class TableMissingError(InputError):
    """A zip archive whose table, which is at its end, is missing or damaged."""


@contextmanager
def open_zip(file: IO[bytes], limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    """Read the table of an archive, after a look at how large it is.

    Args:
        file: Open for reading, and seekable.
        limits: The limits of an archive.

    Raises:
        TableMissingError: there is no table that can be read.
        InputError: the table is too large, or says of entries that they share their bytes.
    """
    try:
        count, table_bytes = _stated(file)
        if count > limits.max_members or table_bytes > limits.max_directory_bytes:
            raise InputError(
                "has too many entries", expected=f"at most {limits.max_members:,}",
                got=f"{count:,} in a table of {table_bytes:,} bytes",
            )  # fmt: skip
        size_bytes = file.seek(0, 2)
        archive = zipfile.ZipFile(file)
    except InputError:
        raise
    except _DAMAGED as error:
        raise TableMissingError(f"its table of entries cannot be read: {error}") from error
    with archive:
        packed, unpacked = (
            sum(getattr(info, size) for info in archive.infolist()) for size in ("compress_size", "file_size")
        )
        if packed > size_bytes:
            raise InputError("is a zip bomb: its entries share their bytes")
        if limits.is_bomb(size_bytes, unpacked):
            raise InputError("is a zip bomb", got=f"{unpacked:,} bytes in an archive of {size_bytes:,}")
        yield archive


def zip_members(archive: zipfile.ZipFile, limits: ArchiveLimits) -> list[Member]:
    """All entries, by name: ``img2`` before ``img10``."""
    infos = sorted(archive.infolist(), key=lambda info: natural_key(info.filename))
    return [
        Member(
            safe_path(info.filename),
            _kind(info),
            partial(_content, archive, info, limits),
            is_encrypted=bool(info.flag_bits & _ENCRYPTED),
        )
        for info in infos
    ]


def _stated(file: IO[bytes]) -> tuple[int, int]:
    """How many entries the end of the archive states, and how many bytes of table.

    Source: APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
    """
    size = file.seek(0, 2)
    start = max(0, size - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("the end of the archive is missing")
    _, _, _, _, count, table_bytes, _, _ = _END.unpack_from(tail, at)
    locator = start + at - _LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        signature, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if signature == b"PK\x06\x07":
            file.seek(min(place, size))
            record = file.read(_END64.size)
            if len(record) == _END64.size and record.startswith(b"PK\x06\x06"):
                *_, count, table_bytes, _ = _END64.unpack(record)
    return count, min(table_bytes, size)


def _kind(info: zipfile.ZipInfo) -> MemberKind:
    mode = info.external_attr >> 16
    if info.filename.endswith("/"):
        return "folder"
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if not stat.S_IFMT(mode) or stat.S_ISREG(mode) else "special file"


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: ArchiveLimits) -> bytes:
    """The bytes of an entry.

    Raises:
        InputError: it is encrypted, too large, packed in another way, or damaged.
    """
    if info.flag_bits & _ENCRYPTED:
        raise InputError("is encrypted", hint="unpack the archive with its password")
    if info.compress_type not in _METHODS:
        problem = f"is packed by method {info.compress_type} of zip, which is not read here"
        raise InputError(problem, hint="unpack the archive")
    if info.file_size > limits.max_member_bytes:
        raise InputError(
            "is too large", expected=f"at most {limits.max_member_bytes:,} bytes", got=f"{info.file_size:,}"
        )
    if limits.is_bomb(info.compress_size, info.file_size):
        raise InputError("unpacks to much more than an image does", got=f"{info.file_size:,} of {info.compress_size:,}")
    try:
        with archive.open(info) as file:
            data = file.read(info.file_size + 1)
    except _DAMAGED as error:
        raise InputError(f"is damaged: {error}") from error
    if len(data) != info.file_size:
        raise InputError("is damaged", expected=f"{info.file_size:,} bytes", got=f"{len(data):,}")
    return data
