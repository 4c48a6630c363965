"""A file, or its bytes, decoded within limits."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from yoloship._util.reading import read_file_or_pipe
from yoloship.errors import ImageError, InputError
from yoloship.images.header import ImageHeader, jpeg_has_end, read_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

KNOWN_FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG 2000 or PPM"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may cost; checked before it is decoded.

    Attributes:
        max_pixels: Width times height; three bytes each once decoded.
        max_side_px: Of the longer side.
        max_file_bytes: Of the file as it stands on disk.
    """

    max_pixels: int = 200_000_000
    max_side_px: int = 65_535
    max_file_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_side_px", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise InputError("must be positive", subject=f"ImageLimits.{name}", got=str(getattr(self, name)))


DEFAULT_LIMITS = ImageLimits()


def read_image(source: Path | str | bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """Read one picture.

    Args:
        source: A path, of a file or of a pipe such as ``/dev/stdin``; or the bytes of a file.
        limits: What the picture may cost.

    Returns:
        (height, width, 3) uint8 BGR, upright by its EXIF orientation; the caller owns it. See the package for what
        becomes of other pixel forms.

    Raises:
        ImageError: the file is missing, unreadable, empty, no picture, damaged, cut short or over a limit.
    """
    if isinstance(source, bytes):
        return _decode(source, "picture bytes", limits)
    data = read_file_or_pipe(source, limits.max_file_bytes, error=ImageError, wanted="an image")
    return _decode(data, str(source), limits)


def _decode(data: bytes, subject: str, limits: ImageLimits) -> npt.NDArray[np.uint8]:
    import cv2

    _checked_header(data, subject, limits)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError("cannot be decoded", subject=subject, got=str(error.err or error)[:120]) from error
    if image is None or image.size == 0:
        raise ImageError("is damaged, cut short or of a kind that cannot be decoded", subject=subject)
    return cast("npt.NDArray[np.uint8]", image)


def _checked_header(data: bytes, subject: str, limits: ImageLimits) -> ImageHeader:
    if not data:
        raise ImageError("is empty (0 bytes)", subject=subject)
    header = read_header(data)
    if header is None:
        raise ImageError("is no picture", subject=subject, expected=KNOWN_FORMATS, got=_beginning(data))
    if header.width < 1 or header.height < 1:
        raise ImageError(
            f"{header.format} without a usable size in its header",
            subject=subject,
            got=f"{header.width}×{header.height}",
        )
    if header.width * header.height > limits.max_pixels or max(header.width, header.height) > limits.max_side_px:
        raise ImageError(
            "picture too large",
            subject=subject,
            expected=f"at most {limits.max_pixels / 1e6:g} megapixels and {limits.max_side_px} a side",
            got=f"{header.width}×{header.height} ({header.width * header.height / 1e6:.0f} megapixels)",
            hint="make it smaller, or cut it into tiles",
        )
    if header.format == "PNG" and not _png_is_whole(data):
        raise ImageError("PNG is damaged or cut short", subject=subject)
    if header.format == "JPEG" and not jpeg_has_end(data):
        raise ImageError("JPEG is damaged or cut short: it has no end", subject=subject)
    return header


def _png_is_whole(data: bytes) -> bool:
    """Whether every critical chunk up to the last is there with its checksum; else libpng complains on stderr."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return False
        kind = data[at + 4 : at + 8]
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if kind == b"IEND":
            return True
        at = end
    return False


def _beginning(data: bytes) -> str:
    start = data[:12]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f"a file that begins with {start.decode('ascii')!r}"
    return f"a file that begins with {start.hex(' ')}"
