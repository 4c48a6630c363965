"""How much of a video file is missing at its end, by the lengths that the file itself states.

FFmpeg gives the frames up to the cut and then ends, as if nothing had happened.

Sources: ISO/IEC 14496-12, section 4.2 (boxes); RFC 8794, sections 4 and 6 (EBML); the AVI RIFF file reference.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_PARTS: Final = 100_000
"""Parts of one file whose lengths are added: a fragmented video of a day has fewer."""
_SEGMENT: Final = b"\x18\x53\x80\x67"
_EBML: Final = b"\x1a\x45\xdf\xa3"


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes a file should have beyond its end; 0 if none are missing or its format does not say.

    Args:
        file: An open, seekable file; where it stands afterwards is not defined.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return _end_of_boxes(file, size) - size
    if head.startswith(_EBML):
        return max(0, _end_of_segment(file, size) - size)
    if head.startswith(b"RIFF"):
        return max(0, _end_of_riff(file, size) - size)
    return 0


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last box ends: at the end of the file, or beyond it."""
    at = 0
    for _ in range(MAX_PARTS):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return size
        length = int.from_bytes(head[:4], "big")
        if not head[4:8].isalnum():
            return size  # something else follows the last box
        if length == 1:
            length = int.from_bytes(head[8:], "big") if len(head) == 16 else 16
        if length == 0:  # to the end of the file
            return size
        if length < 8:
            return size
        at += length
    return max(at, size)


def _end_of_segment(file: BinaryIO, size: int) -> int:
    file.seek(0)
    head = file.read(4096)
    length, used = _number(head, 4)
    at = 4 + used + length
    if head[at : at + 4] != _SEGMENT:
        return size
    length, used = _number(head, at + 4)
    is_unknown = length == (1 << 7 * used) - 1  # a recording that was never finished, or a live stream
    return size if is_unknown or not used else at + 4 + used + length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number of EBML, and how many bytes it has; 0 bytes if it is not valid."""
    first = data[at] if at < len(data) else 0
    used = 9 - first.bit_length() if first else 0
    if not used or at + used > len(data):
        return 0, 0
    return int.from_bytes(data[at : at + used], "big") & ((1 << 7 * used) - 1), used


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Where the last RIFF list ends; a large AVI file has several."""
    at = 0
    for _ in range(MAX_PARTS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        (length,) = struct.unpack("<I", head[4:])
        if length in {0, 0xFFFFFFFF}:  # not finished by its writer
            return size
        at += 8 + length + length % 2
    return at
