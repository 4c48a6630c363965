"""Turns the images of a caller into the input of a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import IOBase
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.sources.source import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from yoloship.detect.pipeline import Placement
    from yoloship.detect.stream import Reserve
    from yoloship.images import ChannelOrder
    from yoloship.model import DType, ModelInfo, TensorSpec
    from yoloship.transforms import Transform


FILE_CHANNELS: Final = frozenset({1, 3})
"""Channels of models that can take image files: 3 for colour, 1 for grey, which is computed from colour."""


def as_image(
    source: object,
    reserve: Reserve | None = None,
    *,
    count: int = 3,
    channels: ChannelOrder = "bgr",
    read: Callable[..., Any] | None = None,
) -> Any:
    """Read anything that a caller may give as an image.

    Args:
        source: A file's name, its bytes, an open file, a PIL image, an array, an object that converts to an array, or a
            frame that has one of these.
        reserve: Called before a file is decoded, with the bytes that decoding needs. It may wait, or raise.
        count: Channels that the model takes. For 1, colour images stay in colour here, so that they can be drawn on.
        channels: The order of an array's colours; files and other libraries' images state their own.
        read: Used for files in place of `read_image`: `open_image` leaves them encoded.

    Returns:
        (height, width, `count`) uint8, C-contiguous; (height, width, 3) BGR for 3, and for 1 also. For a file, what
        `read` gives.

    Raises:
        ImageError: it cannot be read, or is not an image.
        InputError: the model takes other channels than an image file has.
        YoloshipError: the error of a frame that its source could not decode.
    """
    from pathlib import Path

    from yoloship import images

    if isinstance(source, Frame):
        if source.error is not None:
            raise source.error
        source = source.image
    if isinstance(source, np.ndarray):
        return images.as_channels(source, count, channels=channels)
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    elif isinstance(source, os.PathLike):
        source = os.fsdecode(source)  # to read it, text does
    elif hasattr(source, "read") and not hasattr(source, "__array__"):
        source = images.bytes_of_file(source)
    if not isinstance(source, str | Path | bytes):
        on_device = getattr(source, "host", None)  # an image of one of our decoders
        if on_device is not None:
            source, channels = on_device(), "bgr"
        return images.as_channels(source, count, channels=channels)
    if count not in FILE_CHANNELS:
        raise no_files(count, "image bytes" if isinstance(source, bytes) else str(source))
    return (read or images.read_image)(source, reserve=reserve)


def unframed(source: object) -> object:
    """The image of a frame of `yoloship.sources`, None if it is broken; anything else as it is."""
    return source.image if isinstance(source, Frame) else source


def several_images(images: Iterable[object], count: int) -> Iterable[object]:
    """Check that a caller gave several images. The characters or rows of a single one would be taken for images.

    Args:
        images: Images, each as `as_image` takes it.
        count: Channels that the model takes.

    Raises:
        InputError: it is one image, or cannot be iterated over.
    """
    shape = getattr(images, "shape", ())
    is_pixels = isinstance(shape, tuple) and len(shape) == 3 and shape[2] in {1, 3, 4, count}
    is_file = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | IOBase)
    if is_pixels or is_file or not isinstance(images, Iterable):
        raise InputError(
            "wrong type", subject="images", expected="several images", got=f"one {type(images).__name__}",
            hint="put a single image into a list; for a folder, list its files",
        )  # fmt: skip
    return images


def no_files(count: int, subject: str) -> InputError:
    """The error for a file and a model that takes neither colour nor grey images; `FILE_CHANNELS` says which do.

    Args:
        count: Channels that the model takes.
        subject: What to call the file in the message.
    """
    return InputError(
        f"the model takes images of {count} channels, which image files do not have",
        subject=subject,
        hint=f"pass arrays (height, width, {count}) in Python",
    )


def is_plain(image: Any) -> bool:
    """Whether an image already has the form that needs no conversion."""
    return (
        type(image) is np.ndarray
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
        and bool(image.flags.c_contiguous)
    )


def is_on_device(image: object) -> bool:
    """Whether an object is another library's array in device memory."""
    if isinstance(image, np.ndarray | str | bytes):
        return False
    place = getattr(image, "__dlpack_device__", None)
    if place is not None:
        return int(place()[0]) == 2  # kDLCUDA
    return hasattr(image, "__cuda_array_interface__")


def device_hw(image: Any) -> tuple[int, int]:
    """(height, width) of an array on the device.

    Raises:
        InputError: it has another shape than (height, width, 3), or no pixels.
    """
    extents = image.shape if hasattr(image, "shape") else image.__cuda_array_interface__["shape"]
    shape = tuple(int(extent) for extent in extents)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            "cannot be used as a frame",
            subject="GPU array",
            expected="(height, width, 3) uint8, none of them 0",
            got=str(shape),
        )
    return shape[0], shape[1]


def letterbox_batch(
    images: Sequence[npt.NDArray[np.uint8]], letterboxes: Sequence[Placement], out: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Put images of any sizes on canvases of one size.

    Args:
        images: Each (h, w, C) uint8; if C is 1, also (h, w, 3) BGR, which becomes grey. Read only.
        letterboxes: The place of each image, a letterbox or a crop; all have the canvas size (H, W).
        out: (B, H, W, C) uint8, B at least the number of images; it is overwritten. Spare canvases become black.

    Returns:
        `out`.
    """
    for canvas, image, letterbox in zip(out, images, letterboxes, strict=False):
        pixels = image if image.shape[2] == canvas.shape[2] else with_channels(image, canvas.shape[2])
        letterbox.apply(pixels, out=canvas)
    out[len(images) :] = 0
    return out


def with_channels(image: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """Make a colour image grey for a model of one channel.

    Grey is 0.299 red + 0.587 green + 0.114 blue, rounded as OpenCV does (ITU-R BT.601). It is the same for files and
    arrays, so that a file and its decoded array give the same detections. Trainings read files with `cv2.imread(…,
    cv2.IMREAD_GRAYSCALE)`, which uses the library of the file format: PNG differs by at most one level; JPEG uses its
    stored luma (in three photographs up to 9 of 255 levels apart, on average at most 0.03).

    Args:
        image: (h, w, C) uint8, or (h, w, 3) BGR if C is 1; read only.
        channels: C.

    Returns:
        (h, w, C): `image` itself if it has C channels.
    """
    if image.shape[2] == channels or channels != 1:
        return image
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]


def to_input(canvases: npt.NDArray[np.uint8], dtype: DType, transform: Transform | None = None) -> npt.NDArray[Any]:
    """Bring letterboxed or cropped images to a model's input.

    Args:
        canvases: (B, H, W, C) uint8, BGR if C is 3, C-contiguous; read only.
        dtype: The input's type. ``uint8`` takes the canvases unchanged, because the graph does the rest; ``float32``
            and ``float16`` take (B, C, H, W) in [0, 1], RGB if C is 3.
        transform: Says the mean and the standard deviation that normalise the values; None leaves them in [0, 1].

    Returns:
        `canvases` itself for ``uint8``; else a new C-contiguous array.
    """
    if dtype == "uint8":
        return canvases
    return to_float(canvases, transform).astype(np.dtype(dtype), copy=False)


def model_feeds(
    inputs: Sequence[TensorSpec], info: ModelInfo, canvases: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[Any]]:
    """The inputs of a run, by name.

    Args:
        inputs: Those of the session.
        info: The model.
        canvases: (B, H, W, C) uint8, BGR if C is 3, C-contiguous; read only.
    """
    feeds: dict[str, npt.NDArray[Any]] = {}
    for spec in inputs:
        if len(spec.shape) == 2:  # of a DETR: the size of its boxes, which is to be that of the canvas
            from yoloship.tasks.foreign import target_sizes

            feeds[spec.name] = target_sizes(len(canvases), canvases.shape[1:3])
        elif info.pixels == "bgr255":
            planes = np.ascontiguousarray(canvases.transpose(0, 3, 1, 2))
            feeds[spec.name] = planes.astype(np.dtype(spec.dtype))
        else:
            feeds[spec.name] = to_input(canvases, spec.dtype, info.transform)
    return feeds


def to_float(canvases: npt.NDArray[np.uint8], transform: Transform | None = None) -> npt.NDArray[np.float32]:
    """Divide by 255 and make planes: (B, C, H, W) float32 from (B, H, W, C) uint8, each sample rounded to float32.

    Three channels change their order from BGR to RGB; any other number of channels keeps its order. A transform
    subtracts its mean and divides by its standard deviation, each step rounded to float32, as torch does.
    """
    batch, height, width, channels = canvases.shape
    out = np.empty((batch, channels, height, width), np.float32)
    for channel in range(channels):
        source = canvases[..., 2 - channel if channels == 3 else channel]
        if transform is None or not transform.normalises:
            np.divide(source, np.float32(255), out=out[:, channel])
        else:
            levels = np.arange(256, dtype=np.float32) / np.float32(255)
            levels = (levels - np.float32(transform.mean[channel])) / np.float32(transform.std[channel])
            np.take(levels, source, out=out[:, channel], mode="clip")
    return out
