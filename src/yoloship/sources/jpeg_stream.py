"""Cuts a stream of JPEG images into its images: concatenated ones (MJPEG), and those of a multipart message.

Each image is followed from marker to marker, so that a thumbnail inside an image is not taken for one.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from yoloship.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START: Final = b"\xff\xd8\xff"
MAX_IMAGE_BYTES: Final = 64 << 20
MAX_BETWEEN_BYTES: Final = 1 << 20
"""Bytes between two images that are skipped, such as the headers of a multipart message."""
PIECE_BYTES: Final = 1 << 16
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the data of a scan: a marker that is neither a restart nor a stuffed byte."""


def split_jpegs(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Give the bytes of each image as soon as it is complete.

    A damaged image is given too, up to the next one, and so is one that is cut off: decoding it reports the error.

    Args:
        read: Gives up to this many bytes, and none at the end.

    Raises:
        ImageError: an image, or what lies between two, is too long.
    """
    held = bytearray()
    while True:
        begin = held.find(START)
        if begin < 0:
            if len(held) > MAX_BETWEEN_BYTES:
                raise ImageError("too many bytes that are not JPEG", got=f"{len(held):,} bytes")
            piece = read(PIECE_BYTES)
            if not piece:
                return
            held += piece
            continue
        if begin > MAX_BETWEEN_BYTES:
            raise ImageError("too many bytes that are not JPEG", got=f"{begin:,} bytes")
        del held[:begin]
        follower = _Follower(held)
        while (end := follower.end()) is None:
            piece = read(PIECE_BYTES)
            if not piece:
                yield bytes(held)
                return
            held += piece
            if len(held) > MAX_IMAGE_BYTES + PIECE_BYTES:
                raise ImageError("image is too long", expected=f"at most {MAX_IMAGE_BYTES:,} bytes")
        yield bytes(held[:end])
        del held[:end]


class _Follower:
    """Follows the markers of the image with which a growing buffer begins."""

    def __init__(self, held: bytearray) -> None:
        self._held = held
        self._at = 2
        self._in_scan = self._is_damaged = False

    def end(self) -> int | None:
        """Where the image ends; None if its end is not in the buffer yet."""
        held = self._held
        while True:
            if self._is_damaged:  # up to the next image
                found = held.find(START, self._at)
                self._at = found if found >= 0 else max(self._at, len(held) - 2)
                return found if found >= 0 else None
            if self._in_scan:
                match = _END_OF_SCAN.search(held, self._at)
                if match is None:
                    self._at = max(self._at, len(held) - 1)
                    return None
                self._at, self._in_scan = match.start(), False
            if self._at + 4 > len(held) and not (self._at + 2 <= len(held) and held[self._at + 1] == 0xD9):
                return None
            marker = held[self._at + 1]
            if held[self._at] != 0xFF or marker == 0xD8:
                self._is_damaged = True
            elif marker == 0xD9:
                return self._at + 2
            elif marker == 0xFF:  # a fill byte
                self._at += 1
            elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
                self._at += 2
            else:
                self._in_scan = marker == 0xDA
                self._at += 2 + int.from_bytes(held[self._at + 2 : self._at + 4], "big")
