"""The progress of a job on stderr: one line that is rewritten on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from yoloship._util.text import OnProgress


TERMINAL_S = 0.1
PIPE_S = 5.0
BAR_LETTERS = 24


@contextmanager
def progress(*, in_pipes: bool = False) -> Iterator[OnProgress | None]:
    """Show the progress of a job while it runs.

    Args:
        in_pipes: Whether to write a line every few seconds if stderr is not a terminal.

    Yields:
        The function for the job to call; None if no progress is shown.
    """
    stream = sys.stderr
    if stream.isatty():
        line = _TerminalLine(stream)
        try:
            yield line
        finally:
            line.erase()
    else:
        yield _PipeLines(stream) if in_pipes else None


class _TerminalLine:
    """Shows progress on a terminal by rewriting one line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._shown_at = 0.0
        self._what = ""
        self._letters = 0

    def __call__(self, what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if what == self._what and now - self._shown_at < TERMINAL_S:
            return
        self._what, self._shown_at = what, now
        bar = ""
        if total:
            filled = round(BAR_LETTERS * min(1.0, done / total))
            bar = f"[{'#' * filled}{'-' * (BAR_LETTERS - filled)}] "
        self._write(f"{visible(what)} {bar}{_amount(done, total)}{elapsed(now - self._start)}")

    def erase(self) -> None:
        """Clear the line."""
        if self._letters:
            self._write("")
            put(self._stream, "\r")

    def _write(self, text: str) -> None:
        put(self._stream, f"\r{text.ljust(self._letters)}")
        self._letters = len(text)


class _PipeLines:
    """Shows progress in a pipe or a file by writing a line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = self._shown_at = time.monotonic()

    def __call__(self, what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._shown_at < PIPE_S:
            return
        self._shown_at = now
        put(self._stream, f"{visible(what)} {_amount(done, total)}{elapsed(now - self._start)}\n")


def put(stream: TextIO, text: str) -> None:
    """Write to the stream and ignore errors: the work must go on even if nobody reads the progress."""
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def _amount(done: float, total: float) -> str:
    if not total:
        return ""
    return f"{100 * done:.0f} % " if total == 1 else f"{done:.0f}/{total:.0f} "


def elapsed(seconds: float) -> str:
    """``0:05``, ``12:34``, ``1:02:03``."""
    if seconds >= 3600:
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
