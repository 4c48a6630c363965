"""Draws boxes with labels on an image."""

from __future__ import annotations

import colorsys
import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


Color = tuple[int, int, int]
"""Blue, green, red in 0..255."""

Corners = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, inclusive."""

MAX_LINE_PX = 200
MIN_TEXT_PX = 9
USUAL_TEXT_PX = 11
WEIGHT = 500
"""Weight of the font: 400 is regular, 600 is semibold."""

SUBPIXEL_BITS = 4
FARTHEST_PX = 1 << 20
"""OpenCV takes coordinates as 32-bit integers, here in sixteenths of a pixel."""

UNSURE: Color = (160, 160, 160)
"""Of an object that the tracker is not sure of."""

GOLDEN_ANGLE_TURNS = 0.38196601125
"""Successive class ids are this far apart on the colour wheel, so that neighbours never look alike."""


def draw_boxes(
    canvas: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    labels: Sequence[str],
    line_width_px: int | None = None,
    corners_xy: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw boxes; earlier ones are on top of later ones.

    Args:
        canvas: (height, width, 3) uint8 BGR, as `as_canvas` makes it; it is written to.
        boxes_xyxy: (n, 4) float32 in source pixels.
        class_ids: (n,) int32: ids of classes or of tracks; they determine the colours.
        labels: n texts; an empty text gives a box without a label. Latin, Greek, Cyrillic, Hebrew, Chinese, Japanese
            and Korean letters are shown correctly, Arabic letters are not joined. Scripts that OpenCV's own font lacks
            (Thai, Devanagari, …) become question marks.
        line_width_px: Line width of the boxes, 1 to `MAX_LINE_PX`; None chooses one that fits the image.
        corners_xy: (n, 4, 2) float32 in source pixels: the corners of oriented boxes, which are then drawn instead;
            the boxes are only for the places of the labels. None draws the boxes.

    Returns:
        `canvas`.

    Raises:
        InputError: the numbers of boxes, ids and labels differ.
    """
    if not len(boxes_xyxy) == len(class_ids) == len(labels):
        raise InputError(
            "boxes, class ids and labels differ in number",
            subject="draw_boxes",
            got=f"{len(boxes_xyxy)}, {len(class_ids)} and {len(labels)}",
        )
    pen = _Pen(canvas, line_width_px)
    rows = []
    polygons = [None] * len(boxes_xyxy) if corners_xy is None else corners_xy
    for box, class_id, label, polygon in zip(boxes_xyxy.tolist(), class_ids.tolist(), labels, polygons, strict=True):
        if (corners := pen.corners(box)) is not None:
            tag = (
                pen.place(corners, text) if (text := _shown(label)) else None
            )  # the best boxes choose their place first
            rows.append((corners, class_color(class_id), tag, polygon))
    for corners, color, _, polygon in reversed(rows):  # and are drawn last, on top
        if polygon is None:
            pen.outline(corners, color)
        else:
            pen.polygon(polygon, color)
    for _, color, tag, _ in reversed(rows):
        if tag is not None:
            pen.label(tag, color)
    return canvas


def draw_tag(canvas: npt.NDArray[np.uint8], class_id: int, label: str) -> npt.NDArray[np.uint8]:
    """Draw one label in the upper left corner.

    Args:
        canvas: (height, width, 3) uint8 BGR; it is written to.
        class_id: Determines the colour.
        label: The text, as in `draw_boxes`; an image that is too small for it gets none.

    Returns:
        `canvas`.
    """
    pen = _Pen(canvas, 1)
    height, width = canvas.shape[:2]
    text = _shown(label)
    tag = pen.place((0, 0, width - 1, height - 1), text) if text else None
    if tag is not None:
        pen.label(tag, class_color(class_id))
    return canvas


def draw_labels(
    canvas: npt.NDArray[np.uint8],
    labels: Sequence[tuple[str, Color, tuple[float, float]]],
    line_width_px: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw labels that do not overlap.

    Args:
        canvas: (height, width, 3) uint8 BGR; it is written to.
        labels: Each text, its colour, and x and y in pixels of the place that it is about. An image that is too small
            for a label gets none.
        line_width_px: Line width of what the labels are about; None stands for one that fits the image.

    Returns:
        `canvas`.
    """
    pen = _Pen(canvas, line_width_px)
    placed = []
    for text, color, (x, y) in labels:
        corners, shown = pen.corners((x, y, x, y)), _shown(text)
        if corners is not None and shown and (tag := pen.place(corners, shown)) is not None:
            placed.append((tag, color))
    for tag, color in placed:
        pen.label(tag, color)
    return canvas


def as_canvas(
    image: npt.NDArray[np.uint8], subject: str, image_hw: tuple[int, int], line_width_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """A copy of an image to draw a result on.

    Args:
        image: (height, width, 3) uint8 BGR, or (height, width, 1) or (height, width) grey; read only.
        subject: The name of the caller, for messages.
        image_hw: (height, width) of the image that the result is of.
        line_width_px: The line width to draw with, to be checked; None is always right.

    Returns:
        (height, width, 3) uint8 BGR; the caller owns it.

    Raises:
        InputError: the image is not of that form or that size, or the line width is out of range.
    """
    if not isinstance(image, np.ndarray):
        raise InputError("is not an image", subject=subject, expected="an array", got=type(image).__name__)
    if image.shape[:2] != image_hw:
        raise InputError(
            "the result is of an image of a different size",
            subject=subject,
            expected=f"height and width {image_hw}",
            got=str(image.shape[:2]),
        )
    if line_width_px is not None and (isinstance(line_width_px, bool) or not 1 <= line_width_px <= MAX_LINE_PX):
        raise InputError(
            "out of range", subject="line width", expected=f"1 to {MAX_LINE_PX} pixels", got=str(line_width_px)
        )
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            "wrong image",
            subject=subject,
            expected="(height, width, 3) uint8",
            got=f"{image.shape} {image.dtype}",
        )
    return np.array(image, order="C")


def fitting_line_px(image_hw: Sequence[int]) -> int:
    """The line width that fits an image of this size."""
    side: float = (image_hw[0] * image_hw[1]) ** 0.5
    return max(1, round(1 + side / 480))


def class_color(class_id: int) -> Color:
    """The colour of a class or a track: the same in every image and run, and unlike those of neighbouring ids.

    A negative id, which stands for a track that is not confirmed, is grey.
    """
    if class_id < 0:
        return UNSURE
    hue = (0.02 + class_id * GOLDEN_ANGLE_TURNS) % 1.0
    lightness = (0.50, 0.62, 0.42)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.90)
    return round(blue * 255), round(green * 255), round(red * 255)


def text_color(background: Color) -> Color:
    """Black or white: the one with the higher contrast on a background (WCAG 2.2, relative luminance)."""
    blue, green, red = ((c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


@dataclass(frozen=True, slots=True)
class _Tag:
    """A label with its place: left, top, right and bottom in pixels; right and bottom are exclusive."""

    text: str
    size_px: int
    pad_px: int
    place: tuple[int, int, int, int]

    def overlap_px(self, other: _Tag) -> int:
        """Shared area in square pixels."""
        left, top, right, bottom = self.place
        left2, top2, right2, bottom2 = other.place
        return max(0, min(right, right2) - max(left, left2)) * max(0, min(bottom, bottom2) - max(top, top2))


class _Pen:
    """Draws on one image with lines and letters that fit its size."""

    def __init__(self, canvas: npt.NDArray[np.uint8], line_width_px: int | None) -> None:
        import cv2

        self._cv2 = cv2
        self._canvas = canvas
        self._height, self._width = canvas.shape[:2]
        side = (self._height * self._width) ** 0.5
        self._line_px = line_width_px or fitting_line_px(canvas.shape)
        self._text_px = max(USUAL_TEXT_PX, round(side / 46))
        self._face = cv2.FontFace("sans")
        self._tags: list[_Tag] = []

    def outline(self, box: Corners, color: Color) -> None:
        """Draw a rectangle with a thin dark edge, so that it is visible on light and dark backgrounds."""
        left, top, right, bottom = box
        if self._line_px > 1:
            blue, green, red = color
            edge = (blue // 4, green // 4, red // 4)
            self._cv2.rectangle(self._canvas, (left, top), (right, bottom), edge, self._line_px + 2)
        self._cv2.rectangle(self._canvas, (left, top), (right, bottom), color, self._line_px)

    def polygon(self, corners_xy: npt.NDArray[np.float32], color: Color) -> None:
        """Draw a closed line through corners, (k, 2) in pixels, with a thin dark edge; none if one is not finite."""
        if not (np.abs(corners_xy) < FARTHEST_PX).all():
            return
        places = [np.rint(corners_xy * np.float32(1 << SUBPIXEL_BITS)).astype(np.int32)]
        if self._line_px > 1:
            blue, green, red = color
            edge = (blue // 4, green // 4, red // 4)
            self._lines(places, edge, self._line_px + 2)
        self._lines(places, color, self._line_px)

    def _lines(self, places: list[npt.NDArray[np.int32]], color: Color, line_px: int) -> None:
        self._cv2.polylines(self._canvas, places, True, color, line_px, self._cv2.LINE_AA, SUBPIXEL_BITS)

    def place(self, box: Corners, text: str) -> _Tag | None:
        """Choose the size and place of a label, away from labels that were placed before.

        The label of a small box gets smaller letters. A label that is wider than the image is shortened with an
        ellipsis; if even that does not fit, there is no label.
        """
        left, top, right, bottom = box
        size = self._text_px
        width = self._text_width(text, size)
        if width > right - left:  # a small object gets smaller letters, down to two thirds
            size = max(MIN_TEXT_PX, round(size * max(2 / 3, (right - left) / width)))
        pad = max(2, size // 4)
        fitted = self._fitted(text, size, self._width - 2 * pad)
        height = size + 2 * pad
        if fitted is None or height > self._height:
            return None
        text, width = fitted
        width += 2 * pad
        edge = self._line_px // 2
        above, inside, below = top - edge - height, top - edge, bottom + edge + 1
        if bottom - top < 3 * height:  # inside a small object a label would hide it
            inside, below = below, inside
        options = []
        for x, y in (
            (left - edge, above),
            (right + edge + 1 - width, above),
            (left - edge, inside),
            (left - edge, below),
        ):
            if 0 <= y <= self._height - height:
                x_in = max(0, min(x, self._width - width))
                options.append(_Tag(text, size, pad, (x_in, y, x_in + width, y + height)))
        if not options:
            x, y = max(0, min(left, self._width - width)), max(0, min(top, self._height - height))
            options.append(_Tag(text, size, pad, (x, y, x + width, y + height)))
        best = min(options, key=lambda tag: sum(tag.overlap_px(other) for other in self._tags))
        self._tags.append(best)
        return best

    def label(self, tag: _Tag, color: Color) -> None:
        """Draw a filled label with its text in black or white."""
        left, top, right, bottom = tag.place
        self._cv2.rectangle(self._canvas, (left, top), (right - 1, bottom - 1), color, -1)
        baseline = (left + tag.pad_px, top + tag.pad_px + round(tag.size_px * 0.82))
        self._cv2.putText(self._canvas, tag.text, baseline, text_color(color), self._face, tag.size_px, WEIGHT)

    def corners(self, box: Sequence[float]) -> Corners | None:
        """Pixel corners inside the canvas; None for a box that is not finite."""
        if not all(map(math.isfinite, box)):
            return None
        left, top, right, bottom = box
        x_max, y_max = self._width - 1, self._height - 1
        x1, x2 = (min(max(round(x), 0), x_max) for x in (left, right))
        y1, y2 = (min(max(round(y), 0), y_max) for y in (top, bottom))
        return x1, y1, x2, y2

    def _fitted(self, text: str, size: int, room_px: int) -> tuple[str, int] | None:
        """The text, or its beginning with an ellipsis if it does not fit, and its width."""
        width = self._text_width(text, size)
        if width <= room_px:
            return text, width
        low, high = 0, len(text) - 1  # the longest beginning that fits is between them
        while low < high:
            middle = (low + high + 1) // 2
            if self._text_width(text[:middle] + "…", size) <= room_px:
                low = middle
            else:
                high = middle - 1
        cut = text[:low] + "…"
        return (cut, self._text_width(cut, size)) if low > 1 else None

    def _text_width(self, text: str, size: int) -> int:
        # The size of an image bounds where lines would wrap; a width of 0 stands for no bound.
        _, _, width, _ = self._cv2.getTextSize((0, 0), text, (0, 0), self._face, size, WEIGHT)
        return int(width)


def _shown(label: str) -> str:
    """A label ready to draw: one line, limited in length, without control characters, in visual order."""
    letters = [
        " " if letter.isspace() else letter for letter in label[:200] if letter.isspace() or letter.isprintable()
    ]
    text = "".join(letters).strip()
    return text if text.isascii() else _visual_order(text)


def _visual_order(text: str) -> str:
    """Reverse runs of right-to-left letters, because the font is laid out from left to right.

    This is what the bidirectional algorithm (UAX #9) gives for words between left-to-right text; Arabic letters stay
    in their isolated forms.
    """
    kinds = [unicodedata.bidirectional(letter) for letter in text]
    shown, start = "", 0
    while start < len(text):
        end = start + 1
        if kinds[start] in _RIGHT_TO_LEFT:
            for place in range(start + 1, len(text)):  # up to the last such letter before any of the other direction
                if kinds[place] in _RIGHT_TO_LEFT:
                    end = place + 1
                elif kinds[place] not in _NEUTRAL:
                    break
            shown += text[start:end][::-1]
        else:
            shown += text[start]
        start = end
    return shown


_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_NEUTRAL = frozenset({"WS", "ON", "NSM", "CS", "ES"})
