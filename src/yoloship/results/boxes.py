"""How much upright boxes overlap: intersection over union."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float = TypeVar("Float", np.float32, np.float64)


def pair_ious(first_xyxy: npt.NDArray[Float], second_xyxy: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Intersection over union of boxes, pair by pair.

    A box has no area if its right edge is not right of its left edge or its bottom edge is not below its top edge; its
    IoU with any box is then 0. The arithmetic has the arrays' type and the order written here, so that the code in
    graphs and in CUDA gives the same bits. Coordinates near 1e19 overflow float32; such an IoU is NaN.

    Args:
        first_xyxy: (4, …) float32 or float64: left, top, right and bottom edges in any unit; read only.
        second_xyxy: (4, …) of the same type and unit, of a shape that broadcasts with the first; read only.

    Returns:
        The common shape without its first axis, of the same type; the caller owns it.
    """
    zero = first_xyxy.dtype.type(0)
    x1, y1, x2, y2 = first_xyxy
    u1, v1, u2, v2 = second_xyxy
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        width = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), zero)
        height = np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), zero)
        overlap = width * height
        area = np.maximum(x2 - x1, zero) * np.maximum(y2 - y1, zero)
        other = np.maximum(u2 - u1, zero) * np.maximum(v2 - v1, zero)
        union = area + other - overlap
        iou: npt.NDArray[Float] = np.where(union > zero, overlap / union, zero)
    return iou


def box_ious(first_xyxy: npt.NDArray[Float], second_xyxy: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Intersection over union of each box with each other one; see `pair_ious` for boxes without area.

    Args:
        first_xyxy: (n, 4) float32 or float64, in any unit; read only.
        second_xyxy: (m, 4) of the same type and unit; read only.

    Returns:
        (n, m) of the same type; the caller owns it.
    """
    return pair_ious(first_xyxy.T[:, :, None], second_xyxy.T)
