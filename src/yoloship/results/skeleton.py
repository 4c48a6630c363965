"""Draws keypoints on an image: the skeleton of a person for COCO's 17 points, single points for any other set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.drawing import FARTHEST_PX, SUBPIXEL_BITS, class_color, fitting_line_px

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.drawing import Color

VISIBLE: Final = 0.5
"""A point with a lower visibility is not drawn, nor is a limb that ends there."""

_HEAD, _LEFT, _RIGHT, _TRUNK = (80, 220, 255), (255, 170, 40), (70, 90, 255), (120, 230, 120)
"""Colours as blue, green, red: left and right are those of the person, so that a mirrored pose can be seen."""

COCO_LIMBS: Final[tuple[tuple[int, int, Color], ...]] = (
    (15, 13, _LEFT), (13, 11, _LEFT), (16, 14, _RIGHT), (14, 12, _RIGHT), (11, 12, _TRUNK), (5, 11, _TRUNK),
    (6, 12, _TRUNK), (5, 6, _TRUNK), (5, 7, _LEFT), (6, 8, _RIGHT), (7, 9, _LEFT), (8, 10, _RIGHT), (1, 2, _HEAD),
    (0, 1, _HEAD), (0, 2, _HEAD), (1, 3, _HEAD), (2, 4, _HEAD), (3, 5, _HEAD), (4, 6, _HEAD),
)  # fmt: skip
"""Pairs of points that are joined, counted from 0, and their colours. The pairs are COCO's `skeleton` of a person."""
COCO_POINTS: Final = 17


def draw_keypoints(
    canvas: npt.NDArray[np.uint8], keypoints: npt.NDArray[np.float32], line_width_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """Draw the keypoints of every object; earlier objects are on top of later ones.

    Args:
        canvas: (height, width, 3) uint8 BGR, as `as_canvas` makes it; it is written to.
        keypoints: (n, K, 2) float32, x and y in source pixels; or (n, K, 3) with the visibility in [0, 1]. With 17
            points they are joined as COCO's skeleton of a person.
        line_width_px: Width of the limbs; None chooses one that fits the image.

    Returns:
        `canvas`.
    """
    line_px = line_width_px or fitting_line_px(canvas.shape[:2])
    person = keypoints.shape[1] == COCO_POINTS
    for points in keypoints[::-1]:
        shown = np.isfinite(points).all(axis=1) & (np.abs(points[:, :2]) < FARTHEST_PX).all(axis=1)
        if points.shape[1] > 2:
            shown &= points[:, 2] >= VISIBLE
        places = np.where(shown[:, None], points[:, :2], np.float32(0)) * np.float32(1 << SUBPIXEL_BITS)
        centres = np.rint(places).astype(np.int64).tolist()
        if person:
            _limbs(canvas, centres, shown, line_px)
        for index in np.flatnonzero(shown)[::-1].tolist():
            _point(canvas, centres[index], _person_color(index) if person else class_color(index), line_px)
    return canvas


def _limbs(canvas: npt.NDArray[np.uint8], centres: list[list[int]], shown: npt.NDArray[np.bool_], line_px: int) -> None:
    import cv2

    for one, other, color in COCO_LIMBS:
        if shown[one] and shown[other]:
            cv2.line(canvas, centres[one], centres[other], color, line_px, cv2.LINE_AA, SUBPIXEL_BITS)


def _point(canvas: npt.NDArray[np.uint8], centre: list[int], color: Color, line_px: int) -> None:
    """A dot with a thin dark edge, so that it is visible on light and dark backgrounds."""
    import cv2

    blue, green, red = color
    for extra_px, shade in ((1.0, (blue // 4, green // 4, red // 4)), (0.0, color)):
        radius = round((1.3 * line_px + extra_px) * (1 << SUBPIXEL_BITS))
        cv2.circle(canvas, centre, radius, shade, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _person_color(index: int) -> Color:
    """Of COCO's points the first five are the head's; after them left and right alternate, left first."""
    return _HEAD if index < 5 else (_LEFT, _RIGHT)[(index + 1) % 2]
