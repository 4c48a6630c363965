"""Telling what a caller hands over: a plain array, another library's array on the device, or something to be read."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from yoloship.errors import InputError

FILE_CHANNELS: Final = frozenset({1, 3})
"""Channels of a model that image files can feed: colour, and grey made of it."""


def refuse_files(channels: int, subject: str) -> None:
    """Refuse image files for a model that they cannot feed.

    Raises:
        InputError: the model takes neither colour nor grey images.
    """
    if channels not in FILE_CHANNELS:
        raise InputError(
            f"the model takes images of {channels} channels, which image files do not have",
            subject=subject,
            hint=f"hand over arrays (height, width, {channels}) in Python",
        )


def is_plain(picture: Any) -> bool:
    """Whether it is the one form that goes on as it is."""
    return (
        type(picture) is np.ndarray
        and picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[2] == 3
        and picture.size > 0
        and bool(picture.flags.c_contiguous)
    )


def is_on_device(picture: object) -> bool:
    """Whether it is another library's array in device memory."""
    if isinstance(picture, np.ndarray | str | bytes):
        return False
    place = getattr(picture, "__dlpack_device__", None)
    if place is not None:
        return int(place()[0]) == 2  # kDLCUDA
    return hasattr(picture, "__cuda_array_interface__")


def device_hw(picture: Any) -> tuple[int, int]:
    """(height, width) of an array on the device.

    Raises:
        InputError: it has another shape than (height, width, 3), or no pixels.
    """
    shape = tuple(int(extent) for extent in picture.shape)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            "cannot be taken as a frame",
            subject="GPU array",
            expected="(height, width, 3) uint8, none of them 0",
            got=str(shape),
        )
    return shape[0], shape[1]
