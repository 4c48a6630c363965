"""From model pixels back to source pixels, for detections and for labels, as YOLOv5's validation does it.

The exact padding is taken off, and both axes are divided by the height's ratio, though the width may have another. The
labels go to the canvas and back in the same way, so that both carry the same rounding. All of it is float32.

Source: the detections of the official runs in bench/results/val-yolov5-2026-11-28.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.validate.yolov5.pixels import Placed

    Floats = npt.NDArray[np.float32]


_EDGE_PX: Final = 1e-3
_TWO: Final = np.float32(2)


def to_source(boxes_xyxy: Floats, placed: Placed) -> Floats:
    """Bring boxes back, clipped to the image.

    Args:
        boxes_xyxy: (n, 4) float32, model pixels; read only.
        placed: Where the image lies.

    Returns:
        (n, 4) float32, source pixels; the caller owns it.
    """
    (left, top), (height, width) = placed.pad_xy, placed.source_hw
    pad = np.array([left, top, left, top], np.float32)
    limit = np.array([width, height, width, height], np.float32)
    back: Floats = np.clip((boxes_xyxy - pad) / np.float32(placed.gain), np.float32(0), limit)
    return back


def labels_to_source(shares: Floats, placed: Placed) -> Floats:
    """The boxes of labels, as they come back from the canvas.

    Args:
        shares: (m, 4) float32: centre and size as shares of the image's width and height; read only.
        placed: Where the image lies.

    Returns:
        (m, 4) float32 xyxy, source pixels; the caller owns it.
    """
    (left, top), (high, wide) = placed.pad_xy, placed.image_hw
    height, width = placed.input_hw
    scale = np.array([wide, high], np.float32)
    pad = np.array([left, top], np.float32)
    canvas = np.array([width, height], np.float32)
    edge = np.array([width - _EDGE_PX, height - _EDGE_PX], np.float32)
    half = shares[:, 2:] / _TWO
    low = np.clip(scale * (shares[:, :2] - half) + pad, np.float32(0), edge)
    high_corner = np.clip(scale * (shares[:, :2] + half) + pad, np.float32(0), edge)
    centre = (low + high_corner) / _TWO / canvas * canvas
    size = (high_corner - low) / canvas * canvas
    return to_source(np.concatenate([centre - size / _TWO, centre + size / _TWO], axis=1), placed)


def shares_of(boxes_xyxy: npt.NDArray[np.floating], image_hw: tuple[int, int]) -> Floats:
    """(n, 4) float32 centre and size as shares, of boxes (n, 4) xyxy in source pixels; the caller owns it."""
    scale = np.array(image_hw[::-1], np.float64)
    boxes = boxes_xyxy.astype(np.float64)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / scale
    return np.concatenate([centre, (boxes[:, 2:] - boxes[:, :2]) / scale], axis=1).astype(np.float32)
