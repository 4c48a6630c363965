"""Geometry of oriented boxes: their corners, and how much two of them overlap, as probabilistic IoU.

An oriented box is (cx, cy, w, h, θ): its centre, the lengths of its sides, and the angle in radians from the x axis to
the side of length w, clockwise on the screen because y points down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float = TypeVar("Float", np.float32, np.float64)

_SMALL: Final = 1e-7
_FARTHEST: Final = 100.0
"""Where the distance of Bhattacharyya is cut off; the IoU is then 0."""


def corners_of(boxes_xywhr: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """The corners of oriented boxes, in the order in which the field's tools give them.

    With u half of the side of length w, and v half of the side of length h, they are c + u + v, c + u − v, c − u − v
    and c − u + v.

    Args:
        boxes_xywhr: (..., 5) float32 or float64: centre, sides and angle in radians; read only.

    Returns:
        (..., 4, 2) of the same type: x and y of each corner, in the unit of the boxes; the caller owns it.
    """
    centre, half = boxes_xywhr[..., None, :2], boxes_xywhr[..., 2:4] / boxes_xywhr.dtype.type(2)
    with np.errstate(invalid="ignore"):
        cosine, sine = np.cos(boxes_xywhr[..., 4]), np.sin(boxes_xywhr[..., 4])
        along = np.stack([half[..., 0] * cosine, half[..., 0] * sine], axis=-1)[..., None, :]
        across = np.stack([-half[..., 1] * sine, half[..., 1] * cosine], axis=-1)[..., None, :]
        corners: npt.NDArray[Float] = np.concatenate(
            [centre + along + across, centre + along - across, centre - along - across, centre - along + across],
            axis=-2,
        )
    return corners


def hulls_of(boxes_xywhr: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """The smallest upright box around each oriented box.

    Args:
        boxes_xywhr: (..., 5) float32 or float64; read only.

    Returns:
        (..., 4) of the same type, xyxy in the unit of the boxes; the caller owns it.
    """
    corners = corners_of(boxes_xywhr)
    hulls: npt.NDArray[Float] = np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)
    return hulls


def moments_of(boxes_xywhr: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """The normal distribution that stands for each oriented box.

    Args:
        boxes_xywhr: (n, 5) float32 or float64: centre, sides and angle in radians; read only.

    Returns:
        (5, n) of the same type: the centre's x and y, and the second moments along x, along y and mixed; the caller
        owns it.
    """
    twelve = boxes_xywhr.dtype.type(12)
    x, y, width, height, angle = boxes_xywhr.T
    with np.errstate(over="ignore", invalid="ignore"):
        along, across = width * width / twelve, height * height / twelve
        cosine, sine = np.cos(angle), np.sin(angle)
        along_x = along * cosine * cosine + across * sine * sine
        along_y = along * sine * sine + across * cosine * cosine
        moments: npt.NDArray[Float] = np.stack([x, y, along_x, along_y, (along - across) * cosine * sine])
    return moments


def pair_probious(first: npt.NDArray[Float], second: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Probabilistic IoU of oriented boxes, pair by pair: 1 − H, with H the Hellinger distance of their distributions.

    Two equal boxes have about 0.9995, because of the small numbers that keep the formula finite. It is NaN if a box is
    so thin that its moments are lost in rounding.

    Args:
        first: (5, …) float32 or float64, as `moments_of` gives it; read only.
        second: (5, …) of the same type and unit, of a shape that broadcasts with the first; read only.

    Returns:
        The common shape without its first axis, of the same type; the caller owns it.

    Source:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection,
        arXiv 2106.06072, with the small numbers of the field's tools: ε = 1e-7, and distances between ε and 100.
    """
    number = first.dtype.type
    small, half = number(_SMALL), number(0.5)
    x1, y1, a1, b1, c1 = first
    x2, y2, a2, b2, c2 = second
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        dx, dy, a, b, c = x1 - x2, y1 - y2, a1 + a2, b1 + b2, c1 + c2
        determinant = a * b - c * c
        safe = determinant + small
        own = np.maximum(a1 * b1 - c1 * c1, number(0)) * np.maximum(a2 * b2 - c2 * c2, number(0))
        centres = (a * dy * dy + b * dx * dx) / safe * number(0.25) - c * dx * dy / safe * half
        shapes = np.log(determinant / (number(4) * np.sqrt(own) + small) + small) * half
        distance = np.minimum(np.maximum(centres + shapes, small), number(_FARTHEST))
        probiou: npt.NDArray[Float] = number(1) - np.sqrt(number(1) - np.exp(-distance) + small)
    return probiou
