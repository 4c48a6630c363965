"""The size of a JPEG 2000 image: what its box says, and what its codestream says.

Source: ISO/IEC 15444-1, annexes A.5.1 (SIZ) and I.5.3.1 ('ihdr').
"""

from __future__ import annotations

import struct
from typing import Final

from yoloship.images.boxes import boxes
from yoloship.images.layout import Layout, LayoutError

MAX_COMPONENTS: Final = 4
TILE_PIXELS: Final = 1024
"""The least that a tile may hold on average: a decoder keeps some kilobytes for each."""


def read_jpeg2000(view: memoryview) -> Layout:
    """Read the size that the decoder will find, and check that the box around it states the same.

    Raises:
        LayoutError: the two differ, or the image has too many components or tiles.
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


def _codestream(view: memoryview) -> Layout:
    right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, count = struct.unpack_from(">IIIIIIIIH", view, 8)
    width, height = right - left, bottom - top
    if count > MAX_COMPONENTS:
        raise LayoutError(f"has {count} components")
    if tile_w < 1 or tile_h < 1:
        raise ValueError("tiles without a size")
    tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
    if tiles > 1 + max(width * height, 0) // TILE_PIXELS:
        raise LayoutError(f"has too many tiles ({tiles})")
    return Layout(width, height)
