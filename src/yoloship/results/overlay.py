"""Draws masks on an image: a tint of the class's colour over the object, and a line around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.drawing import class_color, fitting_line_px

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.masks import Masks

TINT: Final = 0.45
"""Share of the colour in a pixel of the mask; the image still shows through."""


def draw_masks(
    canvas: npt.NDArray[np.uint8],
    masks: Masks,
    class_ids: npt.NDArray[np.int32],
    line_width_px: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw the masks of every object; earlier objects are on top of later ones.

    Args:
        canvas: (height, width, 3) uint8 BGR of the masks' size, as `as_canvas` makes it; it is written to.
        masks: n masks.
        class_ids: (n,) int32: ids of classes or of tracks; they determine the colours.
        line_width_px: Line width of the boxes, which the outlines are half as wide as; None chooses one that fits the
            image.

    Returns:
        `canvas`.
    """
    import cv2

    line_px = max(1, (line_width_px or fitting_line_px(canvas.shape[:2])) // 2)
    parts = list(zip(masks.in_windows(), class_ids.tolist(), strict=True))
    for (mask, left, top), class_id in reversed(parts):
        if not mask.size:
            continue
        color = np.array(class_color(class_id))
        tinted = np.rint(np.arange(256)[:, None] * (1 - TINT) + color * TINT).astype(np.uint8)
        region = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
        pixels = mask.view(np.uint8)
        cv2.copyTo(cv2.LUT(region, tinted[None]), pixels, region)
        contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        cv2.polylines(canvas, contours, True, color.tolist(), line_px, cv2.LINE_AA)
    return canvas
