"""Pixels from the bytes of a file whose header has been checked.

JPEG goes through simplejpeg, which gives the same pixels as OpenCV from the same library, in less time and half the
memory, and tells damaged data from sound instead of filling it with grey. OpenCV decodes the rest, and JPEGs if
simplejpeg cannot be imported. HEIC needs pillow-heif. Rotation is applied here, from the header that was checked, so
that an image's size and its pixels cannot disagree.
"""

from __future__ import annotations

import functools
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from yoloship.errors import DependencyError, ImageError
from yoloship.images.exif import UPRIGHT
from yoloship.images.jpeg import padding_bytes
from yoloship.images.png import critical_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from yoloship.images.header import Format, ImageHeader

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


def decode_image(data: bytes, header: ImageHeader, subject: str) -> Image:
    """Decode an image, and turn it upright.

    Args:
        data: The whole file.
        header: What `read_header` says of it, without a problem and within the limits.
        subject: The file's name, for messages.

    Returns:
        (height, width, 3) uint8 BGR, C-contiguous; the caller owns it.

    Raises:
        ImageError: the data is damaged, or what is in it is not what the header states.
        DependencyError: the format needs a package that is not installed.
    """
    image = _DECODERS.get(header.format, _by_opencv)(data, subject)
    turned = header.format in _TURNED_BY_THEIR_DECODER
    height, width = header.upright_hw if turned else (header.height, header.width)
    if image.shape != (height, width, 3):
        raise ImageError(
            f"{header.format} holds an image of another size than its header states",
            subject=subject,
            expected=f"{width}×{height}",
            got="×".join(str(extent) for extent in image.shape[1::-1]),
        )
    return image if turned else upright(image, header.orientation)


def upright(image: Image, orientation: int) -> Image:
    """Turn stored pixels upright.

    Args:
        image: (height, width, 3) uint8; read only.
        orientation: 1 to 8 as Exif numbers it.

    Returns:
        A new array, or `image` itself if it is upright.
    """
    if orientation == UPRIGHT:
        return image
    import cv2

    # OpenCV's own turns, several times as fast as copying a NumPy view of them.
    turned = cv2.transpose(image) if orientation >= 5 else image.copy()
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return cast("Image", turned if axis is None else cv2.flip(turned, axis, dst=turned))


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


@functools.cache
def _simplejpeg() -> Any:
    """The library, or None without it. It is looked for once: a search that fails holds up all threads each time."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def _jpeg(data: bytes, subject: str) -> Image:
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return _by_opencv(data, subject)
    try:
        return cast("Image", simplejpeg.decode_jpeg(data, "BGR"))
    except ValueError as error:
        remark = str(error)
    left_over = _LEFT_OVER.match(remark)
    padded = left_over is not None and int(left_over[1]) <= padding_bytes(memoryview(data))
    if not padded and _HARMLESS.match(remark) is None:
        raise ImageError("JPEG is damaged", subject=subject, got=repr(remark[:120]))
    try:
        return cast("Image", simplejpeg.decode_jpeg(data, "BGR", strict=False))
    except ValueError:  # it takes some remarks for errors in any case
        return _by_opencv(data, subject)


def _png(data: bytes, subject: str) -> Image:
    return _by_opencv(critical_chunks(data), subject)


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


_DECODERS: Final[MappingProxyType[Format, Callable[[bytes, str], Image]]] = MappingProxyType(
    {"JPEG": _jpeg, "PNG": _png, "HEIC": _heic}
)
