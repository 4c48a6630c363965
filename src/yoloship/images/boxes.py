"""The boxes that ISO media files consist of: AVIF, HEIC and JPEG 2000.

Source: ISO/IEC 14496-12, section 4.2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from yoloship.images.layout import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BOXES: Final = 65_536


def boxes(view: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each box between two places: its kind, and the beginning and end of its content.

    Raises:
        LayoutError: a box reaches beyond what holds it, or there are too many.
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
