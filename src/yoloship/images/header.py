"""What an image file says about itself, read before anything is decoded: format, size and orientation.

The formats are a closed table. A file that is not in it is never handed to a decoder. What is read here is what the
decoder will find: a file that states two different sizes is refused.

Sources: BMP: BITMAPFILEHEADER and BITMAPINFOHEADER of the Windows SDK. GIF: GIF89a specification, section 18. WebP:
RFC 9649, section 2. Netpbm: the ppm and pgm manual pages. The other formats have modules of their own.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from yoloship.images.formats import (
    UPRIGHT,
    Layout,
    LayoutError,
    exif_orientation,
    read_jpeg,
    read_jpeg2000,
    read_png,
    read_tiff,
)
from yoloship.images.heif import read_heif

if TYPE_CHECKING:
    from collections.abc import Callable

Format: TypeAlias = Literal["JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF", "AVIF", "HEIC", "JPEG 2000", "Netpbm"]
_MAX_WEBP_CHUNKS: Final = 20_000


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about itself.

    Attributes:
        format: Detected from the first bytes, whatever the file's name is.
        width: In stored pixels, before any rotation; 0 if the header is damaged.
        height: Likewise.
        orientation: How the stored pixels become upright, 1 to 8 as Exif numbers it.
        held_pixels: The most pixels that a decoder holds at once; at least width × height.
        work_bytes: A bound for the memory that decoding takes, the result included.
        problem: Why the file must not be decoded; empty if nothing speaks against it.
    """

    format: Format
    width: int
    height: int
    orientation: int = UPRIGHT
    held_pixels: int = 0
    work_bytes: int = 0
    problem: str = ""

    @property
    def upright_hw(self) -> tuple[int, int]:
        """(height, width) of the image once it is upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(data: bytes | memoryview) -> ImageHeader | None:
    """Recognise an image and read its size.

    Args:
        data: The whole file.

    Returns:
        None if the bytes do not begin like any known format. If the header of a known format is cut short or damaged,
        its sizes are 0 or its `problem` says what is wrong.
    """
    view = memoryview(data).cast("B")
    start = bytes(view[:64])
    for name, pattern, read, pixel_bytes in _FORMATS:
        if re.match(pattern, start, re.DOTALL) if isinstance(pattern, bytes) else pattern(start):
            try:
                layout = read(view)
            except LayoutError as error:
                return ImageHeader(name, 0, 0, problem=str(error))
            except (struct.error, IndexError, KeyError, ValueError):
                return ImageHeader(name, 0, 0)
            pixels = max(layout.width * layout.height, layout.held_pixels)
            return ImageHeader(
                format=name,
                width=layout.width,
                height=layout.height,
                orientation=layout.orientation,
                held_pixels=pixels,
                work_bytes=pixels * max(pixel_bytes, layout.pixel_bytes),
                problem=layout.problem,
            )
    return None


def _read_bmp(view: memoryview) -> Layout:
    if struct.unpack_from("<I", view, 14)[0] == 12:  # BITMAPCOREHEADER
        width, height = struct.unpack_from("<HH", view, 18)
        return Layout(width, height)
    width, height = struct.unpack_from("<ii", view, 18)
    return Layout(abs(width), abs(height))  # a negative height means that the first row is the top one


def _read_gif(view: memoryview) -> Layout:
    return Layout(*struct.unpack_from("<HH", view, 6))


def _read_webp(view: memoryview) -> Layout:
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        width, height = (int.from_bytes(view[at : at + 3], "little") + 1 for at in (24, 27))
        return Layout(width, height, _webp_orientation(view))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", view, 21)[0]
        return Layout(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", view, 26)
        return Layout(width & 0x3FFF, height & 0x3FFF)
    raise ValueError("no image chunk")


def _webp_orientation(view: memoryview) -> int:
    """The orientation in the Exif chunk, which comes after the image, or after the chunks of all frames."""
    at = 12
    for _ in range(_MAX_WEBP_CHUNKS):
        if at + 8 > len(view):
            break
        size = struct.unpack_from("<I", view, at + 4)[0]
        if bytes(view[at : at + 4]) == b"EXIF":
            return exif_orientation(view[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return UPRIGHT


def _read_netpbm(view: memoryview) -> Layout:
    text = re.sub(rb"#[^\n\r]*", b"", bytes(view[2:4096]))
    match = re.match(rb"\s+(\d{1,9})\s+(\d{1,9})\s", text)
    if match is None:
        raise ValueError("no size")
    return Layout(int(match[1]), int(match[2]))


def _has_brand(brands: frozenset[bytes], start: bytes) -> bool:
    """Whether a file's main brand names the format; if that is a general one, the others decide."""
    if start[4:8] != b"ftyp":
        return False
    stated = [start[8:12]]
    if stated[0] in {b"mif1", b"msf1"}:
        end = min(int.from_bytes(start[:4], "big"), len(start))
        stated = [start[at : at + 4] for at in range(16, end, 4)]
    return any(brand in brands for brand in stated)


_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})

_FORMATS: Final[tuple[tuple[Format, bytes | Callable[[bytes], bool], Callable[[memoryview], Layout], int], ...]] = (
    ("JPEG", rb"\xff\xd8\xff", read_jpeg, 6),
    ("PNG", rb"\x89PNG\r\n\x1a\n", read_png, 6),
    ("WebP", rb"RIFF....WEBP", _read_webp, 7),
    ("BMP", rb"BM", _read_bmp, 6),
    ("GIF", rb"GIF8[79]a", _read_gif, 8),
    ("TIFF", rb"II[*+]\0|MM\0[*+]", read_tiff, 7),
    ("AVIF", partial(_has_brand, _AVIF), read_heif, 16),
    ("HEIC", partial(_has_brand, _HEIC), read_heif, 8),
    ("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", read_jpeg2000, 16),
    ("Netpbm", rb"P[1-6]\s", _read_netpbm, 6),
)
"""Name, a pattern of how it begins, how its header is read, and the bytes that decoding takes a pixel: measured,
rounded up."""
