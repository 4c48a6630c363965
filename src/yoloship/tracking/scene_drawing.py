"""Draws zones and counting lines with their counts on an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.drawing import SUBPIXEL_BITS, Color, class_color, draw_labels, fitting_line_px

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.tracking.scene import Scene

    Image = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float64]

TINT: Final = 0.22
"""Share of the colour in a pixel of a zone."""
FIRST_COLOR: Final = 3
"""Zones and lines begin here in the colours of classes."""
NEAR_PX: Final = 1 << 15
"""Coordinates are moved at least so near, because OpenCV takes no larger ones."""


def draw_scene(canvas: Image, scene: Scene, line_width_px: int | None = None) -> Image:
    """Draw the zones and lines of a scene.

    Args:
        canvas: (height, width, 3) uint8 BGR, as `as_canvas` makes it; it is written to.
        scene: Of an image of this size.
        line_width_px: Width of lines; None chooses one that fits the image.

    Returns:
        `canvas`.
    """
    line_px = line_width_px or fitting_line_px(canvas.shape[:2])
    labels = []
    for place, (name, (placed, count)) in enumerate(scene.zones.items()):
        color = class_color(FIRST_COLOR + place)
        _zone(canvas, placed.points_xy, color, line_px)
        labels.append((f"{name}: {len(count.inside)}", color, _lowest(placed.points_xy)))
    for place, (name, (placed, crossed)) in enumerate(scene.lines.items()):
        color = class_color(FIRST_COLOR + len(scene.zones) + place)
        _line(canvas, placed.points_xy, color, line_px)
        text = f"{name}: in {sum(crossed.entered.values())}, out {sum(crossed.left.values())}"
        labels.append((text, color, _lowest(placed.points_xy)))
    draw_labels(canvas, labels, line_width_px)
    return canvas


def _zone(canvas: Image, corners_xy: Floats, color: Color, line_px: int) -> None:
    """A tinted area with an edge."""
    import cv2

    places = [_fixed(corners_xy)]
    top_left = np.clip(np.floor(corners_xy.min(axis=0)), 0, None).astype(int)
    bottom_right = np.ceil(corners_xy.max(axis=0)).astype(int) + 1
    region = canvas[top_left[1] : max(bottom_right[1], 0), top_left[0] : max(bottom_right[0], 0)]
    if region.size:
        inside = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillPoly(inside, places, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        part = inside[top_left[1] : bottom_right[1], top_left[0] : bottom_right[0]]
        tinted = np.rint(np.arange(256)[:, None] * (1 - TINT) + np.array(color) * TINT).astype(np.uint8)
        cv2.copyTo(cv2.LUT(region, tinted[None]), part, region)
    _stroke(canvas, places, color, line_px, closed=True)


def _line(canvas: Image, ends_xy: Floats, color: Color, line_px: int) -> None:
    """A line with a dot at its ends, and an arrow in its middle to the side that counts as in."""
    import cv2

    start, end = ends_xy
    length = float(np.hypot(*(end - start)))
    across = np.array([start[1] - end[1], end[0] - start[0]]) / length
    along = (end - start) / length
    middle, size = (start + end) / 2, 5.0 * line_px + 6
    tip = middle + across * size
    head = [tip + across * 0.6 * size, tip - along * 0.4 * size, tip + along * 0.4 * size]
    _stroke(canvas, [_fixed(np.stack([start, end]))], color, line_px)
    _stroke(canvas, [_fixed(np.stack([middle, tip]))], color, line_px)
    dark = tuple(part // 4 for part in color)
    for shade, extra_px in ((dark, 1.0), (color, 0.0)):
        for point in (start, end):
            radius = round((1.4 * line_px + extra_px) * (1 << SUBPIXEL_BITS))
            cv2.circle(canvas, _fixed(point[None])[0].tolist(), radius, shade, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    cv2.fillConvexPoly(canvas, _fixed(np.stack(head)), color, cv2.LINE_AA, SUBPIXEL_BITS)


def _lowest(points_xy: Floats) -> tuple[float, float]:
    """The lowest point, where the labels of objects are seldom."""
    x, y = points_xy[points_xy[:, 1].argmax()].tolist()
    return x, y


def _stroke(
    canvas: Image, places: list[npt.NDArray[np.int32]], color: Color, line_px: int, *, closed: bool = False
) -> None:
    """A line with a thin dark edge, so that it shows on light and dark backgrounds."""
    import cv2

    dark = (color[0] // 4, color[1] // 4, color[2] // 4)
    if line_px > 1:
        cv2.polylines(canvas, places, closed, dark, line_px + 2, cv2.LINE_AA, SUBPIXEL_BITS)
    cv2.polylines(canvas, places, closed, color, line_px, cv2.LINE_AA, SUBPIXEL_BITS)


def _fixed(points_xy: Floats) -> npt.NDArray[np.int32]:
    """Points in parts of pixels, as OpenCV takes them."""
    return np.rint(np.clip(points_xy, -NEAR_PX, NEAR_PX) * (1 << SUBPIXEL_BITS)).astype(np.int32)
