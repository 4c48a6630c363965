"""The progress of a run over many images: a bar on a terminal, a line every few seconds in a pipe, or JSON lines."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from yoloship._util.strict_json import json_text
from yoloship.cli.output import counted_objects, display_width
from yoloship.cli.progress import BAR_LETTERS, PIPE_S, TERMINAL_S, elapsed, put
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from yoloship.job.run import Tally
    from yoloship.sinks import Entry

JSON_S: Final = 1.0
_WINDOW_S: Final = 30
"""The rate is that of the last seconds, so that the time that is left follows what the images are like now."""


class ShowsProgress(Protocol):
    """Shows how far a run is."""

    def write(self, entry: Entry) -> None:
        """Take the next entry, after it was counted."""

    def close(self) -> None:
        """Show the end, or remove what was shown."""


class Pace:
    """How fast a run is, and how long it will take.

    Args:
        tally: What the run did so far.
        total: How many images there are; None if that is not known.
    """

    def __init__(self, tally: Tally, total: int | None) -> None:
        self.tally, self.total = tally, total
        self.start_s = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self.start_s, 0)], maxlen=_WINDOW_S)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.start_s

    def rate(self) -> float:
        """Images per second, lately."""
        now, (then, seen) = time.monotonic(), self._samples[0]
        if now - self._samples[-1][0] >= 1:
            self._samples.append((now, self.tally.seen))
        return (self.tally.seen - seen) / (now - then) if now > then else 0.0

    def left_s(self, rate: float) -> float | None:
        """Seconds until the end at this rate; None if that is not known."""
        return (self.total - self.tally.seen) / rate if self.total is not None and rate > 0 else None

    def facts(self, entry: Entry | None) -> list[str]:
        """What a person wants to know: ``12/40``, ``8.1/s``, ``0:03 left``, ``1 failed``, ``5 person, 2 car``."""
        tally, rate = self.tally, self.rate()
        left_s = self.left_s(rate)
        facts = [f"{tally.seen}/{self.total}" if self.total is not None else f"{tally.seen} images", f"{rate:.1f}/s"]
        facts.append(elapsed(self.elapsed_s) if left_s is None else f"{elapsed(left_s)} left")
        if entry is not None and entry.frame is not None and entry.frame.stream is not None:
            at = "" if entry.frame.time_s is None else f" {elapsed(entry.frame.time_s)}"
            facts.append(visible(os.path.basename(entry.frame.stream.name)) + at)  # noqa: PTH119 - may be an address
        if tally.failures:
            facts.append(f"{tally.failures} failed")
        if tally.objects:
            facts.append(counted_objects(tally.objects))
        return facts


@contextmanager
def run_progress(pace: Pace, *, as_json: bool = False) -> Iterator[ShowsProgress]:
    """Show the progress of a run on stderr until the block ends.

    Args:
        pace: The run.
        as_json: Whether to write JSON lines for programs, a second apart.
    """
    stream = sys.stderr
    shown: ShowsProgress
    if as_json:
        shown = JsonLines(stream, pace)
    else:
        shown = TerminalBar(stream, pace) if stream.isatty() else PipeLines(stream, pace)
    try:
        yield shown
    finally:
        shown.close()


class TerminalBar:
    """Rewrites one line of a terminal."""

    def __init__(self, stream: TextIO, pace: Pace) -> None:
        self._stream, self._pace = stream, pace
        self._shown_s = -TERMINAL_S
        self._columns = 0

    def write(self, entry: Entry) -> None:
        """Show the bar anew, unless it was shown a moment ago."""
        now = time.monotonic()
        if now - self._shown_s < TERMINAL_S:
            return
        self._shown_s = now
        bar = ""
        if self._pace.total:
            filled = round(BAR_LETTERS * min(1.0, self._pace.tally.seen / self._pace.total))
            bar = f"[{'#' * filled}{'-' * (BAR_LETTERS - filled)}] "
        self._show(_fitting(bar + "  ".join(self._pace.facts(entry)), self._width() - 1))

    def close(self) -> None:
        """Clear the line."""
        if self._columns:
            self._show("")
            put(self._stream, "\r")

    def _show(self, text: str) -> None:
        columns = display_width(text)
        put(self._stream, f"\r{text}{' ' * (self._columns - columns)}")
        self._columns = columns

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


class PipeLines:
    """Writes a line every few seconds."""

    def __init__(self, stream: TextIO, pace: Pace) -> None:
        self._stream, self._pace = stream, pace
        self._shown_s = pace.start_s

    def write(self, entry: Entry) -> None:
        """Write a line if it is time."""
        now = time.monotonic()
        if now - self._shown_s >= PIPE_S:
            self._shown_s = now
            put(self._stream, f"predicting {', '.join(self._pace.facts(entry))}\n")

    def close(self) -> None:
        """Do nothing: the run ends with a line of its own."""


class JsonLines:
    """Writes a JSON object every second, and one at the end."""

    def __init__(self, stream: TextIO, pace: Pace) -> None:
        self._stream, self._pace = stream, pace
        self._shown_s = pace.start_s

    def write(self, entry: Entry) -> None:
        """Write an object if it is time."""
        now = time.monotonic()
        if now - self._shown_s >= JSON_S:
            self._shown_s = now
            record = self._record()
            if entry.frame is not None and entry.frame.stream is not None:
                record |= {"stream": entry.frame.stream.name, "time_s": entry.frame.time_s}
            self._put(record)

    def close(self) -> None:
        """Write the last object."""
        self._put(self._record() | {"ended": True})

    def _record(self) -> dict[str, Any]:
        tally, rate = self._pace.tally, self._pace.rate()
        left_s = self._pace.left_s(rate)
        return {
            "done": tally.seen,
            "total": self._pace.total,
            "failed": tally.failures,
            "seconds": round(self._pace.elapsed_s, 3),
            "per_second": round(rate, 2),
            "left_s": None if left_s is None else round(left_s, 1),
            "objects": dict(tally.objects),
        }

    def _put(self, record: dict[str, Any]) -> None:
        put(self._stream, json_text({"progress": record}) + "\n")


def _fitting(text: str, columns: int) -> str:
    """The text, cut so that it fits in a line of a terminal."""
    if display_width(text) <= columns:
        return text
    while text and display_width(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"
