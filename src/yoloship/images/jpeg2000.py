"""The size of a JPEG 2000 image, and the parts that it is cut into.

A file of some hundred bytes can ask for millions of parts, each of which a decoder keeps some hundred bytes for. So
every header of the codestream is looked at, also those of single tiles.

Source: ISO/IEC 15444-1, annexes A.4 (markers), A.5.1 (SIZ), A.6.1 (COD), A.6.2 (COC), B.6 (precincts) and I.5.3.1
('ihdr').
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.images.boxes import boxes
from yoloship.images.layout import Layout, LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_COMPONENTS: Final = 4
MAX_SEGMENTS: Final = 200_000
PART_PIXELS: Final = 1024
"""The least that a tile or a precinct may hold on average; encoders write 4096 and more."""
BLOCK_BITS: Final = 8
"""The least of a code block's width plus height, as powers of two; encoders write 64×64 (12) or 32×32 (10)."""
MAX_PACKETS: Final = 5_000_000
MAX_LEVELS: Final = 32

_START_OF_TILE, _START_OF_DATA, _END = 0xFF90, 0xFF93, 0xFFD9
_CODING, _COMPONENT_CODING = 0xFF52, 0xFF53


def read_jpeg2000(view: memoryview) -> Layout:
    """Read the size that the decoder will find, and check that the box around it states the same.

    Raises:
        LayoutError: the two differ, the codestream is damaged, or it has too many components or parts.
    """
    if view[0] == 0xFF:
        return _codestream(view)
    stated: tuple[int, int] | None = None
    for kind, body, end in boxes(view, 0, len(view)):
        if kind == b"jp2h" and stated is None:
            (at,) = (inner for name, inner, _ in boxes(view, body, end) if name == b"ihdr")
            height, width = struct.unpack_from(">II", view, at)
            stated = width, height
        elif kind == b"jp2c":
            layout = _codestream(view[body:end])
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


def _codestream(view: memoryview) -> Layout:
    size = _Size.read(view)
    if size.components > MAX_COMPONENTS:
        raise LayoutError(f"has {size.components} components")
    if size.tiles > 1 + max(size.width * size.height, 0) // PART_PIXELS:
        raise LayoutError(f"has too many tiles ({size.tiles})")
    if size.width < 1 or size.height < 1:
        return Layout(size.width, size.height)
    layers = 1
    for marker, body, end in _segments(view):
        if marker == _CODING:
            layers = max(layers, struct.unpack_from(">H", view, body + 2)[0])
            _check_parts(size, layers, view[body] & 1, bytes(view[body + 5 : end]))
        elif marker == _COMPONENT_CODING:
            _check_parts(size, layers, view[body + 1] & 1, bytes(view[body + 2 : end]))
    return Layout(size.width, size.height)


def _check_parts(size: _Size, layers: int, own_precincts: int, coding: bytes) -> None:
    """Judge levels, code blocks and precincts, as COD and COC both end with them."""
    levels, block_w, block_h = coding[0], (coding[1] & 15) + 2, (coding[2] & 15) + 2
    if levels > MAX_LEVELS:
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


def _segments(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Each marker of the main header and of all tiles' headers, and where its content begins and ends."""
    at, tile_end = 2, -1
    for _ in range(MAX_SEGMENTS):
        if at == len(view):  # an end marker is often left out
            return
        (marker,) = struct.unpack_from(">H", view, at)
        if marker == _END:
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
    raise LayoutError(f"has more than {MAX_SEGMENTS} segments")
