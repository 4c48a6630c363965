"""Putting a frame of ordinary memory onto pinned memory: all of it, only the rows that count, or scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.detect.gpu.staging import Frame
    from yoloship.letterbox import Letterbox


BY_THE_HOST: Final = frozenset({"copied", "resized"})
"""The modes of frames that the host puts onto pinned memory."""


def staged_hw(frame: Frame) -> tuple[int, int]:
    """(height, width) of what the letterbox reads."""
    box: Letterbox = frame.letterbox
    if frame.mode == "resized":
        return box.resized_hw
    if frame.mode != "copied" or frame.pick is None:
        return box.image_hw
    return box.image_hw[0] // frame.pick.step * frame.pick.count, box.image_hw[1]


def fill(frame: Frame, target: npt.NDArray[np.uint8]) -> None:
    """Put a frame's pixels onto pinned memory, scaled if its mode says so.

    Args:
        frame: Its mode is in `BY_THE_HOST`.
        target: (height, width, 3) of `staged_hw`, overwritten.
    """
    import cv2

    height, width = target.shape[:2]
    if frame.mode == "resized":
        if frame.letterbox.image_hw == (height, width):
            np.copyto(target, frame.pixels)
        else:
            cv2.resize(frame.pixels, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        return
    # The one copy of OpenCV's that all its threads share. It swaps red and blue; the letterbox is told so.
    pixels, pick = frame.pixels, frame.pick
    if pick is None:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=target)
        return
    # The rows of one step that count lie side by side, so they are one long row.
    long_rows = (height // pick.count, pick.count * width, 3)
    picked = as_strided(pixels[pick.first :], long_rows, (pick.step * 3 * width, 3, 1), writeable=False)
    cv2.cvtColor(picked, cv2.COLOR_BGR2RGB, dst=target.reshape(long_rows))
