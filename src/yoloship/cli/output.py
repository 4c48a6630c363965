"""Writes the program's text: results on stdout; messages and progress on stderr.

All text goes through here. It is escaped in this one place, and a stdout that cannot be written gives one error line
instead of a traceback. Text that cannot be written on stderr is dropped, and the program goes on.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from yoloship.errors import OutputError, json_document, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from yoloship._util.text import OnProgress


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


_Item = TypeVar("_Item")

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


def with_progress(items: Iterable[_Item], what: str, total: int | None) -> Iterator[_Item]:
    """Pass items through and show how many are done. The total is None if it is not known."""
    with progress(in_pipes=True) as show:
        for done, item in enumerate(items, 1):
            yield item
            if show is not None:
                show(what, done, total or 0)


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
        self._write(f"{visible(what)} {bar}{_amount(done, total)}{_elapsed(now - self._start)}")

    def erase(self) -> None:
        """Clear the line."""
        if self._letters:
            self._write("")
            _put(self._stream, "\r")

    def _write(self, text: str) -> None:
        _put(self._stream, f"\r{text.ljust(self._letters)}")
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
        _put(self._stream, f"{visible(what)} {_amount(done, total)}{_elapsed(now - self._start)}\n")


def _put(stream: TextIO, text: str) -> None:
    """Write to the stream and ignore errors: the work must go on even if nobody reads the progress."""
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def _amount(done: float, total: float) -> str:
    if not total:
        return ""
    return f"{100 * done:.0f} % " if total == 1 else f"{done:.0f}/{total:.0f} "


def _elapsed(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
