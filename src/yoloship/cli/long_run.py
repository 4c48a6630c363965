"""What a run over many images prints: a table, the progress, a sum, and how to go on if it was stopped."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from yoloship._util.text import counted
from yoloship.cli.output import MAX_ROWS, Console, columns, counted_objects, display_width, more, print_err, row
from yoloship.cli.progress import PIPE_S, elapsed
from yoloship.cli.run_progress import Pace, run_progress
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from yoloship.cli.run_progress import ShowsProgress
    from yoloship.cli.targets import Target
    from yoloship.detect.stream import Outcome
    from yoloship.job.run import Run, Tally
    from yoloship.sinks import AnnotatedImages, Entry
    from yoloship.sources import Source

SIZE_CHARS = len("65535×65535")
_HEADING = ("image", "size", "objects", "found")
"""The third one is what the results call their answers."""


class ImagesTable:
    """A table for the terminal: one row for each image, and the sum. Images that failed are skipped.

    Args:
        show: Prints the text.
        tally: What the run did so far; it is counted before an entry comes here.
        limit: Largest number of rows. They are shown on closing, with columns as wide as necessary. None shows every
            row as it comes, and keeps none in memory.
        names_width: Width of the longest name, if rows are shown as they come.
    """

    def __init__(self, show: Callable[[str], None], tally: Tally, *, limit: int | None, names_width: int = 0) -> None:
        self._show, self._tally, self._limit = show, tally, limit
        self._widths = (max(names_width, len(_HEADING[0])), SIZE_CHARS, len(_HEADING[2]), 0)
        self._rows: list[tuple[str, str, str, str]] = []
        self._count = 0

    def write(self, entry: Entry) -> None:
        """Add the outcome of the next image."""
        if entry.result is None:
            return
        height, width = entry.result.image_hw
        self._count += 1
        if self._limit is not None and self._count > self._limit:
            return
        found = counted_objects(entry.result.counts())
        cells = (visible(entry.name), f"{width}×{height}", str(len(entry.result)), found)
        lines = [cells]
        if self._count == 1:
            lines.insert(0, (*_HEADING[:2], entry.result.noun[1], _HEADING[3]))
        if self._limit is None:
            for line in lines:
                self._show(row(line, self._widths, (2,)))
        else:
            self._rows += lines

    def close(self) -> None:
        """Show the rows that were kept, and the sum if there was an image. It may be called twice."""
        if not self._count:
            return
        if self._limit is not None:
            self._show(columns(self._rows, right=(2,)) + more(self._count, self._limit))
        self._show(f"{summed(self._tally)}\n")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def summed(tally: Tally) -> str:
    """``2 images, 3 objects: 2 cat, 1 dog``."""
    sums = f": {counted_objects(tally.objects)}" if tally.objects else ""
    return f"{counted(tally.read, 'image')}, {counted(sum(tally.objects.values()), *tally.noun)}{sums}"


class LongConsole(Console):
    """What a run over many images prints.

    Args:
        source: Gives the images.
        annotated: Draws the results and writes the images; None if none are written.
        targets: The other files and folders to write.
        quiet: Whether to print errors and warnings only, and no progress.
        json_progress: Whether the progress is for programs; it is then shown in any case.
    """

    is_long = True

    def __init__(
        self,
        source: Source,
        annotated: AnnotatedImages | None,
        targets: Sequence[Target],
        *,
        quiet: bool,
        json_progress: bool = False,
    ) -> None:
        super().__init__(source, annotated, targets, quiet=quiet)
        self._json_progress = json_progress
        self._table: ImagesTable | None = None
        self._progress: ShowsProgress | None = None

    def write(self, entry: Entry) -> None:
        """Add a row, print an error, and show the progress."""
        if self._table is not None:
            self._table.write(entry)
        super().write(entry)
        if self._progress is not None:
            self._progress.write(entry)

    def watch(self, run: Run, outcomes: Iterator[Outcome]) -> None:
        """Let the run write the outcomes; say what is there if it is stopped. It raises what `Run.write` raises."""
        total = self.source.count if run.ledger is None else run.ledger.left
        if run.ledger is not None and run.ledger.first_index and not self.quiet:
            left = "" if total is None else f", {total} left"
            failed = f", {run.ledger.failed} of them failed" if run.ledger.failed else ""
            print_err(f"{counted(run.ledger.first_index, 'image')} done before{failed}{left}")
        pace = Pace(run.tally, total)
        try:
            with ExitStack() as stack:
                self._table = stack.enter_context(self._new_table(run.tally)) if self.prints else None
                if self._json_progress or not self.quiet:
                    self._progress = stack.enter_context(run_progress(pace, as_json=self._json_progress))
                run.write(outcomes)
        except BaseException:
            self._say_stopped(run, pace)
            raise
        if pace.elapsed_s >= PIPE_S and not self.quiet:
            print_err(self._said(pace))

    def _said(self, pace: Pace) -> str:
        """``2000 images in 25.1 s, 79.7 a second``; with the objects if they are not printed elsewhere."""
        spent_s = pace.elapsed_s
        time = f"{spent_s:.1f} s" if spent_s < 60 else elapsed(spent_s)
        objects = f"; {summed(pace.tally)}" if not self.prints else ""
        return f"{counted(pace.tally.seen, 'image')} in {time}, {pace.tally.seen / spent_s:.1f} a second{objects}"

    def _say_stopped(self, run: Run, pace: Pace) -> None:
        if run.ledger is not None:
            print_err(f"{run.ledger.path} records what is done: run the same command again to continue")
            return
        total = f" of {pace.total}" if pace.total is not None else ""
        for target in self.targets:
            sink = run.opened.get(target.name)
            if sink is not None and sink.count and sink.is_finished and not target.is_dash:
                print_err(f"{target.path} holds the results of {sink.count}{total} images")

    def _new_table(self, tally: Tally) -> ImagesTable:
        files = self.source.files
        if sys.stdout.isatty() or (files is not None and len(files) <= MAX_ROWS):
            return ImagesTable(self.show, tally, limit=MAX_ROWS)
        width = max((display_width(visible(str(path))) for path in files or ()), default=0)
        return ImagesTable(self.show, tally, limit=None, names_width=width)
