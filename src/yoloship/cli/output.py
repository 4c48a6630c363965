"""Where the program's text is written: results on stdout, everything else on stderr.

All that is written goes through here, so that it is escaped in one place, and so that a stdout that takes nothing
becomes one line on stderr instead of a traceback. What cannot be said on stderr is lost, and changes nothing else.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from yoloship.errors import OutputError
from yoloship.escaping import json_document, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO


class ReaderGone(Exception):  # noqa: N818 - not an error: `head` has seen enough
    """Nobody reads stdout any more."""


def print_out(line: str) -> None:
    """Write a line on stdout.

    Raises:
        OutputError: stdout cannot be written.
        ReaderGone: the reader of a pipe went away.
    """
    print_text(f"{visible(line)}\n")


def print_text(lines: str) -> None:
    """Write lines, each with its end, on stdout: a table, a help text; raises as `print_out`."""
    shown = visible(lines, keep="\n")
    _to_stdout(lambda stdout: stdout.write(shown))


def print_json(data: Any) -> None:
    """Write a JSON document on stdout, for people too; raises as `print_out`."""
    print_bytes(json_document(data))


def print_bytes(data: bytes) -> None:
    """Write a document on stdout as it is; raises as `print_out`."""

    def write(stdout: TextIO) -> None:
        stdout.flush()
        stdout.buffer.write(data)
        stdout.buffer.flush()

    _to_stdout(write)


def print_err(line: str) -> None:
    """Write a line that is not a result on stderr; on a terminal it takes the place of a progress line."""
    print_err_text(visible(line))


def print_err_text(lines: str) -> None:
    """Write lines that are not a result, such as a help text, on stderr; see `print_err`."""
    try:
        erase = "\r\x1b[K" if os.name == "posix" and sys.stderr.isatty() else ""
        sys.stderr.write(f"{erase}{visible(lines, keep=chr(10))}\n")
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _to_stdout(write: Callable[[TextIO], object]) -> None:
    stdout = sys.stdout
    try:
        write(stdout)
        stdout.flush()
    except BrokenPipeError as error:
        _discard(stdout)
        raise ReaderGone from error
    except OSError as error:
        _discard(stdout)
        raise OutputError(f"cannot be written: {error.strerror or error}", subject="stdout") from error


def _discard(stream: TextIO) -> None:
    """Lead a stream that takes nothing nowhere: what it still holds must not fail again when the process ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream without a descriptor
        return
