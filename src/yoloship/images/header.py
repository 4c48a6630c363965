"""The size of a picture from the first bytes of its file, before anything is decoded.

A closed table of formats: what is not in it is not handed to a decoder at all.

Sources: JPEG: ITU-T T.81 annex B. PNG: W3C PNG 3rd edition, sections 5 and 11.2.1. BMP: BITMAPFILEHEADER and
BITMAPINFOHEADER of the Windows SDK. GIF: GIF89a specification, section 18. WebP: RFC 9649, section 2. TIFF: TIFF 6.0,
section 2, tags 256 and 257. AVIF: ISO/IEC 14496-12 boxes, 'ispe' of ISO/IEC 23008-12 section 6.5.3. JPEG 2000: ISO/IEC
15444-1, annex I.5.3.1 ('ihdr') and annex A.5.1 (SIZ). Netpbm: the ppm and pgm manual pages.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Format: TypeAlias = Literal["JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF", "AVIF", "JPEG 2000", "Netpbm"]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of itself.

    Attributes:
        format: By its first bytes, whatever its name says.
        width: In stored pixels, before any EXIF orientation.
        height: Likewise.
    """

    format: Format
    width: int
    height: int


def read_header(data: bytes | memoryview) -> ImageHeader | None:
    """Recognise a picture and read its size.

    Args:
        data: The whole file.

    Returns:
        None where the bytes begin like no known format. A known format whose header is cut short or damaged gives
        sizes of 0.
    """
    view = memoryview(data).cast("B")
    start = bytes(view[:32])
    for name, matches, size in _FORMATS:
        if matches(start):
            try:
                width, height = size(view)
            except (struct.error, IndexError, ValueError):
                width, height = 0, 0
            return ImageHeader(name, width, height)
    return None


def jpeg_has_end(data: bytes) -> bool:
    """Whether a JPEG's last scan is followed by an end marker.

    OpenCV 4 fills what is missing of a file that was cut short with grey and says nothing. Markers before the scan do
    not count: the thumbnail inside the EXIF data has an end of its own.
    """
    try:
        scan = next(at for marker, at in _jpeg_segments(memoryview(data)) if marker == _SCAN)
    except (struct.error, IndexError, ValueError, StopIteration):
        return False
    return data.rfind(b"\xff\xd9", scan) >= 0


def _jpeg(view: memoryview) -> tuple[int, int]:
    for marker, at in _jpeg_segments(view):
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", view, at + 5)
            return width, height
    raise ValueError("no frame")


def _jpeg_segments(view: memoryview) -> Iterator[tuple[int, int]]:
    """Each marker up to the first scan, and where it stands."""
    at = 2
    while True:
        if view[at] != 0xFF:
            raise ValueError("no marker")
        marker = view[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            yield marker, at
            if marker in (_SCAN, _END):
                return
            at += 2 + struct.unpack_from(">H", view, at + 2)[0]


_SCAN = 0xDA
_END = 0xD9
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def _png(view: memoryview) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", view, 16)
    return width, height


def _bmp(view: memoryview) -> tuple[int, int]:
    if struct.unpack_from("<I", view, 14)[0] == 12:  # BITMAPCOREHEADER
        width, height = struct.unpack_from("<HH", view, 18)
        return width, height
    width, height = struct.unpack_from("<ii", view, 18)
    return abs(width), abs(height)  # a negative height is a picture stored from the top


def _gif(view: memoryview) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", view, 6)
    return width, height


def _webp(view: memoryview) -> tuple[int, int]:
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(view[24:27], "little"),
            1 + int.from_bytes(view[27:30], "little"),
        )
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", view, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", view, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no picture chunk")


def _tiff(view: memoryview) -> tuple[int, int]:
    order = "<" if view[0] == 0x49 else ">"
    big = struct.unpack_from(order + "H", view, 2)[0] == 43
    if big:
        at = struct.unpack_from(order + "Q", view, 8)[0]
        count, at, entry = struct.unpack_from(order + "Q", view, at)[0], at + 8, 20
    else:
        at = struct.unpack_from(order + "I", view, 4)[0]
        count, at, entry = struct.unpack_from(order + "H", view, at)[0], at + 2, 12
    sizes: dict[int, int] = {}
    for index in range(min(count, 4096)):
        place = at + index * entry
        tag, kind = struct.unpack_from(order + "HH", view, place)
        if tag in {256, 257}:
            form = {3: "H", 4: "I", 16: "Q"}.get(kind)
            if form is None:
                raise ValueError("size of an unusual type")
            sizes[tag] = struct.unpack_from(order + form, view, place + (12 if big else 8))[0]
    return sizes.get(256, 0), sizes.get(257, 0)


def _avif(view: memoryview) -> tuple[int, int]:
    # Items of one file may differ in size (thumbnails, alpha); the largest decides what a decoder may have to hold.
    meta = bytes(view[: 1 << 20])
    found = [struct.unpack_from(">II", meta, match.end() + 4) for match in re.finditer(b"ispe", meta)]
    width, height = max(found, key=lambda size: size[0] * size[1])
    return width, height


def _jp2(view: memoryview) -> tuple[int, int]:
    if view[0] == 0xFF:  # a bare codestream: SOC, then SIZ
        right, bottom, left, top = struct.unpack_from(">IIII", view, 8)
        return right - left, bottom - top
    at = bytes(view[:4096]).index(b"ihdr")
    height, width = struct.unpack_from(">II", view, at + 4)
    return width, height


def _netpbm(view: memoryview) -> tuple[int, int]:
    text = re.sub(rb"#[^\n\r]*", b"", bytes(view[2:4096]))
    match = re.match(rb"\s+(\d{1,9})\s+(\d{1,9})\s", text)
    if match is None:
        raise ValueError("no size")
    return int(match[1]), int(match[2])


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(signatures)


_FORMATS: tuple[tuple[Format, Callable[[bytes], bool], Callable[[memoryview], tuple[int, int]]], ...] = (
    ("JPEG", _starts(b"\xff\xd8\xff"), _jpeg),
    ("PNG", _starts(b"\x89PNG\r\n\x1a\n"), _png),
    ("WebP", lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", _webp),
    ("BMP", _starts(b"BM"), _bmp),
    ("GIF", _starts(b"GIF87a", b"GIF89a"), _gif),
    ("TIFF", _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    ("AVIF", lambda start: start[4:8] == b"ftyp" and start[8:12] in {b"avif", b"avis", b"mif1"}, _avif),
    ("JPEG 2000", _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), _jp2),
    (
        "Netpbm",
        lambda start: start[:1] == b"P" and start[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and start[2:3].isspace(),
        _netpbm,
    ),
)
