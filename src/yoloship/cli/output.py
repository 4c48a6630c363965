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

from yoloship._util.strict_json import json_document
from yoloship.errors import OutputError, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    from yoloship.cli.targets import Target
    from yoloship.job.run import Tally
    from yoloship.model import NmsConfig
    from yoloship.results import Result
    from yoloship.sinks import AnnotatedImages, Entry
    from yoloship.sources import Source


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

GAP = "  "


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
    return f"{heading}\n{columns(rows, right=range(1, len(rows[0])))}{more(len(result), limit)}"


class Console:
    """What a run prints: the answer of a single image, errors, and where the outputs are.

    Args:
        source: Gives the images.
        annotated: Draws the results and writes the images; None if none are written.
        targets: The other files and folders to write.
        quiet: Whether to print errors and warnings only.

    Attributes:
        is_long: Whether there may be many images.
        prints: Whether results go to stdout.
    """

    is_long = False

    def __init__(
        self, source: Source, annotated: AnnotatedImages | None, targets: Sequence[Target], *, quiet: bool
    ) -> None:
        self.source, self.targets, self.quiet = source, targets, quiet
        self.prints = not quiet and not any(target.is_stdout for target in targets)
        self._has_outputs = annotated is not None or bool(targets)
        self._stdout_error: Exception | None = None
        self._last: Path | None = None

    def write(self, entry: Entry) -> None:
        """Print what the user should see of an entry."""
        if entry.result is not None and self.prints and not self.is_long:
            limit = MAX_ROWS if sys.stdout.isatty() else None
            self.show(result_table(entry.result, entry.name, limit))
        self._last = entry.annotated or self._last
        if entry.error is not None:
            print_err(f"error: {entry.error}")

    def report(self, tally: Tally, nms: NmsConfig | None) -> None:
        """Print where the outputs are, and what is missing in them.

        Args:
            tally: What the run did.
            nms: The settings of NMS inside the graph, which say how many candidates it looks at; None without them.

        Raises:
            ReaderGone: nobody reads stdout any longer.
            OutputError: stdout cannot be written.
        """
        if self.prints:
            if self._last is not None:
                self.show(visible(f"annotated: {self._last.parent if self.is_long else self._last}") + "\n")
            for target in self.targets:
                self.show(visible(f"{target.name}: {target.path}") + "\n")
        if tally.incomplete:
            limit = f" than the {nms.candidates} that the graph looks at" if nms else " than the graph looks at"
            print_err(
                f"boxes may be missing in {tally.incomplete} of {tally.read} images: they have more candidates{limit}; "
                "export it with a higher --conf, or with an --output other than nms"
            )
        if tally.failures and self.is_long:
            print_err(f"error: {tally.failures} of {tally.seen} images failed")
        if self._stdout_error is not None:
            raise self._stdout_error

    def show(self, text: str) -> None:
        """Write on stdout. If stdout cannot be written, the run goes on as long as it has other outputs."""
        if self._stdout_error is not None:
            return
        try:
            print_text(text)
        except (ReaderGone, OutputError) as error:
            if not self._has_outputs:
                raise
            self._stdout_error = error


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
    return "".join(row(cells, widths, aligned) for cells in rows)


def display_width(text: str) -> int:
    """Columns that a terminal gives a text: two for wide East Asian letters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def row(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    """One line of a table: its cells in columns of these widths; those at the indices `right` are to the right."""
    aligned = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - display_width(cell))
        aligned.append(space + cell if index in right else cell + space)
    return f"{GAP.join(aligned).rstrip()}\n"


def counted_objects(totals: Mapping[str, int]) -> str:
    """``5 person, 2 car``, the most frequent first; or ``nothing``."""
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return visible(", ".join(f"{count} {name}" for name, count in ranked) or "nothing")


def more(total: int, limit: int | None) -> str:
    """The last line of a table that has fewer rows than there are."""
    return f"and {total - limit} more\n" if limit is not None and total > limit else ""
