"""Arrays and PIL pictures brought to (height, width, 3) uint8 BGR."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from yoloship.errors import ImageError

EXPECTED = "(height, width, 3) uint8 BGR, or a greyscale, BGRA or PIL image"


def as_bgr(picture: object, *, subject: str = "image") -> npt.NDArray[np.uint8]:
    """Bring a decoded picture to the one form that the pipeline takes.

    Args:
        picture: An array (height, width), (height, width, 1), (…, 3) BGR or (…, 4) BGRA, uint8 or uint16 (scaled by its
            full range), any strides; an object that NumPy converts to such an array, as a CPU tensor of torch; or a PIL
            image of any mode (its Exif orientation is applied). Read only.
        subject: What to call it in messages.

    Returns:
        (height, width, 3) uint8 BGR, C-contiguous. It is the array that was given where that has this form already;
        treat it as read-only.

    Raises:
        ImageError: another element type, shape or object.
    """
    array = picture if isinstance(picture, np.ndarray) else _as_array(picture, subject)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        hint = "multiply by 255 and convert to uint8" if array.dtype.kind == "f" else None
        raise ImageError("wrong element type", subject=subject, expected=EXPECTED, got=str(array.dtype), hint=hint)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = "transpose it to height, width, channels" if array.ndim == 3 and array.shape[0] in (1, 3) else None
        raise ImageError("wrong shape", subject=subject, expected=EXPECTED, got=str(array.shape), hint=hint)
    if 0 in array.shape:
        raise ImageError("has no pixels", subject=subject, got=str(array.shape))
    if array.dtype.itemsize == 2:
        array = (array.astype(np.uint16) >> 8).astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 4:
        array = array[:, :, :3]
    return cast("npt.NDArray[np.uint8]", np.ascontiguousarray(array))


def as_channels(picture: object, channels: int, *, subject: str = "image") -> npt.NDArray[np.uint8]:
    """Bring a decoded image to what a model of so many channels takes.

    Args:
        picture: For 3 channels what `as_bgr` takes. For 1 the same, and (height, width) or (height, width, 1) stay as
            they are; colour stays colour and becomes grey later. For other numbers an array (height, width, channels),
            uint8 or uint16.
        channels: Of the model's input.
        subject: What to call it in messages.

    Returns:
        (height, width, channels) uint8, C-contiguous, or (height, width, 3) BGR if `channels` is 1.

    Raises:
        ImageError: another element type, shape or object.
    """
    if not isinstance(picture, np.ndarray) and hasattr(picture, "__array__"):
        picture = _as_array(picture, subject)
    if channels == 1 and isinstance(picture, np.ndarray) and picture.ndim == 2:
        picture = picture[:, :, None]
    if channels == 3:
        return as_bgr(picture, subject=subject)
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != channels:
        if channels == 1:
            return as_bgr(picture, subject=subject)
        got = str(picture.shape) if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ImageError(
            "wrong number of channels", subject=subject, expected=f"an array (height, width, {channels})", got=got
        )
    return np.dstack([as_bgr(picture[:, :, place], subject=subject)[:, :, :1] for place in range(channels)])


def _as_array(picture: object, subject: str) -> npt.NDArray[np.generic]:
    """What another library holds, as an array: a PIL image, or anything that NumPy can convert, such as a tensor."""
    if any(kind.__module__.startswith("PIL.") for kind in type(picture).__mro__):
        return _from_pil(picture, subject)
    if not hasattr(picture, "__array__"):
        raise ImageError("is not an image", subject=subject, expected=EXPECTED, got=type(picture).__name__)
    try:
        return np.asarray(picture)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a device, or one that needs its gradient
        raise ImageError(
            f"cannot be converted to an array: {error}", subject=subject, got=type(picture).__name__
        ) from error


def _from_pil(picture: object, subject: str) -> npt.NDArray[np.generic]:
    """A PIL image as (height, width, 3) BGR; PIL is imported only for objects from there."""
    from PIL import Image, ImageOps

    assert isinstance(picture, Image.Image)
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16"):
            return np.asarray(upright).astype(np.uint16)
        return np.asarray(upright.convert("RGB"))[:, :, ::-1]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # lazily opened files
        raise ImageError(f"cannot be decoded: {error}", subject=subject) from error
