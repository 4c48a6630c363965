"""Running the command line inside the test's process."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.cli import app

if TYPE_CHECKING:
    from pathlib import Path


_PROGRESS = re.compile(r" \d+:\d\d$")
"""Lines that say how far a long job is; how many there are depends on the machine."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended.

    Attributes:
        code: The exit code.
        out: What it wrote on stdout.
        err: What it wrote on stderr, but for lines of progress.
    """

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error of ours, without its first word."""
        assert self.code == 1, self
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("error: "), self
        return lines[0].removeprefix("error: ")


def run(*arguments: str | Path) -> Ran:
    """Run `yoloship` with these arguments; an exception that is not ours fails the test."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = app.run([str(argument) for argument in arguments])
    lines = _written(err).splitlines(keepends=True)
    return Ran(code, _written(out), "".join(line for line in lines if not _PROGRESS.search(line)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
