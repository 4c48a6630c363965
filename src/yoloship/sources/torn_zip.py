"""Reads what is left of a zip archive that was cut short: `torn_members`.

The table of a zip archive is at its end. Without it, the header before each entry says its name and its size, or where
its packed bytes end. So entries are read from the start, until one is not whole.

Source: APPNOTE.TXT 6.3.10, sections 4.3.7 (local file header) and 4.3.9 (data descriptor).
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import IO, TYPE_CHECKING, Final, NoReturn

from yoloship.errors import InputError
from yoloship.sources.member import Member, safe_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.sources.unpacking import ArchiveLimits

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CHUNK_BYTES: Final = 1 << 16
_ENCRYPTED, _DESCRIPTOR_FOLLOWS, _UTF8 = 0x1, 0x8, 0x800
_IN_EXTRA: Final = 0xFFFF_FFFF
"""A size that is in the extra field of zip64 instead."""


def torn_members(file: IO[bytes], limits: ArchiveLimits) -> Iterator[Member]:
    """Each entry that is whole, in its order.

    Args:
        file: Open for reading, at its start.
        limits: What an entry may cost.

    Raises:
        InputError: what follows is not whole; what was given before is sound.
    """
    total = 0
    for _ in range(limits.max_members):
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            break
        _, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL.unpack(head)
        name = file.read(name_bytes).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        extra = file.read(extra_bytes)
        is_plain = not flags & _ENCRYPTED and method in {0, 8} and _IN_EXTRA not in {packed, unpacked}
        if not is_plain or (flags & _DESCRIPTOR_FOLLOWS and method == 0) or len(extra) < extra_bytes:
            break
        if unpacked > limits.max_member_bytes or (method == 0 and packed != unpacked):
            break
        limit = limits.max_member_bytes if flags & _DESCRIPTOR_FOLLOWS else unpacked
        data = file.read(packed) if method == 0 else _inflated(file, limit)
        if data is None or (method == 0 and len(data) < packed):
            break
        total += len(data)
        if limits.is_bomb(file.tell(), total):
            raise InputError("is a zip bomb", got=f"{total:,} bytes in {file.tell():,}")
        if flags & _DESCRIPTOR_FOLLOWS:
            tail = file.read(16)
            length = 16 if tail.startswith(b"PK\x07\x08") else 12  # the signature is optional
            if len(tail) < length:
                break
            crc = int.from_bytes(tail[length - 12 : length - 8], "little")
            file.seek(length - len(tail), 1)
        read = partial(bytes, data) if zlib.crc32(data) == crc else _damaged
        yield Member(safe_path(name), "folder" if name.endswith("/") else "file", read)
    raise InputError("is cut short or damaged: the rest of it cannot be read")


def _damaged() -> NoReturn:
    raise InputError("is damaged: its checksum is wrong")


def _inflated(file: IO[bytes], limit: int) -> bytes | None:
    """Unpacked bytes, with the file after their end; None if that does not come, or not before the limit."""
    unpacker, parts, count = zlib.decompressobj(wbits=-15), list[bytes](), 0
    while not unpacker.eof:
        data = unpacker.unconsumed_tail or file.read(_CHUNK_BYTES)
        if not data:
            return None
        try:
            parts.append(unpacker.decompress(data, limit + 1 - count))
        except zlib.error:
            return None
        count += len(parts[-1])
        if count > limit:
            return None
    file.seek(-len(unpacker.unused_data), 1)
    return b"".join(parts)
