"""Results and facts as plain text in columns: as good on a terminal as in a pipe, and free of any import's cost."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING

from yoloship.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yoloship.results import Detections

MAX_ROWS = 50
"""A longer table helps nobody; the JSON has everything."""

GAP = "  "


def detections_table(found: Detections, title: str) -> str:
    """One row an object, best first."""
    height, width = found.image_hw
    heading = f"{visible(title)}  {width}×{height}"
    if not len(found):
        return f"{heading}: nothing found\n"
    rows: list[tuple[str, ...]] = [("class", "score", "x1", "y1", "x2", "y2")]
    for detection in list(found)[:MAX_ROWS]:
        corners = (f"{value:.1f}" for value in detection.box_xyxy)
        rows.append((visible(detection.class_name), f"{detection.score:.3f}", *corners))
    return f"{heading}\n{columns(rows, right=range(1, 6))}{_more(len(found))}"


def pictures_table(results: Sequence[tuple[str, Detections]]) -> str:
    """One row a picture, and the sum."""
    rows = [("picture", "size", "objects", "found")]
    for image, found in results[:MAX_ROWS]:
        height, width = found.image_hw
        rows.append((visible(image), f"{width}×{height}", str(len(found)), _counts([found])))
    everything = [found for _, found in results]
    total = f"{len(results)} pictures, {sum(map(len, everything))} objects: {_counts(everything)}\n"
    return columns(rows, right=(2,)) + _more(len(results)) + total


def facts_table(facts: Iterable[tuple[str, str]], width: int) -> str:
    """Two columns, a name and its value; long values go on below themselves.

    Args:
        facts: In order.
        width: Of the terminal, in columns.
    """
    rows = [(name, visible(value)) for name, value in facts]
    indent = max((len(name) for name, _ in rows), default=0) + len(GAP)
    lines = []
    for name, value in rows:
        wrapped = textwrap.wrap(value, max(20, width - indent), break_on_hyphens=False) or [""]
        lines.append(f"{name:{indent}}{wrapped[0]}")
        lines += [" " * indent + line for line in wrapped[1:]]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows of equal length, aligned, one a line.

    Args:
        rows: The first is the heading.
        right: Which columns are aligned to the right.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - display_width(cell))
            cells.append(space + cell if index in right else cell + space)
        lines.append(GAP.join(cells).rstrip())
    return "".join(f"{line}\n" for line in lines)


def display_width(text: str) -> int:
    """Columns that a terminal gives a text: two for wide East Asian letters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _counts(results: Iterable[Detections]) -> str:
    totals: dict[str, int] = {}
    for found in results:
        for name, count in found.counts().items():
            totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return visible(", ".join(f"{count} {name}" for name, count in ranked) or "nothing")


def _more(total: int) -> str:
    return f"and {total - MAX_ROWS} more\n" if total > MAX_ROWS else ""
