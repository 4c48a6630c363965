"""Reads a tar archive from its start to its end, entry by entry, and writes nothing: `tar_members`.

Only what images need is read: plain files with names of any length. Links, devices and sparse files are named and
passed over. A header that does not add up ends the archive.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError
from yoloship.sources.member import Member, MemberKind, safe_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.sources.unpacking import ArchiveLimits, Unpacked

BLOCK_BYTES: Final = 512
_MAX_NAME_BYTES: Final = 1 << 16
_MAX_PAX_BYTES: Final = 1 << 20
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_PAX: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_KINDS: Final[dict[bytes, MemberKind]] = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "link", b"5": "folder",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    size: int
    type: bytes


def tar_members(unpacked: Unpacked, limits: ArchiveLimits) -> Iterator[Member]:
    """Each entry of an archive in its order.

    Args:
        unpacked: The bytes of the archive.
        limits: What an entry may cost.

    Raises:
        InputError: the archive is damaged or cut short there; what was given before is sound.
    """
    further: dict[bytes, bytes] = {}  # what a header before says of the next entry
    for count in range(limits.max_members * 2):  # with a header before each
        block = unpacked.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES and not count:
            raise InputError("is not a tar archive, or is cut short")
        if not block.strip(b"\0"):
            if len(block) < BLOCK_BYTES or further:
                raise InputError("is cut short: the mark at its end is missing")
            return
        header = _parsed(block)
        padding = -header.size % BLOCK_BYTES
        if header.type in b"LxX" and header.size:
            limit = _MAX_NAME_BYTES if header.type == b"L" else _MAX_PAX_BYTES
            if header.size > limit:
                raise InputError("is damaged: a name or a header is too long", got=f"{header.size:,} bytes")
            data = _exactly(unpacked, header.size)
            _skipped(unpacked, padding)
            further |= {b"path": data.rstrip(b"\0")} if header.type == b"L" else _pax(data)
            continue
        if header.type in b"gK":
            _skipped(unpacked, header.size + padding)
            continue
        header, is_sparse = _completed(header, further)
        further = {}
        left = _Left(unpacked, header.size)
        kind = "special file" if is_sparse else _KINDS.get(header.type, "special file")
        name = header.name.decode("utf-8", "surrogateescape")
        if kind == "file" and name.endswith("/"):
            kind = "folder"
        yield Member(safe_path(name), kind, partial(_content, left, limits))
        _skipped(unpacked, left.count + -header.size % BLOCK_BYTES)
    raise InputError("has too many entries", expected=f"at most {limits.max_members:,}")


class _Left:
    """How much of an entry has not been read."""

    def __init__(self, unpacked: Unpacked, count: int) -> None:
        self.unpacked, self.count = unpacked, count


def _content(left: _Left, limits: ArchiveLimits) -> bytes:
    if left.count > limits.max_member_bytes:
        raise InputError("is too large", expected=f"at most {limits.max_member_bytes:,} bytes", got=f"{left.count:,}")
    count, left.count = left.count, 0
    return _exactly(left.unpacked, count)


def _exactly(unpacked: Unpacked, count: int) -> bytes:
    data = unpacked.read(count)
    if len(data) < count:
        raise InputError("is cut short")
    return data


def _skipped(unpacked: Unpacked, count: int) -> None:
    if not unpacked.skip(count):
        raise InputError("is cut short")


def _parsed(block: bytes) -> _Header:
    """The header in a block.

    Raises:
        InputError: it is not one.
    """
    if len(block) < BLOCK_BYTES:
        raise InputError("is cut short")
    stated = _number(block[148:156])
    blank = block[:148] + b" " * 8 + block[156:]
    if stated not in {
        sum(blank),
        sum(blank) - 256 * sum(byte >= 128 for byte in blank),
    }:  # old programs add signed bytes
        raise InputError("is not a tar archive, or is damaged: the checksum of a header is wrong")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _Header(name, _number(block[124:136]), block[156:157])


def _number(field: bytes) -> int:
    """A number in octal digits; or in binary, after a first byte of 128, if it is large."""
    if field[0] == 128:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise InputError("is not a tar archive, or is damaged: a number in a header is not a number")
    return int(match[1] or b"0", 8)


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: ``LENGTH KEY=VALUE`` and a newline each."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _PAX.match(data, at)
        end = at + int(match[1]) if match is not None else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise InputError("is damaged: a pax header cannot be read")
        key, mark, value = data[match.end() : end - 1].partition(b"=")
        if not mark:
            raise InputError("is damaged: a pax header cannot be read")
        records[key] = value
        at = end
    return records


def _completed(header: _Header, further: dict[bytes, bytes]) -> tuple[_Header, bool]:
    """A header with what was said before it, and whether its file has holes that are not stored."""
    is_sparse = header.type == b"S" or any(key.startswith(b"GNU.sparse.") for key in further)
    if path := further.get(b"path"):
        header = replace(header, name=path)
    if (size := further.get(b"size")) is not None:
        if not re.fullmatch(rb"[0-9]{1,18}", size):
            raise InputError("is damaged: a size in a pax header is not a number")
        header = replace(header, size=int(size))
    return header, is_sparse
