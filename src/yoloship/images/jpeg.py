"""Reads the headers of JPEG files.

Markers are found in the same way as by libjpeg, so that both read the same file: bytes between two segments are
skipped, and fill bytes before a marker do not count.

Nearly every file begins with application data and comments, which differ from file to file, and goes on with segments
that say how it is coded, which a camera writes into all of its files. So what those say is remembered: `Head`.

Sources: ITU-T T.81, annex B. Exif 2.32 (CIPA DC-008), section 4.7.2 for APP1.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from yoloship.images.formats import UPRIGHT, Layout, LayoutError, exif_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator


Segment: TypeAlias = "tuple[int, int, int, int]"
"""The marker, where it begins, and the beginning and the end of what is between its length and the next."""

MAX_JPEG_SEGMENTS: Final = 4096
"""A file has about ten, one with a large colour profile some hundreds."""
MAX_SCAN_PIXELS: Final = 3_200_000_000
"""Scans times pixels: a progressive image of 200 megapixels in 16 scans, or of 20 in 160. Each scan goes through the
whole image however few bytes it has; 0.6 nanoseconds a pixel and scan were measured for empty ones."""

_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7\x01])")
_TAG: Final = struct.Struct(">HH")
"""A marker behind 0xFF, and the length of its segment."""
_EXIF: Final = b"Exif\0\0"
_JPEG_SCAN: Final = 0xDA
_JPEG_END: Final = 0xD9
_JPEG_START: Final = 0xD8
_APP1: Final = 0xE1
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ARITHMETIC: Final = frozenset(range(0xC9, 0xD0))
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC9})
_NOTES: Final = frozenset({*range(0xFFE0, 0xFFF0), 0xFFFE})
_CODING: Final = frozenset({0xFFC0, 0xFFC1, 0xFFC4, 0xFFDA, 0xFFDB, 0xFFDD})
_SCAN_TAG: Final = 0xFFDA
_HEAD_SEGMENTS: Final = 256
REMEMBERED_BYTES: Final = 1 << 12
"""Of the segments that say how a file is coded; they usually have 300 to 700."""
_TAIL_BYTES: Final = 1 << 12
_LONGEST_PADDING: Final = 1 << 20


class Head(NamedTuple):
    """The segments of a JPEG up to its first scan, if they are the usual ones, and nothing lies between them.

    Attributes:
        notes: Application data and comments at the beginning.
        coding: The bytes of the others, that of the scan included. There may be notes among them.
        data_at: Where compressed data begins.
    """

    notes: list[Segment]
    coding: bytes
    data_at: int


def jpeg_head(data: bytes | memoryview) -> Head | None:
    """Read the segments of a JPEG up to its first scan.

    Args:
        data: The whole file.

    Returns:
        None if they are cut short or damaged, if there are others than those of sequential Huffman coding, or too many.
    """
    notes: list[Segment] = []
    at, coding_at = 2, 0
    try:
        for _ in range(_HEAD_SEGMENTS):
            tag, length = _TAG.unpack_from(data, at)
            end = at + 2 + length
            if tag in _CODING:
                coding_at = coding_at or at
                if tag == _SCAN_TAG:
                    break
            elif tag not in _NOTES:
                return None
            elif not coding_at:
                notes.append((tag & 0xFF, at, at + 4, end))
            if length < 2:
                return None
            at = end
        else:
            return None
    except struct.error:  # it is cut short
        return None
    return Head(notes, bytes(data[coding_at:end]), end) if at + 4 <= end <= len(data) else None


class _Frame(NamedTuple):
    """What the frame header states, in pixels and samples."""

    width: int
    height: int
    components: int
    arithmetic: bool
    sequential: bool


class _Found(NamedTuple):
    """What a JPEG consists of.

    Attributes:
        frame: The first.
        notes: Application data, and perhaps comments.
        scans: How many there are.
        scan_bytes: Of compressed data in all of them.
        problem: Why it must not be decoded; empty if nothing speaks against it.
    """

    frame: _Frame | None
    notes: list[Segment]
    scans: int
    scan_bytes: int
    problem: str = ""


def read_jpeg(data: bytes | memoryview) -> Layout:
    """Read the size and the orientation, and judge whether the file can hold its image.

    Raises:
        LayoutError: the segments are damaged, or there are too many.
    """
    head = jpeg_head(data)
    whole = None if head is None or len(head.coding) > REMEMBERED_BYTES else _frame_of_whole_scan(head.coding)
    frame: _Frame | None
    if head is not None and whole is not None and (end := _end_after(data, head.data_at)) >= 0:
        frame, notes, scans, scan_bytes, problem = whole, head.notes, 1, end - head.data_at, ""
    else:
        frame, notes, scans, scan_bytes, problem = _searched(data)
    if frame is None:
        return Layout(0, 0, problem=problem)
    orientation = UPRIGHT
    for marker, _, body, end in notes:
        if marker == _APP1 and end > body + 6 and data[body : body + 6] == _EXIF:
            orientation = exif_orientation(data[body + 6 : end])
            break
    width, height, components, arithmetic, _ = frame
    # Each block of 8×8 samples of the largest component takes at least one bit of a Huffman code.
    least_bits = 0 if arithmetic else -(-width // 8) * -(-height // 8)
    if not problem and scans * width * height > MAX_SCAN_PIXELS:
        problem = f"would take too long to decode: it has {scans} scans"
    elif not problem and scan_bytes * 8 < least_bits:
        problem = "is damaged or cut short: its data is too short for its size"
    several = 3 + 2 * components if scans > 1 else 0  # all coefficients are kept until the last scan
    return Layout(width, height, orientation, pixel_bytes=several, problem=problem, head=head)


@lru_cache(maxsize=256)
def _frame_of_whole_scan(coding: bytes) -> _Frame | None:
    """The frame of a `Head`, if its scan holds the whole image, and no note among its segments can turn it."""
    frame: _Frame | None = None
    at = 0
    while True:
        tag, length = _TAG.unpack_from(coding, at)
        body, at = at + 4, at + 2 + length
        marker = tag & 0xFF
        if tag in _NOTES or (marker in _FRAMES and length < 8):  # what lies behind a short frame is not its size
            return None
        if marker in _FRAMES:
            frame = frame or _frame(coding, marker, body)
        elif marker == _JPEG_SCAN:
            return frame if _is_whole(frame, coding[body : body + 1]) else None


def _searched(data: bytes | memoryview) -> _Found:
    """What any JPEG consists of, found by a search for all of its segments."""
    frame: _Frame | None = None
    notes: list[Segment] = []
    scans = scan_bytes = 0
    data_start: int | None = None
    for segment in jpeg_segments(data):
        marker, start, body, end = segment
        if data_start is not None:
            scan_bytes += start - data_start
            data_start = None
        if marker in _FRAMES and frame is None:
            frame = _frame(data, marker, body)
        elif marker == _APP1:
            notes.append(segment)
        elif marker == _JPEG_SCAN:
            scans += 1
            data_start = min(end, len(data))
            is_whole = scans == 1 and _is_whole(frame, data[body : body + 1])
            if is_whole and (end_marker := _end_after(data, data_start)) >= 0:
                # The decoder takes no scan after this one, so its data, nearly the whole file, need not be searched.
                return _Found(frame, notes, scans, end_marker - data_start)
        elif marker == _JPEG_END:
            return _Found(frame, notes, scans, scan_bytes)
    return _Found(frame, notes, scans, scan_bytes, "is damaged or cut short: it has no end")


def _frame(data: bytes | memoryview, marker: int, body: int) -> _Frame:
    height, width, components = struct.unpack_from(">HHB", data, body + 1)
    return _Frame(width, height, components, marker in _ARITHMETIC, marker in _SEQUENTIAL)


def _is_whole(frame: _Frame | None, scan: bytes | memoryview) -> bool:
    """Whether a scan, which begins with the number of its components, holds the whole image."""
    return frame is not None and frame.sequential and scan == bytes([frame.components])


def padding_bytes(data: bytes) -> int:
    """The number of zeros before the end marker of a JPEG; 0 if there is no end marker in `MAX_JPEG_SEGMENTS`."""
    try:  # `read_jpeg` looks no further than the first scan if that holds the whole image
        end = next((start for marker, start, _, _ in jpeg_segments(data) if marker == _JPEG_END), 0)
    except LayoutError:
        return 0
    tail = data[max(0, end - _LONGEST_PADDING) : end]
    return len(tail) - len(tail.rstrip(b"\0"))


def _end_after(data: bytes | memoryview, at: int) -> int:
    """The position of the last end marker after `at`; -1 if there is none. It is nearly always in the last bytes."""
    for start in (max(at, len(data) - _TAIL_BYTES), at):  # a copy, so not more of it than is needed
        if (found := bytes(data[start:]).rfind(b"\xff\xd9")) >= 0:
            return start + found
    return -1


def jpeg_segments(data: bytes | memoryview) -> Iterator[Segment]:
    """The segments of a JPEG. The compressed data of a scan is between the end of its segment and the next marker.

    Raises:
        LayoutError: there are too many.
    """
    at, size = 2, len(data)
    for _ in range(MAX_JPEG_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            return
        start, marker = match.start(), match[1][0]
        body = start + 2
        if marker == _JPEG_END:
            yield marker, start, body, body
            return
        if marker == _JPEG_START or body + 2 > size:
            return
        at = body + (data[body] << 8 | data[body + 1])
        yield marker, start, body + 2, at
    raise LayoutError(f"has more than {MAX_JPEG_SEGMENTS} segments")
