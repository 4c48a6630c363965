"""The first directory of a TIFF file, which describes its first image.

Source: TIFF 6.0, sections 2 and 15; for 64-bit files the BigTIFF proposal as libtiff implements it.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Final

from yoloship.images.exif import UPRIGHT
from yoloship.images.layout import Layout, LayoutError

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
    tags = _tags(view)
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


def _tags(view: memoryview) -> dict[int, int]:
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
