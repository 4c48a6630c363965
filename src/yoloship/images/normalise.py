"""Converts arrays and images of other libraries to (height, width, 3) uint8 BGR."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from yoloship.errors import ImageError, InputError

ChannelOrder: TypeAlias = Literal["bgr", "rgb"]
"""``bgr``: blue, green, red, as OpenCV reads files. ``rgb``: red, green, blue, as most video decoders, PIL and
torchvision give frames."""

DecodeChoice: TypeAlias = Literal["auto", "gpu", "cpu"]
"""Who decodes image files and videos: ``gpu`` or ``cpu`` alone, or ``auto``, which takes the GPU for what it can decode
there, except video files: only the CPU tells their damaged frames."""

EXPECTED: Final = "(height, width, 3) uint8 BGR, or a greyscale, BGRA or PIL image"
_SAMPLE_FORMATS: Final = {"I_RGB": "rgb", "I_RGBA": "rgb", "I_BGR": "bgr", "I_Y": "rgb", "I_YA": "rgb"}
"""Sample formats of nvImageCodec: interleaved samples with a known order. For grey images the order does not matter."""


def checked_order(channels: object) -> ChannelOrder:
    """The order of an array's channels, as a caller gives it.

    Raises:
        InputError: it is not one of `ChannelOrder`.
    """
    if not isinstance(channels, str) or channels not in get_args(ChannelOrder):
        raise InputError(
            "no such channel order",
            subject="channels",
            expected=" or ".join(get_args(ChannelOrder)),
            got=repr(channels),
        )
    return cast("ChannelOrder", channels)


def stated_order(image: object) -> ChannelOrder | None:
    """The order of the channels that an image itself states; None for arrays, which do not say.

    Args:
        image: Anything. The images of nvImageCodec (`nvidia.nvimgcodec.Image`, in the host's or the GPU's memory) say
            it in `sample_format`, and are RGB in the versions that have none. PIL images are recognised by `as_bgr`.

    Raises:
        ImageError: it is an image of nvImageCodec with planar samples, or in another colour space.
    """
    if not type(image).__module__.startswith("nvidia.nvimgcodec"):
        return None
    form: Any = getattr(image, "sample_format", None)
    name = "I_RGB" if form is None else str(getattr(form, "name", form))
    if name not in _SAMPLE_FORMATS:
        raise ImageError(
            "nvImageCodec image of an unusual sample format",
            expected=", ".join(_SAMPLE_FORMATS),
            got=name,
            hint="decode it with the sample format I_RGB",
        )
    return cast("ChannelOrder", _SAMPLE_FORMATS[name])


def as_bgr(image: object, *, channels: ChannelOrder = "bgr", subject: str = "image") -> npt.NDArray[np.uint8]:
    """Bring a decoded image to the one form that the pipeline takes.

    Args:
        image: An array (height, width), (height, width, 1), (…, 3) or (…, 4), uint8 or uint16 (scaled by its full
            range), any strides; an object that NumPy converts to such an array, as a CPU tensor of torch; or a PIL
            image of any mode (its Exif orientation is applied). Read only.
        channels: The order of an array's colours, with or without an alpha channel behind them. Images of PIL and of
            nvImageCodec state their own, which counts.
        subject: What to call it in messages.

    Returns:
        (height, width, 3) uint8 BGR, C-contiguous. It is the array that was given if that has this form already;
        treat it as read-only.

    Raises:
        ImageError: another element type, shape or object.
    """
    order = checked_order(channels)
    array: npt.NDArray[np.generic]
    if type(image) is np.ndarray:
        array = image
    elif _is_pil(image):
        array, order = _from_pil(image, subject), "bgr"
    else:
        array, order = _as_array(image, subject), stated_order(image) or order
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
    elif order == "rgb":
        array = array[:, :, 2::-1]
    elif array.shape[2] == 4:
        array = array[:, :, :3]
    return cast("npt.NDArray[np.uint8]", np.ascontiguousarray(array))


def as_channels(
    image: object, count: int, *, channels: ChannelOrder = "bgr", subject: str = "image"
) -> npt.NDArray[np.uint8]:
    """Bring a decoded image to what a model of so many channels takes.

    Args:
        image: For 3 channels what `as_bgr` takes. For 1 the same, and (height, width) or (height, width, 1) stay as
            they are; colour stays colour and becomes grey later. For other numbers an array (height, width, channels),
            uint8 or uint16.
        count: Channels of the model's input.
        channels: The order of an array's colours; see `as_bgr`.
        subject: What to call it in messages.

    Returns:
        (height, width, count) uint8, C-contiguous, or (height, width, 3) BGR if `count` is 1.

    Raises:
        ImageError: another element type, shape or object.
        InputError: an order is given for an array whose channels are not colours.
    """
    if count not in {1, 3} and checked_order(channels) != "bgr":
        raise InputError(
            "is for colour images", subject="channels", got=f"{channels!r} for a model of {count} channels",
            hint="pass the channels in the model's own order",
        )  # fmt: skip
    if count == 3:
        return as_bgr(image, channels=channels, subject=subject)
    array = image if _is_pil(image) else _as_array(image, subject)
    if isinstance(array, np.ndarray) and count == 1 and array.ndim == 2:
        array = array[:, :, None]
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[2] != count:
        if count == 1:
            return as_bgr(array, channels=stated_order(image) or channels, subject=subject)
        got = str(array.shape) if isinstance(array, np.ndarray) else type(image).__name__
        raise ImageError(
            "wrong number of channels", subject=subject, expected=f"an array (height, width, {count})", got=got
        )
    return np.dstack([as_bgr(array[:, :, place], subject=subject)[:, :, :1] for place in range(count)])


def _is_pil(image: object) -> bool:
    return any(kind.__module__.startswith("PIL.") for kind in type(image).__mro__)


def _as_array(image: object, subject: str) -> npt.NDArray[np.generic]:
    """An object of another library as an array: anything that NumPy can convert, such as a tensor."""
    if isinstance(image, np.ndarray):
        return np.asarray(image)  # not a subclass: np.repeat of a np.matrix writes beyond its memory
    if not hasattr(image, "__array__") and not hasattr(image, "__array_interface__"):
        hint = "use detect_batch or stream for several images" if isinstance(image, list | tuple) else None
        raise ImageError("is not an image", subject=subject, expected=EXPECTED, got=type(image).__name__, hint=hint)
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a device, or one that needs its gradient
        raise ImageError(
            f"cannot be converted to an array: {error}", subject=subject, got=type(image).__name__
        ) from error


def _from_pil(image: object, subject: str) -> npt.NDArray[np.generic]:
    """A PIL image as (height, width, 3) BGR. PIL is imported only if the object comes from it."""
    from PIL import Image, ImageOps

    assert isinstance(image, Image.Image)
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            return np.asarray(upright).astype(np.uint16)
        if upright.mode in {"I", "F"}:
            return _whole_grey(np.asarray(upright), upright.mode, subject)
        return np.asarray(upright.convert("RGB"))[:, :, ::-1]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # lazily opened files
        raise ImageError(f"cannot be decoded: {error}", subject=subject) from error


def _whole_grey(values: npt.NDArray[np.generic], mode: str, subject: str) -> npt.NDArray[np.uint8]:
    """A PIL image with 32 bits per sample. PIL's own conversion would clip values at 255, and turn fractions into 0."""
    grey = values.astype(np.uint8)
    if not np.array_equal(grey, values):
        raise ImageError(
            f"PIL image of mode {mode} with values other than whole numbers from 0 to 255", subject=subject,
            expected=EXPECTED, hint="scale it to 8 bits per sample",
        )  # fmt: skip
    return grey
