"""Charts as SVG in the page: axes, lines, bars and a matrix. Colours come from the page's style, for dark and light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.report.markup import Markup, joined, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.validate.report.markup import Content


WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 42
TICKS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
NAME_CHARS: Final = 16
LEAST_STEP: Final = 0.35
"""Points of a line that are nearer than this to the straight way, in units of the drawing, are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line of a chart.

    Attributes:
        name: What it is about, shown when the pointer rests on it.
        x: (n,) ascending, in [0, 1].
        y: (n,) in [0, 1]; NaN is not drawn.
        style: A class of the page's style.
    """

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    style: str


def line_chart(lines: Sequence[Line], x_title: str, y_title: str, label: str, under: Sequence[Content] = ()) -> Markup:
    """Lines over a square of 0 to 1.

    Args:
        lines: The last is drawn on top.
        x_title: What the x axis is.
        y_title: What the y axis is.
        label: What the chart shows, for people who cannot see it.
        under: What is drawn below the lines.
    """
    drawn = [
        tag("path", tag("title", line.name), d=_path(line), class_=f"line {line.style}")
        for line in lines
        if not np.isnan(line.y).all()
    ]
    return drawing(WIDTH, HEIGHT, label, _axes(x_title, y_title), list(under), drawn)


def drawing(width: float, height: float, label: str, *content: Content) -> Markup:
    """An SVG element that takes the width that the page gives it.

    Args:
        width: In units of the drawing.
        height: In units of the drawing.
        label: What it shows, for people who cannot see it.
        *content: What is in it.
    """
    return tag("svg", *content, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_="chart")


def place(x: float, y: float) -> tuple[float, float]:
    """Where a point of the square of 0 to 1 is in a line chart's drawing."""
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def mark_x(x: float, name: str) -> Markup:
    """A vertical line at a value of x, with its name."""
    left, low = place(x, 0)
    _, high = place(x, 1)
    anchor, shift = ("end", -5) if x > 0.5 else ("start", 5)
    return joined(
        [
            tag("line", x1=_n(left), x2=_n(left), y1=_n(low), y2=_n(high), class_="marker"),
            tag("text", name, x=_n(left + shift), y=_n(low - 8), text_anchor=anchor, class_="note"),
        ]
    )


def label(
    words: str, x: float, y: float, *, anchor: str = "start", style: str = "tick", turned: bool = False
) -> Markup:
    """A text in a drawing.

    Args:
        words: What it says.
        x: Where it is anchored.
        y: Of its base line.
        anchor: ``start``, ``middle`` or ``end``.
        style: A class of the page's style.
        turned: Whether it is read from below.
    """
    turn = f"rotate(-90 {_n(x)} {_n(y)})" if turned else None
    return tag("text", words, x=_n(x), y=_n(y), text_anchor=anchor, class_=style, transform=turn)


def bar(x: float, y: float, width: float, height: float, name: str, style: str = "bar") -> Markup:
    """A rectangle with a name that is shown when the pointer rests on it.

    Args:
        x: Its left edge.
        y: Its upper edge.
        width: At least 0.
        height: At least 0.
        name: What it is.
        style: A class of the page's style.
    """
    size = {"x": _n(x), "y": _n(y), "width": _n(max(width, 0)), "height": _n(max(height, 0))}
    return tag("rect", tag("title", name), class_=style, **size)


def figure(title: str, chart: Markup, *more: Content, wide: bool = False) -> Markup:
    """A chart with its title.

    Args:
        title: What it shows.
        chart: The drawing.
        *more: What is said below it.
        wide: Whether it takes the whole width of the page.
    """
    return tag("figure", tag("figcaption", title), chart, *more, class_="card wide" if wide else "card")


def shortened(name: str, most: int = NAME_CHARS) -> str:
    """A name that fits: its start, and an ellipsis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _axes(x_title: str, y_title: str) -> Markup:
    parts: list[Content] = []
    for tick in TICKS:
        (x, bottom), (left, y) = place(tick, 0), place(0, tick)
        parts += [
            tag("line", x1=_n(x), x2=_n(x), y1=_n(bottom), y2=_n(place(0, 1)[1]), class_="grid"),
            tag("line", x1=_n(left), x2=_n(place(1, 0)[0]), y1=_n(y), y2=_n(y), class_="grid"),
            label(f"{tick:g}", x, bottom + 16, anchor="middle"),
            label(f"{tick:g}", left - 7, y + 4, anchor="end"),
        ]
    middle_x, middle_y = place(0.5, 0)[0], place(0, 0.5)[1]
    parts += [
        label(x_title, middle_x, HEIGHT - 6, anchor="middle", style="axis"),
        label(y_title, 12, middle_y, anchor="middle", style="axis", turned=True),
    ]
    return joined(parts)


def _path(line: Line) -> str:
    """The way of a line, without the points that it does not need."""
    left, low = place(0, 0)
    right, high = place(1, 1)
    there = ~np.isnan(line.y)
    xs = left + np.clip(line.x[there], 0, 1) * (right - left)
    ys = low + np.clip(line.y[there], 0, 1) * (high - low)
    kept = _simplified(np.stack([xs, ys], axis=1))
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in kept.tolist())


def _simplified(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Leave out what is nearer than `LEAST_STEP` to a straight way, as Douglas and Peucker do."""
    keep = np.zeros(len(points), bool)
    keep[[0, -1]] = True
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        start, end = points[first], points[last]
        between = points[first + 1 : last]
        way = end - start
        length = float(np.hypot(*way))
        apart = between - start
        across = np.abs(apart[:, 0] * way[1] - apart[:, 1] * way[0]) / length if length else np.hypot(*apart.T)
        farthest = int(across.argmax())
        if across[farthest] > LEAST_STEP:
            middle = first + 1 + farthest
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    return points[keep]


def _n(value: float) -> str:
    """A number of a drawing, as short as it may be."""
    return f"{value:.1f}".removesuffix(".0")
