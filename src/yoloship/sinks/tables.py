"""Results and facts as plain text in columns: as good on a terminal as in a pipe, and free of any import's cost."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING

from yoloship._util.text import counted
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from yoloship.results.detections import Detections
    from yoloship.sinks.sink import Entry

MAX_ROWS = 50
"""A longer table helps nobody on a terminal; what a pipe or a file gets is whole."""

SIZE_CHARS = len("65535×65535")

GAP = "  "

_HEADING = ("image", "size", "objects", "found")


def detections_table(found: Detections, title: str, limit: int | None = MAX_ROWS) -> str:
    """One row an object, best first.

    Args:
        found: The objects of one image.
        title: The image's name.
        limit: The most rows; None for all.
    """
    height, width = found.image_hw
    heading = f"{visible(title)}  {width}×{height}"
    if not len(found):
        return f"{heading}: nothing found\n"
    rows: list[tuple[str, ...]] = [("class", "score", "x1", "y1", "x2", "y2")]
    for detection in list(found)[:limit]:
        corners = (f"{value:.1f}" for value in detection.box_xyxy)
        rows.append((visible(detection.class_name), f"{detection.score:.3f}", *corners))
    return f"{heading}\n{columns(rows, right=range(1, 6))}{_more(len(found), limit)}"


class ImagesTable:
    """A table for the terminal: one row for each image, and the sum; images that failed are left out.

    Args:
        show: Takes the text.
        limit: The most rows, shown when it is closed, in columns as wide as they need. None shows every row as it
            comes, which keeps none of them in memory.
        names_width: Columns for the longest name, if the rows are shown as they come.
    """

    def __init__(self, show: Callable[[str], None], *, limit: int | None, names_width: int = 0) -> None:
        self._show, self._limit = show, limit
        self._widths = (max(names_width, len(_HEADING[0])), SIZE_CHARS, len(_HEADING[2]), 0)
        self._rows: list[tuple[str, str, str, str]] = [_HEADING]
        self._totals: dict[str, int] = {}
        self._count = 0

    def write(self, entry: Entry) -> None:
        """Take what became of the next image."""
        if entry.detections is None:
            return
        height, width = entry.detections.image_hw
        counts = entry.detections.counts()
        for name, number in counts.items():
            self._totals[name] = self._totals.get(name, 0) + number
        self._count += 1
        row = (visible(entry.name), f"{width}×{height}", str(len(entry.detections)), _counted(counts))
        if self._limit is None:
            if self._count == 1:
                self._show(_row(_HEADING, self._widths, (2,)))
            self._show(_row(row, self._widths, (2,)))
        elif self._count <= self._limit:
            self._rows.append(row)

    def close(self) -> None:
        """Show what was held back, and the sum if there was an image. Closing twice is not an error."""
        if not self._count:
            return
        if self._limit is not None:
            self._show(columns(self._rows, right=(2,)) + _more(self._count, self._limit))
        total, sums = sum(self._totals.values()), f": {_counted(self._totals)}" if self._totals else ""
        self._show(f"{counted(self._count, 'image')}, {counted(total, 'object')}{sums}\n")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def facts_table(facts: Iterable[tuple[str, str]], width: int) -> str:
    """Two columns, a name and its value; long values go on below themselves, and words stay whole.

    Args:
        facts: In order.
        width: Of the terminal, in columns.
    """
    rows = [(name, visible(value)) for name, value in facts]
    indent = max((len(name) for name, _ in rows), default=0) + len(GAP)
    lines = []
    for name, value in rows:
        room = max(20, width - indent)  # what has no space in it, such as a digest, stays whole and can be copied
        wrapped = textwrap.wrap(value, room, break_on_hyphens=False, break_long_words=False) or [""]
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
    aligned = tuple(right)
    return "".join(_row(row, widths, aligned) for row in rows)


def display_width(text: str) -> int:
    """Columns that a terminal gives a text: two for wide East Asian letters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    cells = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - display_width(cell))
        cells.append(space + cell if index in right else cell + space)
    return f"{GAP.join(cells).rstrip()}\n"


def _counted(totals: Mapping[str, int]) -> str:
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return visible(", ".join(f"{count} {name}" for name, count in ranked) or "nothing")


def _more(total: int, limit: int | None) -> str:
    return f"and {total - limit} more\n" if limit is not None and total > limit else ""
