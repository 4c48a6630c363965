"""Image files for tests: sound ones, and the parts that hostile ones are put together from."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

Pixels = npt.NDArray[np.uint8]


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """An image whose four corners differ, so that a turn or a swap shows, and that JPEG keeps nearly exact."""
    corners = np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [200, 200, 200]]], np.uint8)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def saved(pixels: Pixels, kind: str, **options: object) -> bytes:
    """BGR pixels as a file of one of Pillow's formats."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *extra: bytes, data: bytes | None = None, depth: int = 8, color: int = 2) -> bytes:
    """A PNG of black pixels, with further chunks before its data."""
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[color] + 7) // 8
    body = zlib.compress(b"\0" * (row * height)) if data is None else data
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_scans(data: bytes) -> list[tuple[int, int]]:
    """Where each scan of a JPEG, with its header, begins and ends."""
    found = []
    for match in re.finditer(rb"\xff\xda", data):
        after = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, match.end())
        assert after is not None
        found.append((match.start(), after.start()))
    return found


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an ISO media file."""
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def sized(width: int, height: int) -> bytes:
    """An ispe property."""
    return box(b"ispe", bytes(4), struct.pack(">II", width, height))


def heif(properties: Sequence[bytes], *, brand: bytes = b"heic", item: bytes = b"hvc1", data: bytes = b"") -> bytes:
    """A file of one item that has these properties."""
    file_type = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    handler = box(b"hdlr", bytes(8), b"pict", bytes(13))
    primary = box(b"pitm", bytes(4), struct.pack(">H", 1))
    items = box(b"iinf", bytes(4), struct.pack(">H", 1), box(b"infe", b"\2\0\0\0", struct.pack(">HH4sx", 1, 0, item)))
    indices = bytes(range(1, len(properties) + 1))
    owned = box(b"ipma", bytes(4), struct.pack(">IHB", 1, 1, len(indices)), indices)
    props = box(b"iprp", box(b"ipco", *properties), owned)

    def meta(offset: int) -> bytes:
        places = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(data))
        return box(b"meta", bytes(4), handler, primary, box(b"iloc", bytes(4), places), items, props)

    offset = len(file_type) + len(meta(0)) + 8
    return file_type + meta(offset) + box(b"mdat", data)


def with_property(data: bytes, added: bytes) -> bytes:
    """An AVIF or HEIC file whose first item has one property more; what it points to moves along."""
    at = data.index(b"ipma") - 4
    count = struct.unpack_from(">I", data, at + 12)[0]
    assert count >= 1
    assert not data[at + 8], "item ids of 16 bits"
    assert not data[at + 11] & 1, "indices of 8 bits"
    owned = data[at + 18]
    store = data.index(b"ipco") - 4
    number, place = 0, store + 8
    while place < store + struct.unpack_from(">I", data, store)[0]:
        number, place = number + 1, place + struct.unpack_from(">I", data, place)[0]
    changed = bytearray(data[:place] + added + data[place:])
    at += len(added)
    changed[at + 18] += 1
    changed[at + 19 + owned : at + 19 + owned] = bytes([0x80 | (number + 1)])  # essential
    grown = len(added) + 1
    _grow(changed, at, 1)
    _grow(changed, store, len(added))
    _grow(changed, changed.index(b"iprp") - 4, grown)
    _grow(changed, changed.index(b"meta") - 4, grown)
    _move(changed, grown)
    return bytes(changed)


def _grow(data: bytearray, at: int, by: int) -> None:
    struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + by)


def _move(data: bytearray, by: int) -> None:
    """Shift all places in the iloc box of version 0 with offsets and lengths of 32 bits."""
    at = data.index(b"iloc") + 4
    assert data[at] == 0
    assert data[at + 4] == 0x44
    base = data[at + 5] >> 4
    (items,) = struct.unpack_from(">H", data, at + 6)
    at += 8
    for _ in range(items):
        (extents,) = struct.unpack_from(">H", data, at + 4 + base)
        at += 6 + base
        for _ in range(extents):
            struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + by)
            at += 8
