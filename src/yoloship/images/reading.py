"""A file, or its bytes, decoded within limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.names import refuse_address, similar_file
from yoloship._util.reading import read_file_or_pipe
from yoloship.errors import ImageError, InputError
from yoloship.images.decoding import decode_image
from yoloship.images.header import ImageHeader, read_header
from yoloship.kinds import IMAGE_KINDS, kind_of, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from yoloship.errors import YoloshipError

KNOWN_FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC, JPEG 2000 or PPM"
WORK_BYTES = 8
"""What decoding a pixel may take, the result included, if an image is to have as many pixels as the limit says."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost; checked before it is decoded.

    Attributes:
        max_pixels: Width times height, and whatever else a decoder has to hold; three bytes each once decoded. Of
            what takes more than `WORK_BYTES` a pixel to decode, only as many as take no more memory: half as many of
            AVIF and JPEG 2000, and nine tenths of progressive JPEGs.
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

    def max_pixels_of(self, header: ImageHeader) -> int:
        """The most pixels of an image of this format."""
        pixel_bytes = header.work_bytes // max(header.held_pixels, 1)
        return min(self.max_pixels, self.max_pixels * WORK_BYTES // max(pixel_bytes, 1))


DEFAULT_LIMITS = ImageLimits()
_SIGNATURE_BYTES: Final = 64
"""What tells the formats apart; see `read_header`."""


def read_image(
    source: Path | str | bytes,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    reserve: Callable[[int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """Read one image.

    Args:
        source: A path, of a file or of a pipe such as ``/dev/stdin``; or the bytes of a file.
        limits: What the image may cost.
        reserve: Called with the bytes that the file takes, before it is read, and with a bound for those that its
            decoding takes, before it is decoded. It may wait, or raise.

    Returns:
        (height, width, 3) uint8 BGR, turned upright; the caller owns it. The package's docstring says what becomes of
        other pixel forms.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, cut short, over a limit or not an image.
        DependencyError: it is a HEIC image, and pillow-heif is not installed.
    """
    if reserve is not None and not isinstance(source, bytes):
        reserve(min(_length(source), limits.max_file_bytes))
    data, subject = _bytes_of(source, limits)
    header = _checked_header(data, subject, limits)
    if reserve is not None:
        reserve(header.work_bytes)
    return decode_image(data, header, subject)


def bytes_of_file(file: object, *, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The rest of a file that somebody opened for reading bytes.

    Raises:
        ImageError: it gives text, cannot be read, or holds more than the limit.
    """
    subject = str(getattr(file, "name", "open file"))
    text = ImageError("gives text, not bytes", subject=subject, hint="open it with 'rb'")
    parts: list[bytes] = []
    left = limits.max_file_bytes + 1
    while left > 0:  # a pipe gives what is there, not all that it will give
        try:
            part: object = file.read(left)  # type: ignore[attr-defined]  # the caller asked for it
        except UnicodeDecodeError as error:
            raise text from error
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be read: {error}", subject=subject) from error
        if not isinstance(part, bytes | bytearray | memoryview):
            raise text
        if not part:
            break
        parts.append(bytes(part))
        left -= len(part)
    data = b"".join(parts)
    if len(data) > limits.max_file_bytes:
        expected = f"at most {limits.max_file_bytes:,} bytes"
        raise ImageError("is too long for an image", subject=subject, expected=expected)
    return data


def image_size(source: Path | str | bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """The size of the image that `read_image` would give, without decoding it.

    Args:
        source: A path, or the bytes of a file.
        limits: What the image may cost.

    Returns:
        (height, width), upright.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, over a limit or not an image.
    """
    data, subject = _bytes_of(source, limits)
    return _checked_header(data, subject, limits).upright_hw


def _length(path: Path | str) -> int:
    """Of a file as it stands on disk; 0 if that cannot be said, which reading it will report."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a string may be no valid path
    except (OSError, ValueError):
        return 0


def _bytes_of(source: Path | str | bytes, limits: ImageLimits) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "image bytes"
    refuse_address(source, error=ImageError)
    subject = str(source)

    def check_start(start: bytes) -> None:
        if start and read_header(start[:_SIGNATURE_BYTES]) is None:  # the whole is walked once, when it is there
            raise _not_an_image(start, subject)

    try:
        data = read_file_or_pipe(
            source, limits.max_file_bytes, error=ImageError, wanted="an image", check_start=check_start
        )
    except ImageError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or (hint := _meant(Path(source))) is None:
            raise
        raise ImageError(error.problem, subject=error.subject, hint=hint) from error.__cause__
    return data, subject


def _meant(missing: Path) -> str | None:
    """What a missing file was probably meant to be."""
    if str(missing) == "-":
        return "give /dev/stdin to read standard input"
    similar = similar_file(missing)
    return None if similar is None else f"did you mean {similar!r}?"


def _checked_header(data: bytes, subject: str, limits: ImageLimits) -> ImageHeader:
    if not data:
        raise ImageError("is empty (0 bytes)", subject=subject)
    header = read_header(data)
    if header is None:
        raise _not_an_image(data, subject)
    if not header.problem and (header.width < 1 or header.height < 1):
        raise ImageError(
            f"{header.format} without a usable size in its header",
            subject=subject,
            got=f"{header.width}×{header.height}",
        )
    max_pixels = limits.max_pixels_of(header)
    if header.held_pixels > max_pixels or max(header.width, header.height) > limits.max_side_px:
        raise ImageError(
            "image too large",
            subject=subject,
            expected=f"at most {max_pixels / 1e6:g} megapixels of {header.format} and {limits.max_side_px} a side",
            got=f"{header.width}×{header.height} ({header.held_pixels / 1e6:.0f} megapixels)",
            hint="make it smaller, or cut it into tiles",
        )
    if header.problem:
        raise ImageError(f"{header.format} {header.problem}", subject=subject)
    return header


def _not_an_image(data: bytes, subject: str) -> YoloshipError:
    kind = kind_of(data)
    if kind in {"unknown", "text"} or kind in IMAGE_KINDS:
        return ImageError("is not an image", subject=subject, expected=KNOWN_FORMATS, got=_beginning(data))
    return wrong_kind(kind, "image", subject=subject, error=ImageError)


def _beginning(data: bytes) -> str:
    start = data[:12]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f"a file that begins with {start.decode('ascii')!r}"
    return f"a file that begins with {start.hex(' ')}"
