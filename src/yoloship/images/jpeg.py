"""The markers of a JPEG file, walked from the first to the last without decoding.

Source: ITU-T T.81, annex B; for Exif in APP1 CIPA DC-008, section 4.7.2. Markers are found as libjpeg finds them, so
that both read the same file: what stands between two segments is skipped, and fill bytes before a marker do not count.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.images.formats import UPRIGHT, Layout, LayoutError, exif_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SEGMENTS: Final = 4096
"""A file has about ten, one with a large colour profile some hundreds."""
MAX_SCAN_PIXELS: Final = 3_200_000_000
"""Scans times pixels: a progressive image of 200 megapixels in 16 scans, or of 20 in 160. Each scan goes through the
whole image however few bytes it has; 0.6 nanoseconds a pixel and scan were measured for empty ones."""

_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7\x01])")
_EXIF: Final = b"Exif\0\0"
_SCAN: Final = 0xDA
_END: Final = 0xD9
_START: Final = 0xD8
_APP1: Final = 0xE1
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ARITHMETIC: Final = frozenset(range(0xC9, 0xD0))
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC9})
_TAIL_BYTES: Final = 1 << 16


def read_jpeg(view: memoryview) -> Layout:
    """Read the size and the orientation, and judge whether the file can hold its image.

    Raises:
        LayoutError: the segments are damaged, or there are too many.
    """
    frame: _Frame | None = None
    orientation: int | None = None
    scans = scan_bytes = 0
    data_start: int | None = None
    for marker, start, body, end in _segments(view):
        if data_start is not None:
            scan_bytes += start - data_start
            data_start = None
        if marker in _FRAMES and frame is None:
            frame = _Frame.read(marker, view, body)
        elif marker == _APP1 and orientation is None and end > body + 6 and bytes(view[body : body + 6]) == _EXIF:
            orientation = exif_orientation(view[body + 6 : end])
        elif marker == _SCAN:
            scans += 1
            data_start = min(end, len(view))
            whole = scans == 1 and frame is not None and frame.is_whole(view[body : body + 1])
            if whole and (end_marker := _end_after(view, data_start)) >= 0:
                # The decoder takes no scan after this one, so its data, nearly the whole file, need not be searched.
                scan_bytes = end_marker - data_start
                break
        elif marker == _END:
            break
    else:
        return _sized(frame, orientation, scans, "is damaged or cut short: it has no end")
    problem = ""
    if frame is not None and scans * frame.width * frame.height > MAX_SCAN_PIXELS:
        problem = f"would take too long to decode: it has {scans} scans"
    elif frame is not None and scan_bytes * 8 < frame.least_bits:
        problem = "is damaged or cut short: its data is too short for its size"
    return _sized(frame, orientation, scans, problem)


def padding_bytes(view: memoryview) -> int:
    """How many zeros stand before the end marker of a JPEG; 0 if none is found within `MAX_SEGMENTS`."""
    try:  # `read_jpeg` looks no further than the first scan if that holds the whole image
        end = next((start for marker, start, _, _ in _segments(view) if marker == _END), 0)
    except LayoutError:
        return 0
    tail = bytes(view[max(0, end - _LONGEST_PADDING) : end])
    return len(tail) - len(tail.rstrip(b"\0"))


_LONGEST_PADDING: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the frame header states, in pixels and samples."""

    width: int
    height: int
    components: int
    arithmetic: bool
    sequential: bool

    @classmethod
    def read(cls, marker: int, view: memoryview, body: int) -> _Frame:
        height, width, components = struct.unpack_from(">HHB", view, body + 1)
        return cls(width, height, components, marker in _ARITHMETIC, marker in _SEQUENTIAL)

    def is_whole(self, scan_start: memoryview) -> bool:
        """Whether a scan whose header begins so is the only one that a decoder takes."""
        return self.sequential and scan_start == bytes((self.components,))

    @property
    def least_bits(self) -> int:
        """Each block of 8×8 samples of the largest component takes at least one bit of a Huffman code."""
        return 0 if self.arithmetic else -(-self.width // 8) * -(-self.height // 8)


def _sized(frame: _Frame | None, orientation: int | None, scans: int, problem: str) -> Layout:
    if frame is None:
        return Layout(0, 0, problem=problem)
    several = 3 + 2 * frame.components if scans > 1 else 0  # all coefficients are kept until the last scan
    return Layout(frame.width, frame.height, orientation or UPRIGHT, pixel_bytes=several, problem=problem)


def _end_after(view: memoryview, at: int) -> int:
    """Where the last end marker stands behind a place; -1 without one. It is nearly always in the file's last bytes."""
    for start in (max(at, len(view) - _TAIL_BYTES), at):
        if (found := bytes(view[start:]).rfind(b"\xff\xd9")) >= 0:
            return start + found
    return -1


def _segments(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Each marker with its place, and the beginning and the end of the segment behind it, its length left out.

    The compressed data of a scan goes from the end of its segment to the next marker.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(view, at)
        if match is None:
            return
        marker, body = match[1][0], match.end()
        if marker == _END:
            yield marker, match.start(), body, body
            return
        if marker == _START or body + 2 > len(view):
            return
        at = body + struct.unpack_from(">H", view, body)[0]
        yield marker, match.start(), body + 2, at
    raise LayoutError(f"has more than {MAX_SEGMENTS} segments")
