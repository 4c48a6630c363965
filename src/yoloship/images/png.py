"""The chunks of a PNG file.

Source: W3C PNG, third edition, sections 5.3, 11.2.1 and 11.3.2; RFC 1951 for the most that deflate compresses.
"""

from __future__ import annotations

import struct
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.images.exif import UPRIGHT, exif_orientation
from yoloship.images.layout import Layout, LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHUNKS: Final = 200_000
"""Encoders that write chunks of 8 kilobytes reach 1.6 gigabytes with these."""
MAX_DEFLATE_RATIO: Final = 1032
_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_CHANNELS: Final = MappingProxyType({0: 1, 2: 3, 3: 1, 4: 2, 6: 4})
_DAMAGED: Final = "is damaged or cut short"


def read_png(view: memoryview) -> Layout:
    """Read the size and the orientation, and check every chunk that counts.

    Raises:
        LayoutError: a critical chunk is missing, cut short, of a wrong checksum, or unknown.
    """
    width = height = row_bytes = data_bytes = 0
    orientation, ended = UPRIGHT, False
    for place, (kind, body, end) in enumerate(_chunks(view)):
        if (kind == b"IHDR") != (place == 0):
            raise LayoutError(f"{_DAMAGED}: it does not begin with its header")
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", view, body)
            row_bytes = -(-width * depth * _CHANNELS.get(color, 1) // 8)
        elif kind == b"IDAT":
            data_bytes += end - body
        elif kind == b"eXIf":
            orientation = exif_orientation(view[body:end])
        ended = kind == b"IEND"
    problem = ""
    if not ended or data_bytes * MAX_DEFLATE_RATIO < row_bytes * height:
        problem = _DAMAGED
    return Layout(width, height, orientation, problem=problem)


def critical_chunks(data: bytes) -> bytes:
    """A checked PNG with nothing in it but its pixels.

    libpng reports damaged colour profiles and text on the process's stderr, without a file name, though nothing of it
    is used here; animation chunks would have further images decoded.
    """
    view = memoryview(data)
    kept = [view[body - 8 : end + 4] for kind, body, end in _chunks(view) if kind in _CRITICAL]
    return b"".join([data[:8], *kept])


def _chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk up to the last: its kind, and the beginning and end of its content."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(view):
            return
        body, kind = at + 8, bytes(view[at + 4 : at + 8])
        end = body + struct.unpack_from(">I", view, at)[0]
        if end + 4 > len(view):
            return
        if not kind[0] & 0x20:
            if zlib.crc32(view[body - 4 : end]) != struct.unpack_from(">I", view, end)[0]:
                raise LayoutError(f"{_DAMAGED}: wrong checksum")
            if kind not in _CRITICAL:
                raise LayoutError("has an unknown critical chunk")
        yield kind, body, end
        if kind == b"IEND":
            return
        at = end + 4
    raise LayoutError(f"has more than {MAX_CHUNKS} chunks")
