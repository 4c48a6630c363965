"""Things that resemble a code and are none: what a detector must learn to leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from yoloship.demo import _paint as paint
from yoloship.demo._paint import chance

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.demo._paint import Bgr, Picture, Rng

Cell: TypeAlias = tuple[int, int, int, int]
"""x, y, width, height in surface pixels."""


def look_alike(rng: Rng, picture: Picture, cell: Cell, colours: tuple[Bgr, Bgr]) -> None:
    """Something that resembles a code and is none, coarse enough to be told apart; writes into the picture."""
    x, y, width, height = cell
    if min(width, height) < 24:
        return
    area = picture[y : y + height, x : x + width]
    paint.fill(area, colours[1])
    _LOOK_ALIKES[rng.integers(len(_LOOK_ALIKES))](rng, area, colours[0])


def _checkerboard(rng: Rng, area: Picture, colour: Bgr) -> None:
    step = int(rng.integers(6, max(7, min(area.shape[:2]) // 4)))
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    area[(rows // step + columns // step) % 2 == 0] = colour


def _stripes(rng: Rng, area: Picture, colour: Bgr) -> None:
    """Equal bars: regular where a barcode is not."""
    step = int(rng.integers(4, max(5, min(area.shape[:2]) // 4)))
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    slope = int(rng.integers(-1, 2))
    if chance(rng, 0.3):
        rows, columns = columns, rows
    area[((columns + slope * rows) // step) % 2 == 0] = colour


def _table(rng: Rng, area: Picture, colour: Bgr) -> None:
    height, width = area.shape[:2]
    step_y, step_x = int(rng.integers(9, 24)), int(rng.integers(14, 80))
    for top in range(0, height, step_y):
        cv2.line(area, (0, top), (width, top), colour, 1)
        if step_x > 30:
            for left in range(0, width - step_x, step_x):
                text = paint.letters(rng, int(rng.integers(2, 6)))
                paint.text_line(area, text, (left + 3, top + 2, step_x - 6, step_y - 4), colour, 0)
    for left in range(0, width, step_x):
        cv2.line(area, (left, 0), (left, height), colour, 1)


def _dots(rng: Rng, area: Picture, colour: Bgr) -> None:
    step = int(rng.integers(8, 20))
    for top in range(step // 2, area.shape[0], step):
        for left in range(step // 2, area.shape[1], step):
            cv2.circle(area, (left, top), max(1, round(step * 0.3)), colour, cv2.FILLED, cv2.LINE_AA)


def _crossword(rng: Rng, area: Picture, colour: Bgr) -> None:
    """Random cells with ruled lines between them: no finder pattern, no solid border."""
    step = int(rng.integers(9, 20))
    rows, columns = area.shape[0] // step, area.shape[1] // step
    for row, column in zip(*np.nonzero(rng.random((rows, columns)) < rng.uniform(0.15, 0.4)), strict=True):
        corner = int(column) * step, int(row) * step
        cv2.rectangle(area, corner, (corner[0] + step, corner[1] + step), colour, cv2.FILLED)
    for place in range(0, max(area.shape[:2]), step):
        cv2.line(area, (0, place), (columns * step, place), colour, 1) if place <= rows * step else None
        cv2.line(area, (place, 0), (place, rows * step), colour, 1) if place <= columns * step else None


def _rings(rng: Rng, area: Picture, colour: Bgr) -> None:
    """Nested squares or circles, as a finder pattern or a target has."""
    height, width = area.shape[:2]
    half, step = min(height, width) // 2 - 2, int(rng.integers(4, 14))
    square = chance(rng, 0.5)
    for inset in range(0, half - 2, 2 * step):
        radius = half - inset
        if square:
            corner = (width // 2 - radius, height // 2 - radius)
            cv2.rectangle(area, corner, (width // 2 + radius, height // 2 + radius), colour, max(1, step // 2))
        else:
            cv2.circle(area, (width // 2, height // 2), radius, colour, max(1, step // 2), cv2.LINE_AA)


def _pictogram(rng: Rng, area: Picture, colour: Bgr) -> None:
    """A sign: arrows, a glass, a frame."""
    height, width = area.shape[:2]
    side, thick = min(height, width), max(2, min(height, width) // 14)
    cv2.rectangle(area, (thick, thick), (side - thick, side - thick), colour, thick)
    for shift in (side // 3, side * 2 // 3):
        cv2.arrowedLine(area, (shift, side * 4 // 5), (shift, side // 5), colour, thick, cv2.LINE_AA, 0, 0.3)
    if chance(rng, 0.4):
        cv2.line(area, (side // 5, side * 17 // 20), (side * 4 // 5, side * 17 // 20), colour, thick)


def _lines_of_text(rng: Rng, area: Picture, colour: Bgr) -> None:
    paint.text_block(rng, area, (0, 0, area.shape[1], area.shape[0]), colour)


_LOOK_ALIKES: tuple[Callable[[Rng, Picture, Bgr], None], ...] = (
    _checkerboard,
    _stripes,
    _stripes,
    _table,
    _dots,
    _crossword,
    _rings,
    _pictogram,
    _lines_of_text,
)
