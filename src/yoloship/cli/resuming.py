"""``--resume``: which log a command has, and what must be the same when it is given again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from yoloship._util.reading import file_sha256, open_regular, read_up_to
from yoloship._util.text import counted
from yoloship._util.writing import remove_stale, shortened
from yoloship.cli.output import print_err
from yoloship.errors import InputError, SessionError
from yoloship.job.ledger import Ledger
from yoloship.job.log import SUFFIX, Facts, Log
from yoloship.kinds import HEAD_BYTES
from yoloship.sinks import SINKS

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from contextlib import ExitStack

    from yoloship.sources import Source

IMAGES: Final = "images"
_FREE: Final = frozenset(
    {"model", "source", "quiet", "recursive", "resume", "overwrite", "json_progress", "workers"}
    | {"allow_http", "allow_private", "show", "show_at"}
)
"""Parameters of the command that may change: no answer depends on them, or the log knows the images by themselves."""


class Resumption:
    """A run with a log.

    Args:
        ledger: What is done, and what is left.
        facts: What the run is.
        folders: The folders in which it writes a file for each image.
    """

    def __init__(self, ledger: Ledger, facts: Facts, folders: Sequence[Path]) -> None:
        self.ledger, self._facts, self._folders = ledger, facts, folders

    @classmethod
    def of(
        cls, model: str, source: Source, outputs: Mapping[str, Path], *, draws: bool, stack: ExitStack
    ) -> Resumption:
        """Open the log of this command.

        Args:
            model: As the user gave it.
            source: Gives the images.
            outputs: Name of a sink → where it writes, in the order of the sinks.
            draws: Whether annotated images are written.
            stack: Closes the log.

        Raises:
            click.UsageError: the outputs cannot be continued.
            InputError: the log is not of this command, or the source cannot be continued.
            OutputError: another run uses the log.
        """
        for name, path in outputs.items():
            kind = SINKS.load(name)
            option = kind.option[-1]
            if os.fspath(path) == "-":
                raise click.UsageError(f"--resume does not go with {option} -: give it a file")
            if not kind.resumes:
                raise click.UsageError(f"--resume does not go with {option}, which cannot be continued")
        if draws and IMAGES not in outputs:
            raise click.UsageError("--resume needs a folder that it can continue: -o DIR, or --no-draw")
        if not outputs:
            raise click.UsageError("--resume needs an output to continue, such as --json FILE")
        if source.is_live:
            raise InputError("a live source cannot be continued", subject="--resume", hint="leave it out")
        if draws and source.has_videos:  # a list may still hold some, which the run refuses when it comes to them
            raise click.UsageError(
                "--resume does not go with annotated videos, which cannot be continued: give --no-draw"
            )
        first = next(iter(outputs.values()))
        if first.name in {"", ".."}:
            first = Path(os.path.abspath(first))  # noqa: PTH100 - links stay
        path = first.with_name(shortened(first.name, SUFFIX))
        log = stack.enter_context(Log.open(path))
        facts = Facts(model_sha256(model), given_options(_FREE), _places(outputs, path))
        log.check(facts)
        folders = [path for name, path in outputs.items() if SINKS.load(name).target == "folder"]
        return cls(Ledger(log, source, has_folders=bool(folders)), facts, folders)

    def begun(self) -> Ledger:
        """Begin the log, now that nothing can refuse the run any more.

        Raises:
            InputError: the images are not those of the runs before, and outputs would be mixed up.
            OutputError: the log cannot be written.
        """
        self.ledger.begin(self._facts)
        for folder in self._folders:
            remove_stale(folder, after_s=0)  # the log's lock says that the run which left parts here is dead
        return self.ledger

    def say_finished(self, *, quiet: bool) -> None:
        """Print that nothing is left to do.

        Raises:
            click.exceptions.Exit: some of the images failed.
        """
        count, failed = self.ledger.first_index, self.ledger.failed
        if not quiet:
            print_err(f"nothing left to do: {counted(count, 'image')} done before ({self.ledger.path})")
        if failed:
            print_err(f"error: {failed} of {count} images failed")
            raise click.exceptions.Exit(1)


def model_sha256(model: str) -> str:
    """The SHA-256 of a model's file, or of a release.

    Raises:
        SessionError: it cannot be read.
        DownloadError: the release cannot be fetched.
    """
    file = Path(model)
    if not os.path.lexists(model):
        from yoloship.models.releases import resolve

        file = resolve(model)
    with open_regular(file, error=SessionError, wanted="a model") as opened:
        return file_sha256(opened, read_up_to(opened.read, HEAD_BYTES))


def given_options(free: Container[str]) -> dict[str, Any]:
    """The options of this command line, by their long names, as JSON has them.

    Args:
        free: Parameters that are left out, because no answer depends on them.
    """
    context = click.get_current_context()
    given: dict[str, Any] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in free or name.startswith("sink_") or name not in context.params:
            continue
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            value = context.params[name]
            option = (parameter.secondary_opts if value is False and parameter.secondary_opts else parameter.opts)[-1]
            given[option] = True if value is False else json.loads(json.dumps(value, default=str))
    return given


def _places(outputs: Mapping[str, Path], log: Path) -> dict[str, str]:
    """The outputs, relative to the log's folder, so that all can be moved."""
    folder = log.absolute().parent
    return {SINKS.load(name).option[-1]: os.path.relpath(path.absolute(), folder) for name, path in outputs.items()}
