"""A chart of stacked, labelled bars, as SVG or as pixels, without a plotting library."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

WIDTH: Final = 960
_LEFT: Final = 300
_RIGHT: Final = 190
_TOP: Final = 92
_ROW: Final = 46
_BAR: Final = 22
_INK: Final = "#1f2933"
_FAINT: Final = "#d9dee3"
_COLOURS: Final = ("#9aa5b1", "#4098d7", "#62b58f", "#e9b949", "#d64545", "#8662c7", "#3e4c59")


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Attributes:
        label: In front of it.
        note: A second, smaller line under the label.
        parts: Names and lengths, from left to right.
        mark: Where a line crosses it; None has none.
        text: Behind it.
    """

    label: str
    note: str
    parts: tuple[tuple[str, float], ...]
    mark: float | None
    text: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """A rectangle where `text` is empty, else words that begin, or with `anchor` end, at its corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    text: str = ""
    anchor: str = "start"


def chart_svg(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> str:
    """The chart as an SVG document.

    Args:
        title: On top.
        subtitle: Under it: what the line across a bar means.
        unit: Of the lengths.
        bars: From top to bottom; 1 or more.
    """
    height, shapes = _layout(title, subtitle, unit, bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for shape in shapes:
        if shape.text:
            lines.append(
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.height:.0f}" fill="{shape.colour}" '
                f'text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
            )
        else:
            lines.append(
                f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
                f'fill="{shape.colour}"/>'
            )
    return "\n".join([*lines, "</svg>", ""])


def chart_pixels(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> npt.NDArray[np.uint8]:
    """The same chart as (height, width, 3) uint8 BGR, twice as large, for PNG files."""
    import cv2

    scale = 2
    height, shapes = _layout(title, subtitle, unit, bars)
    image = np.full((height * scale, WIDTH * scale, 3), 255, np.uint8)
    for shape in shapes:
        red, green, blue = (int(shape.colour[place : place + 2], 16) for place in (1, 3, 5))
        if not shape.text:
            corners = [round(v * scale) for v in (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)]
            image[corners[1] : max(corners[3], corners[1] + 1), corners[0] : max(corners[2], corners[0] + 1)] = (
                blue, green, red,
            )  # fmt: skip
            continue
        text = shape.text.replace("×", "x").replace("–", "-").encode("ascii", "replace").decode()
        size = shape.height * scale / 30
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        x = round(shape.x * scale) - {"start": 0, "middle": width // 2, "end": width}[shape.anchor]
        place = (x, round(shape.y * scale))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (blue, green, red), 1, cv2.LINE_AA)
    return image


def _layout(title: str, subtitle: str, unit: str, bars: Sequence[Bar]) -> tuple[int, list[_Shape]]:
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    longest = max(max(sum(value for _, value in bar.parts), bar.mark or 0.0) for bar in bars) or 1.0
    step = _step(longest)
    room = WIDTH - _LEFT - _RIGHT
    scale = room / (np.ceil(longest / step) * step)
    height = _TOP + _ROW * len(bars) + 44
    shapes = [_Shape(24, 34, 0, 19, _INK, title), _Shape(24, 54, 0, 12, _INK, subtitle)]
    x = 24.0
    for name, colour in zip(names, _COLOURS * 8, strict=False):
        shapes += [_Shape(x, 66, 11, 11, colour), _Shape(x + 16, 76, 0, 12, _INK, name)]
        x += 30 + 7 * len(name)
    bottom = _TOP + _ROW * len(bars)
    for tick in range(round(np.ceil(longest / step)) + 1):
        at = _LEFT + tick * step * scale
        shapes += [
            _Shape(at, _TOP - 4, 1, bottom - _TOP + 4, _FAINT),
            _Shape(at, bottom + 18, 0, 12, _INK, f"{tick * step:g}", "middle"),
        ]
    shapes.append(_Shape(_LEFT + room, bottom + 36, 0, 12, _INK, unit, "end"))
    for number, bar in enumerate(bars):
        y = _TOP + number * _ROW
        shapes += [_Shape(_LEFT - 10, y + 13, 0, 13, _INK, bar.label, "end")]
        shapes += [_Shape(_LEFT - 10, y + 28, 0, 11, "#616e7c", bar.note, "end")]
        at = float(_LEFT)
        for name, value in bar.parts:
            shapes.append(_Shape(at, y + 3, value * scale, _BAR, _COLOURS[names.index(name) % len(_COLOURS)]))
            at += value * scale
        if bar.mark is not None:
            shapes.append(_Shape(_LEFT + bar.mark * scale - 1, y, 2, _BAR + 6, _INK))
            at = max(at, _LEFT + bar.mark * scale)
        shapes.append(_Shape(at + 8, y + 19, 0, 12, _INK, bar.text))
    return height, shapes


def _step(longest: float) -> float:
    """A round distance between ticks that gives four to ten of them."""
    step = 10.0 ** np.floor(np.log10(longest))
    for part in (0.1, 0.2, 0.5, 1.0):
        if longest / (step * part) <= 10:
            return float(step * part)
    return float(step)
