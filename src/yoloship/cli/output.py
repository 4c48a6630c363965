"""What the program prints: text and tables on stdout, messages on stderr.

All text goes through here. It is escaped in this one place, and a stdout that cannot be written gives one error line
instead of a traceback. Text that cannot be written on stderr is dropped, and the program goes on.
"""

from __future__ import annotations

import os
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

from yoloship._util.text import counted
from yoloship.errors import OutputError, json_document, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import TextIO

    from typing_extensions import Self

    from yoloship.results import Result
    from yoloship.sinks import Entry


class ReaderGone(Exception):  # noqa: N818 - not an error: `head` has seen enough
    """The reader of stdout is gone."""


def print_out(line: str) -> None:
    """Write a line on stdout.

    Raises:
        OutputError: stdout cannot be written.
        ReaderGone: the reader of a pipe went away.
    """
    print_text(f"{visible(line)}\n")


def print_text(lines: str | bytes) -> None:
    """Write lines that end in newlines, such as a table, on stdout. Bytes are written unchanged.

    It raises what `print_out` raises.
    """
    stdout = sys.stdout
    try:
        if isinstance(lines, bytes):
            stdout.flush()
            stdout.buffer.write(lines)
            stdout.buffer.flush()
        else:
            stdout.write(visible(lines, keep="\n"))
        stdout.flush()
    except BrokenPipeError as error:
        _discard(stdout)
        raise ReaderGone from error
    except OSError as error:
        _discard(stdout)
        raise OutputError(f"cannot be written: {error.strerror or error}", subject="stdout") from error


def print_json(data: Any) -> None:
    """Write an indented JSON document on stdout. It raises what `print_out` raises."""
    print_bytes(json_document(data))


def print_bytes(data: bytes) -> None:
    """Write bytes on stdout unchanged. It raises what `print_out` raises."""
    print_text(data)


def print_err(line: str) -> None:
    """Write a message line on stderr. On a terminal it replaces a progress line."""
    print_err_text(visible(line))


def print_err_text(lines: str) -> None:
    """Write message lines, such as a help text, on stderr. On a terminal they replace a progress line."""
    try:
        erase = "\r\x1b[K" if os.name == "posix" and sys.stderr.isatty() else ""
        sys.stderr.write(f"{erase}{visible(lines, keep=chr(10))}\n")
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Send a stream that cannot be written to the null device, so that its buffer does not fail again at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream without a descriptor
        return


MAX_ROWS = 50
"""Most rows on a terminal, where a longer table is not useful; a pipe or a file gets all rows."""

SIZE_CHARS = len("65535×65535")

GAP = "  "

_HEADING = ("image", "size", "objects", "found")
"""The third one is what the results call their answers."""


def result_table(result: Result, title: str, limit: int | None = MAX_ROWS) -> str:
    """A table with one row for each object or class, best first.

    Args:
        result: The result for one image.
        title: The image's name.
        limit: Largest number of rows; None shows all.
    """
    height, width = result.image_hw
    heading = f"{visible(title)}  {width}×{height}"
    if not len(result):
        return f"{heading}: nothing found\n"
    rows = [tuple(map(visible, row)) for row in result.table(limit)]
    return f"{heading}\n{columns(rows, right=range(1, len(rows[0])))}{_more(len(result), limit)}"


class ImagesTable:
    """A table for the terminal: one row for each image, and the sum. Images that failed are skipped.

    Args:
        show: Prints the text.
        limit: Largest number of rows. They are shown on closing, with columns as wide as necessary. None shows every
            row as it comes, and keeps none in memory.
        names_width: Width of the longest name, if rows are shown as they come.
    """

    def __init__(self, show: Callable[[str], None], *, limit: int | None, names_width: int = 0) -> None:
        self._show, self._limit = show, limit
        self._widths = (max(names_width, len(_HEADING[0])), SIZE_CHARS, len(_HEADING[2]), 0)
        self._rows: list[tuple[str, str, str, str]] = []
        self._noun = ("", "")  # that of the first result
        self._totals: dict[str, int] = {}
        self._count = 0

    def write(self, entry: Entry) -> None:
        """Add the outcome of the next image."""
        if entry.result is None:
            return
        height, width = entry.result.image_hw
        counts = entry.result.counts()
        for name, number in counts.items():
            self._totals[name] = self._totals.get(name, 0) + number
        self._count += 1
        heading: tuple[tuple[str, str, str, str], ...] = ()
        if self._count == 1:
            self._noun = entry.result.noun
            heading = ((*_HEADING[:2], self._noun[1], _HEADING[3]),)
        row = (visible(entry.name), f"{width}×{height}", str(len(entry.result)), _counted(counts))
        if self._limit is None:
            for line in (*heading, row):
                self._show(_row(line, self._widths, (2,)))
        elif self._count <= self._limit:
            self._rows += (*heading, row)

    def close(self) -> None:
        """Show the rows that were kept, and the sum if there was an image. It may be called twice."""
        if not self._count:
            return
        if self._limit is not None:
            self._show(columns(self._rows, right=(2,)) + _more(self._count, self._limit))
        total, sums = sum(self._totals.values()), f": {_counted(self._totals)}" if self._totals else ""
        self._show(f"{counted(self._count, 'image')}, {counted(total, *self._noun)}{sums}\n")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def facts_table(facts: Iterable[tuple[str, str]], width: int) -> str:
    """A table with two columns, a name and its value. Long values are wrapped between words.

    Args:
        facts: Names and values, in order.
        width: Width of the terminal in columns.
    """
    rows = [(name, visible(value)) for name, value in facts]
    indent = max((len(name) for name, _ in rows), default=0) + len(GAP)
    lines = []
    for name, value in rows:
        room = max(
            20, width - indent
        )  # a text without spaces, such as a digest, is not split, so that it can be copied
        wrapped = textwrap.wrap(value, room, break_on_hyphens=False, break_long_words=False) or [""]
        lines.append(f"{name:{indent}}{wrapped[0]}")
        lines += [" " * indent + line for line in wrapped[1:]]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows of equal length as aligned lines.

    Args:
        rows: The rows; the first is the heading.
        right: Indices of the columns that are aligned to the right.
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
