"""An image file, or its bytes: what its header says, and its pixels, decoded within limits.

The header gives the format, the size and the orientation before anything is decoded. The formats are a closed table. A
file that is not in it is never handed to a decoder. What is read here is what the decoder will find: a file that states
two different sizes is refused.

JPEG goes through simplejpeg, which gives the same pixels as OpenCV from the same library, in less time and half the
memory, and tells damaged data from sound instead of filling it with grey. OpenCV decodes the rest, and JPEGs if
simplejpeg cannot be imported. HEIC needs pillow-heif. Rotation is applied here, from the header that was checked, so
that an image's size and its pixels cannot disagree.

Sources: BMP: BITMAPFILEHEADER and BITMAPINFOHEADER of the Windows SDK. GIF: GIF89a specification, section 18. WebP:
RFC 9649, section 2. Netpbm: the ppm and pgm manual pages. The other formats have modules of their own.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from yoloship._util.reading import PATIENCE, Patience, read_file_or_pipe, refuse_address
from yoloship._util.text import similar_file
from yoloship.errors import DependencyError, ImageError, InputError
from yoloship.images.formats import (
    UPRIGHT,
    Layout,
    LayoutError,
    critical_chunks,
    exif_orientation,
    read_jpeg2000,
    read_png,
    read_tiff,
)
from yoloship.images.heif import read_heif
from yoloship.images.jpeg import padding_bytes, read_jpeg
from yoloship.kinds import IMAGE_KINDS, kind_of, wrong_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from yoloship.errors import YoloshipError
    from yoloship.images.jpeg import Head
    from yoloship.kinds import Kind

    Image = npt.NDArray[np.uint8]


HEIC_HINT: Final = "pip install 'yoloship[heic]'"

_TURNED_BY_THEIR_DECODER: Final = frozenset({"TIFF", "HEIC"})
"""OpenCV turns TIFF whatever flags it is given, and libheif turns HEIC."""

_HARMLESS: Final = re.compile(
    r"Invalid SOS parameters for sequential JPEG|Unknown Adobe color transform code"
    r"|Warning: unknown JFIF revision number"
)
"""What libjpeg remarks on though every pixel is there."""
_LEFT_OVER: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
"""Zeros with which a camera fills up its file; other bytes show that the decoder lost its place in damaged data."""
KNOWN_FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC, JPEG 2000 or PPM"
WORK_BYTES = 8
"""What decoding a pixel may take, the result included, if an image is to have as many pixels as the limit says."""


Format: TypeAlias = Literal["JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF", "AVIF", "HEIC", "JPEG 2000", "Netpbm"]
_MAX_WEBP_CHUNKS: Final = 20_000


class ImageHeader(NamedTuple):
    """What a file says about itself.

    Attributes:
        format: Detected from the first bytes, whatever the file's name is.
        width: In stored pixels, before any rotation; 0 if the header is damaged.
        height: Likewise.
        orientation: How the stored pixels become upright, 1 to 8 as Exif numbers it.
        held_pixels: The most pixels that a decoder holds at once; at least width × height.
        work_bytes: A bound for the memory that decoding takes, the result included.
        problem: Why the file must not be decoded; empty if nothing speaks against it.
        head: The segments of a JPEG up to its first scan, if they are the usual ones: nobody has to read them again.
    """

    format: Format
    width: int
    height: int
    orientation: int = UPRIGHT
    held_pixels: int = 0
    work_bytes: int = 0
    problem: str = ""
    head: Head | None = None

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
    if not isinstance(data, bytes):
        data = memoryview(data).cast("B")
    kind = kind_of(data)
    found = _FORMATS.get(kind)
    if found is None:
        return None
    name, read, pixel_bytes = found
    try:
        layout = read_jpeg(data) if kind == "jpeg" else read(memoryview(data))  # a slice of bytes is a copy, but sooner
    except LayoutError as error:
        return ImageHeader(name, 0, 0, problem=str(error))
    except (struct.error, IndexError, KeyError, ValueError):
        return ImageHeader(name, 0, 0)
    width, height, orientation, held_pixels, layout_pixel_bytes, problem, head = layout
    pixels = max(width * height, held_pixels)
    work_bytes = pixels * max(pixel_bytes, layout_pixel_bytes)
    return ImageHeader(name, width, height, orientation, pixels, work_bytes, problem, head)


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


_FORMATS: Final[Mapping[Kind, tuple[Format, Callable[[memoryview], Layout], int]]] = MappingProxyType(
    {
        "jpeg": ("JPEG", read_jpeg, 6),
        "png": ("PNG", read_png, 6),
        "webp": ("WebP", _read_webp, 7),
        "bmp": ("BMP", _read_bmp, 6),
        "gif": ("GIF", _read_gif, 8),
        "tiff": ("TIFF", read_tiff, 7),
        "avif": ("AVIF", read_heif, 16),
        "heic": ("HEIC", read_heif, 8),
        "jp2": ("JPEG 2000", read_jpeg2000, 16),
        "netpbm": ("Netpbm", _read_netpbm, 6),
    }
)
"""Of each kind of image: its name, how its header is read, and the bytes that decoding takes a pixel: measured, rounded
up."""


def _by_opencv(data: bytes, subject: str) -> Image:
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError("cannot be decoded", subject=subject, got=str(error.err or error)[:120]) from error
    if image is None or image.size == 0:
        raise ImageError("is damaged, cut short or of a kind that cannot be decoded", subject=subject)
    return cast("Image", image)


def _jpeg(data: bytes, subject: str) -> Image:
    try:
        import simplejpeg
    except ImportError:
        return _by_opencv(data, subject)
    try:
        return cast("Image", simplejpeg.decode_jpeg(data, "BGR"))
    except ValueError as error:
        remark = str(error)
    left_over = _LEFT_OVER.match(remark)
    padded = left_over is not None and int(left_over[1]) <= padding_bytes(data)
    if not padded and _HARMLESS.match(remark) is None:
        raise ImageError("JPEG is damaged", subject=subject, got=repr(remark[:120]))
    try:
        return cast("Image", simplejpeg.decode_jpeg(data, "BGR", strict=False))
    except ValueError:  # it takes some remarks for errors in any case
        return _by_opencv(data, subject)


def _heic(data: bytes, subject: str) -> Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise DependencyError("HEIC images need pillow-heif", subject=subject, hint=HEIC_HINT) from error
    import io

    try:
        image = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        pixels = np.asarray(image)
    except (ValueError, RuntimeError, EOFError, IndexError, MemoryError, SyntaxError, OSError) as error:
        raise ImageError("HEIC cannot be decoded", subject=subject, got=str(error)[:120]) from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    color = pixels[:, :, 2::-1] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(color)


def _png(data: bytes, subject: str) -> Image:
    return _by_opencv(critical_chunks(data), subject)


_DECODERS: Final[MappingProxyType[Format, Callable[[bytes, str], Image]]] = MappingProxyType(
    {"JPEG": _jpeg, "PNG": _png, "HEIC": _heic}
)
"""OpenCV decodes the other formats."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost; checked before it is decoded.

    Attributes:
        max_pixels: Width times height, and whatever else a decoder has to hold; three bytes each once decoded. Of
            what takes more than `WORK_BYTES` a pixel to decode, only as many as take no more memory: half as many of
            AVIF and JPEG 2000, and nine tenths of progressive JPEGs.
        max_side_px: The most pixels of the longer side.
        max_file_bytes: The longest file, as it stands on disk.
    """

    max_pixels: int = 200_000_000
    max_side_px: int = 65_535
    max_file_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_side_px", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise InputError("must be positive", subject=f"ImageLimits.{name}", got=str(getattr(self, name)))


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that may be decoded.

    Attributes:
        data: All of it.
        header: What it says, which is within the limits.
        subject: Its name for messages.
    """

    data: bytes
    header: ImageHeader
    subject: str

    @property
    def nbytes(self) -> int:
        """Its length."""
        return len(self.data)


def read_image(
    source: Path | str | bytes | ImageFile,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    reserve: Callable[[int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """Read one image.

    Args:
        source: A path, of a file or of a pipe such as ``/dev/stdin``; the bytes of a file; or what `open_image` gives.
        limits: What the image may cost.
        reserve: Called with the bytes that the file takes, before it is read, and with a bound for those that its
            decoding takes, before it is decoded; with 0 while a pipe is silent. It may wait, or raise.

    Returns:
        (height, width, 3) uint8 BGR, turned upright; the caller owns it. The package's docstring says what becomes of
        other pixel forms.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, cut short, over a limit or not an image.
        InputError: it is neither a name nor bytes.
        DependencyError: it is a HEIC image, and pillow-heif is not installed.
    """
    file = source if isinstance(source, ImageFile) else ImageFile(*_checked(source, limits, reserve))
    header, subject = file.header, file.subject
    if reserve is not None:
        reserve(header.work_bytes)
    image = _DECODERS.get(header.format, _by_opencv)(file.data, subject)
    turned = header.format in _TURNED_BY_THEIR_DECODER
    height, width = header.upright_hw if turned else (header.height, header.width)
    if image.shape != (height, width, 3):
        raise ImageError(
            f"{header.format} holds an image of a different size than its header states",
            subject=subject,
            expected=f"{width}×{height}",
            got="×".join(str(extent) for extent in image.shape[1::-1]),
        )
    return image if turned or header.orientation == UPRIGHT else _upright(image, header.orientation)


def open_image(
    source: Path | str | bytes,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    reserve: Callable[[int], None] | None = None,
) -> ImageFile:
    """Do the first half of `read_image`: read a file, and check its header.

    Args:
        source: As for `read_image`.
        limits: What the image may cost.
        reserve: Called with the bytes that the file takes, before it is read; with 0 while a pipe is silent. It may
            wait, or raise.

    Raises:
        YoloshipError: what `read_image` raises of a file that is not damaged behind its header.
    """
    return ImageFile(*_checked(source, limits, reserve))


def _upright(image: Image, orientation: int) -> Image:
    """A copy of an image, turned by OpenCV: several times as fast as copying a NumPy view of it."""
    import cv2

    upright = cv2.transpose(image) if orientation >= 5 else image.copy()
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return cast("Image", upright if axis is None else cv2.flip(upright, axis, dst=upright))


def bytes_of_file(file: object, *, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The rest of a file that somebody opened for reading bytes.

    Raises:
        ImageError: it gives text or nothing, cannot be read, or holds more than the limit.
    """
    subject = str(getattr(file, "name", "open file"))
    text = ImageError("returns text, not bytes", subject=subject, hint="open it with 'rb'")
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
    if not data:
        raise ImageError("gives no bytes", subject=subject, hint="if it was read already, go back with seek(0)")
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
    return _checked(source, limits)[1].upright_hw


def _checked(
    source: Path | str | bytes, limits: ImageLimits, reserve: Callable[[int], None] | None = None
) -> tuple[bytes, ImageHeader, str]:
    """The bytes of an image, its header, which is within the limits and has no problem, and its name for messages."""
    if isinstance(source, bytes):
        data, subject = source, "image bytes"
    elif not isinstance(source, str | os.PathLike):
        raise InputError(
            "is not an image", subject="read_image", expected="a file's name, or its bytes", got=type(source).__name__
        )
    else:
        subject = str(source)
        try:
            data = read_file_or_pipe(
                source,
                limits.max_file_bytes,
                error=ImageError,
                wanted="an image",
                check_start=functools.partial(_refuse_other_start, subject),
                patience=PATIENCE if reserve is None else Patience(reserve=reserve),
            )
        except ImageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            refuse_address(source, error=ImageError)
            if (hint := _meant(Path(source))) is None:
                raise
            raise ImageError(error.problem, subject=error.subject, hint=hint) from error.__cause__
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
    pixel_bytes = header.work_bytes // max(header.held_pixels, 1)
    max_pixels = min(limits.max_pixels, limits.max_pixels * WORK_BYTES // max(pixel_bytes, 1))
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
    return data, header, subject


def _refuse_other_start(subject: str, start: bytes) -> None:
    """Refuse a file that does not begin like an image, before the rest is read."""
    if start and kind_of(start) not in IMAGE_KINDS:
        raise _not_an_image(start, subject)


def _meant(missing: Path) -> str | None:
    """What a missing file was probably meant to be."""
    if str(missing) == "-":
        return "give /dev/stdin to read standard input"
    similar = similar_file(missing)
    return None if similar is None else f"did you mean {similar!r}?"


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
