"""Reads the headers of PNG, TIFF and JPEG 2000 files, and what all formats share: `Layout`, Exif, ISO boxes.

A file of a few hundred bytes can ask for millions of parts, and a decoder takes a few hundred bytes for each. So every
chunk of a PNG file counts, and every header of a JPEG 2000 codestream is read, also those of single tiles.

Sources: Exif 2.32 (CIPA DC-008), section 4.6.4, tag 274, in the first directory of a TIFF 6.0 file. Boxes: ISO/IEC
14496-12, section 4.2. PNG: W3C PNG, third edition, sections 5.3, 11.2.1 and 11.3.2; RFC 1951 for the most that deflate
compresses. TIFF 6.0, sections 2 and 15; for 64-bit files the BigTIFF proposal as libtiff implements it. JPEG 2000:
ISO/IEC 15444-1, annexes A.4 (markers), A.5.1 (SIZ), A.6.1 (COD), A.6.2 (COC), B.6 (precincts) and I.5.3.1 ('ihdr').
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.images.jpeg import Head


UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 274


def exif_orientation(data: bytes | memoryview) -> int:
    """Read the orientation from Exif data, which begins with its TIFF header.

    The value is read as OpenCV reads it: the first such tag counts, as a 16-bit number whatever type it declares.

    Args:
        data: The Exif data, without the ``Exif`` identifier that JPEG puts before it.

    Returns:
        1 to 8 as Exif numbers them. 1 (upright) if there is no orientation, or if it cannot be read.
    """
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
        magic, at = struct.unpack_from(order + "HI", data, 2)
        (count,) = struct.unpack_from(order + "H", data, at)
        if magic != 42:
            return UPRIGHT
        for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 9), 12):
            tag, value = struct.unpack_from(order + "H6xH", data, entry)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else UPRIGHT
    except (KeyError, struct.error):
        pass
    return UPRIGHT


class Layout(NamedTuple):
    """The size of an image, and what decoding it involves.

    Attributes:
        width: In stored pixels, before any rotation.
        height: In stored pixels, before any rotation.
        orientation: How the stored pixels become upright, 1 to 8 as Exif numbers it.
        held_pixels: The most pixels that a decoder holds at once, if this may be more than width × height.
        pixel_bytes: Bytes that decoding takes for each pixel, if this is more than usual for the format.
        problem: Why the file must not be decoded; empty if it may be.
        head: The segments of a JPEG up to its first scan, if they are the usual ones.
    """

    width: int
    height: int
    orientation: int = UPRIGHT
    held_pixels: int = 0
    pixel_bytes: int = 0
    problem: str = ""
    head: Head | None = None


class LayoutError(ValueError):
    """A header is damaged, or asks for something that a decoder should not do. The text says what."""


MAX_BOXES: Final = 65_536


def boxes(view: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each box between two positions: its kind, and the beginning and end of its content.

    Raises:
        LayoutError: a box reaches beyond its container, or there are too many boxes.
    """
    at = start
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", view, at)
        body = at + 8
        if size == 1:
            size, body = struct.unpack_from(">Q", view, body)[0], body + 8
        stop = end if size == 0 else at + size
        if not body <= stop <= end:
            raise LayoutError("is damaged or cut short")
        yield kind, body, stop
        at = stop
    raise LayoutError("has too many boxes")


# PNG

MAX_CHUNKS: Final = 200_000
"""With this many chunks of 8 kilobytes, an encoder can write 1.6 gigabytes."""
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
    for place, (kind, body, end) in enumerate(_png_chunks(view)):
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
    """A checked PNG with only its pixels.

    libpng reports damaged colour profiles and text on the process's stderr without a file name, although they are not
    used here. With animation chunks, it would decode further images.
    """
    view = memoryview(data)
    kept = [view[body - 8 : end + 4] for kind, body, end in _png_chunks(view) if kind in _CRITICAL]
    return b"".join([data[:8], *kept])


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
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


# TIFF

MAX_ENTRIES: Final = 4096
_WIDTH, _HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLES = 256, 257, 274, 322, 323, 277
_WANTED: Final = frozenset({_WIDTH, _HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLES})
_NUMBERS: Final = MappingProxyType({3: "H", 4: "I", 16: "Q"})
MAX_SAMPLES: Final = 16


def read_tiff(view: memoryview) -> Layout:
    """Read the size and the orientation.

    Raises:
        LayoutError: a tag that gives a size is not a single number, or comes twice.
    """
    tags = _tiff_tags(view)
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    orientation = tags.get(_ORIENTATION, UPRIGHT)
    if tags.get(_SAMPLES, 1) > MAX_SAMPLES:
        raise LayoutError(f"has {tags[_SAMPLES]} samples for each pixel")
    return Layout(
        width,
        height,
        orientation if 1 <= orientation <= 8 else UPRIGHT,
        held_pixels=tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0),
    )


def _tiff_tags(view: memoryview) -> dict[int, int]:
    order = "<" if view[0] == 0x49 else ">"
    big = struct.unpack_from(order + "H", view, 2)[0] == 43
    if big:
        at = struct.unpack_from(order + "Q", view, 8)[0]
        count, at, size = struct.unpack_from(order + "Q", view, at)[0], at + 8, 20
    else:
        at = struct.unpack_from(order + "I", view, 4)[0]
        count, at, size = struct.unpack_from(order + "H", view, at)[0], at + 2, 12
    if count > MAX_ENTRIES:
        raise LayoutError(f"has more than {MAX_ENTRIES} tags")
    tags: dict[int, int] = {}
    for entry in range(at, at + count * size, size):
        tag, kind = struct.unpack_from(order + "HH", view, entry)
        if tag not in _WANTED:
            continue
        if tag in tags:
            raise LayoutError("states its size twice")
        (number,) = struct.unpack_from(order + ("Q" if big else "I"), view, entry + 4)
        if kind not in _NUMBERS or number != 1:
            raise LayoutError("states its size in an unusual form")
        tags[tag] = struct.unpack_from(order + _NUMBERS[kind], view, entry + (12 if big else 8))[0]
    return tags


# JPEG 2000

MAX_COMPONENTS: Final = 4
MAX_JPEG2000_SEGMENTS: Final = 200_000
PART_PIXELS: Final = 1024
"""The least that a tile or a precinct may hold on average; encoders write 4096 and more."""
BLOCK_BITS: Final = 8
"""The least of a code block's width plus height, as powers of two; encoders write 64×64 (12) or 32×32 (10)."""
MAX_PACKETS: Final = 5_000_000
MAX_DECOMPOSITIONS: Final = 32

_START_OF_TILE, _START_OF_DATA, _JPEG2000_END = 0xFF90, 0xFF93, 0xFFD9
_CODING, _COMPONENT_CODING = 0xFF52, 0xFF53


def read_jpeg2000(view: memoryview) -> Layout:
    """Read the size that the decoder will find, and check that the box around it states the same.

    Raises:
        LayoutError: the two differ, the codestream is damaged, or it has too many components or parts.
    """
    if view[0] == 0xFF:
        return _jpeg2000_codestream(view)
    stated: tuple[int, int] | None = None
    for kind, body, end in boxes(view, 0, len(view)):
        if kind == b"jp2h" and stated is None:
            (at,) = (inner for name, inner, _ in boxes(view, body, end) if name == b"ihdr")
            height, width = struct.unpack_from(">II", view, at)
            stated = width, height
        elif kind == b"jp2c":
            layout = _jpeg2000_codestream(view[body:end])
            if stated != (layout.width, layout.height):
                raise LayoutError("states two sizes")
            return layout
    raise ValueError("no codestream")


@dataclass(frozen=True, slots=True)
class _Size:
    """What the SIZ marker says."""

    width: int
    height: int
    tiles: int
    components: int

    @classmethod
    def read(cls, view: memoryview) -> _Size:
        right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, count = struct.unpack_from(">IIIIIIIIH", view, 8)
        if tile_w < 1 or tile_h < 1:
            raise ValueError("tiles without a size")
        tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
        return cls(right - left, bottom - top, tiles, count)


def _jpeg2000_codestream(view: memoryview) -> Layout:
    size = _Size.read(view)
    if size.components > MAX_COMPONENTS:
        raise LayoutError(f"has {size.components} components")
    if size.tiles > 1 + max(size.width * size.height, 0) // PART_PIXELS:
        raise LayoutError(f"has too many tiles ({size.tiles})")
    if size.width < 1 or size.height < 1:
        return Layout(size.width, size.height)
    layers = 1
    for marker, body, end in _jpeg2000_segments(view):
        if marker == _CODING:
            layers = max(layers, struct.unpack_from(">H", view, body + 2)[0])
            _check_parts(size, layers, view[body] & 1, bytes(view[body + 5 : end]))
        elif marker == _COMPONENT_CODING:
            _check_parts(size, layers, view[body + 1] & 1, bytes(view[body + 2 : end]))
    return Layout(size.width, size.height)


def _check_parts(size: _Size, layers: int, own_precincts: int, coding: bytes) -> None:
    """Check levels, code blocks and precincts, which are at the end of both COD and COC."""
    levels, block_w, block_h = coding[0], (coding[1] & 15) + 2, (coding[2] & 15) + 2
    if levels > MAX_DECOMPOSITIONS:
        raise LayoutError(f"has {levels} levels")
    if block_w + block_h < BLOCK_BITS:
        raise LayoutError(f"has code blocks of {1 << block_w}×{1 << block_h}")
    exponents = coding[5 : 6 + levels] if own_precincts else bytes([0xFF]) * (levels + 1)
    if len(exponents) != levels + 1:
        raise LayoutError("is damaged or cut short")
    precincts = 0
    for resolution, exponent in enumerate(exponents):
        shrunk = levels - resolution
        wide = -(-(size.width >> shrunk) // (1 << (exponent & 15))) or 1
        high = -(-(size.height >> shrunk) // (1 << (exponent >> 4))) or 1
        precincts += max(wide * high, size.tiles)
    floor = size.tiles * (levels + 1)
    if precincts > 2 * (floor + size.width * size.height // PART_PIXELS):
        raise LayoutError(f"has too many precincts ({precincts})")
    if precincts * layers * size.components > MAX_PACKETS:
        raise LayoutError(f"has too many packets ({precincts * layers * size.components})")


def _jpeg2000_segments(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Each marker of the main header and of all tiles' headers, and where its content begins and ends."""
    at, tile_end = 2, -1
    for _ in range(MAX_JPEG2000_SEGMENTS):
        if at == len(view):  # an end marker is often left out
            return
        (marker,) = struct.unpack_from(">H", view, at)
        if marker == _JPEG2000_END:
            return
        if marker == _START_OF_DATA:
            at = tile_end
        else:
            if marker < 0xFF40:
                raise LayoutError("is damaged or cut short")
            end = at + 2 + struct.unpack_from(">H", view, at + 2)[0]
            if marker == _START_OF_TILE:
                (length,) = struct.unpack_from(">I", view, at + 6)
                tile_end = at + length if length else len(view)
            yield marker, at + 4, end
            if end < at + 4:
                raise LayoutError("is damaged or cut short")
            at = end
        if not 0 < at <= len(view) or tile_end > len(view):
            raise LayoutError("is damaged or cut short")
    raise LayoutError(f"has more than {MAX_JPEG2000_SEGMENTS} segments")
