"""Running the command line inside the test's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from yoloship.cli import app

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended.

    Attributes:
        code: The exit code.
        out: What it wrote on stdout.
        err: What it wrote on stderr.
    """

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error of ours, without its first word."""
        assert self.code == 1, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("error: ").rstrip("\n")


def run(*arguments: str | Path) -> Ran:
    """Run `yoloship` with these arguments; an exception that is not ours fails the test."""
    result = CliRunner().invoke(app.program(), [str(argument) for argument in arguments], catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)
