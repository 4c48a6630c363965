"""The orientation that Exif data asks for.

Source: Exif 2.32 (CIPA DC-008), section 4.6.4, tag 274; the container is the first directory of a TIFF 6.0 file.
"""

from __future__ import annotations

import struct
from typing import Final

UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 274


def exif_orientation(data: bytes | memoryview) -> int:
    """Read the orientation from Exif data, which begins with its TIFF header.

    The value is read as OpenCV reads it: the first such tag counts, as a 16-bit number whatever type it declares.

    Args:
        data: The Exif data, without the ``Exif`` identifier that JPEG puts before it.

    Returns:
        1 to 8 as Exif numbers them; 1, which is upright, if there is none or it cannot be read.
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
