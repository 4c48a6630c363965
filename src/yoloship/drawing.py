"""Boxes with labels over a picture."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Color = tuple[int, int, int]
"""Blue, green, red in 0..255."""

GOLDEN_ANGLE_TURNS = 0.38196601125
"""Successive class ids are this far apart on the colour wheel, so that neighbours never look alike."""


def draw_boxes(
    image: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    labels: Sequence[str],
) -> npt.NDArray[np.uint8]:
    """Draw boxes, first ones on top, on a copy of a picture.

    Args:
        image: (height, width, 3) uint8 BGR; read only.
        boxes_xyxy: (n, 4) float32 in source pixels.
        class_ids: (n,) int32; they choose the colour.
        labels: n texts; an empty one gives a box without a label. Letters beyond ASCII are shown.

    Returns:
        (height, width, 3) uint8 BGR; the caller owns it.

    Raises:
        InputError: the picture is not of that form, or the numbers of boxes, ids and labels differ.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            "wrong picture",
            subject="draw_boxes",
            expected="(height, width, 3) uint8",
            got=f"{image.shape} {image.dtype}",
        )
    if not len(boxes_xyxy) == len(class_ids) == len(labels):
        raise InputError(
            "boxes, class ids and labels differ in number",
            subject="draw_boxes",
            got=f"{len(boxes_xyxy)}, {len(class_ids)} and {len(labels)}",
        )
    canvas = np.array(image, order="C")
    pen = _Pen(canvas)
    rows = list(zip(np.asarray(boxes_xyxy, np.float64).tolist(), np.asarray(class_ids).tolist(), labels, strict=True))
    for box, class_id, _ in reversed(rows):  # the best score comes first and is drawn last, on top
        pen.outline(box, class_color(class_id))
    for box, class_id, label in reversed(rows):
        if label:
            pen.label(box, label, class_color(class_id))
    return canvas


def class_color(class_id: int) -> Color:
    """The colour of a class: the same in every picture and every run, and unlike its neighbours'."""
    hue = (0.02 + class_id * GOLDEN_ANGLE_TURNS) % 1.0
    lightness = (0.50, 0.62, 0.42)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.90)
    return round(blue * 255), round(green * 255), round(red * 255)


def text_color(background: Color) -> Color:
    """Black or white, whichever has the higher contrast on a background (WCAG 2.2, relative luminance)."""
    blue, green, red = ((c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


class _Pen:
    """Draws on one canvas with lines and letters that fit its size."""

    def __init__(self, canvas: npt.NDArray[np.uint8]) -> None:
        import cv2

        self._cv2 = cv2
        self._canvas = canvas
        self._height, self._width = canvas.shape[:2]
        side = (self._height * self._width) ** 0.5
        self._line_px = max(1, round(side / 400))
        self._text_px = max(9, round(side / 48))
        self._face = cv2.FontFace("sans")

    def outline(self, box: Sequence[float], color: Color) -> None:
        """A rectangle with a thin dark edge, so that it shows on light and dark alike."""
        corners = self._corners(box)
        if corners is None:
            return
        left, top, right, bottom = corners
        edge = tuple(c // 4 for c in color)
        if self._line_px > 1:
            self._cv2.rectangle(self._canvas, (left, top), (right, bottom), edge, self._line_px + 2)
        self._cv2.rectangle(self._canvas, (left, top), (right, bottom), color, self._line_px)

    def label(self, box: Sequence[float], text: str, color: Color) -> None:
        """A filled tag with the text: above the box where there is room, else inside its top, always in the picture."""
        corners = self._corners(box)
        if corners is None:
            return
        left, top, _, _ = corners
        text = "".join(" " if character.isspace() else character for character in text if character.isprintable())
        size = self._text_px
        pad = max(2, size // 4)
        while True:
            _, _, text_width, _ = self._cv2.getTextSize((0, 0), text, (0, 0), self._face, size, 500)
            if text_width + 2 * pad <= self._width or size <= 7:
                break
            size -= 1
        tag_height = size + 2 * pad
        if size < 7 or tag_height > self._height:
            return
        x = max(0, min(left - self._line_px // 2, self._width - text_width - 2 * pad))
        y = top - tag_height if top >= tag_height else min(top, self._height - tag_height)
        right, bottom = min(self._width, x + text_width + 2 * pad) - 1, y + tag_height - 1
        self._cv2.rectangle(self._canvas, (x, y), (right, bottom), color, -1)
        baseline = y + pad + round(size * 0.82)
        self._cv2.putText(self._canvas, text, (x + pad, baseline), text_color(color), self._face, size, 500)

    def _corners(self, box: Sequence[float]) -> tuple[int, int, int, int] | None:
        """Pixel corners inside the canvas; None for a box that is not finite."""
        if not all(map(np.isfinite, box)):
            return None
        left, top, right, bottom = box
        x_max, y_max = self._width - 1, self._height - 1
        x1, x2 = (min(max(round(x), 0), x_max) for x in (left, right))
        y1, y2 = (min(max(round(y), 0), y_max) for y in (top, bottom))
        return x1, y1, x2, y2
