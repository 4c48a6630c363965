"""The program: its commands, its exit codes, and how it ends when something is wrong.

Exit codes: 0 success; 1 an error of ours, one line on stderr; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from yoloship._version import __version__
from yoloship.cli import build, detect, export, info, inspect
from yoloship.errors import YoloshipError

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERRUPTED = 130
"""128 + SIGINT, as shells expect it."""


class _Group(typer.core.TyperGroup):
    """Turns our errors and an interrupt into an exit code and at most one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except YoloshipError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        except MemoryError as error:
            typer.echo("error: not enough memory; take a smaller --imgsz, or smaller pictures", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yoloship {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """From a trained YOLOv5 checkpoint to boxes, without torch. A checkpoint is read as data: nothing in it is run."""


def _app() -> typer.Typer:
    app = typer.Typer(
        cls=_Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        callback=_root,
        epilog=_examples(commands[0] for commands in (detect.EXAMPLES, export.EXAMPLES, info.EXAMPLES)),
    )
    for name, module, summary in (
        ("detect", detect, "Find objects in pictures."),
        ("export", export, "Turn a checkpoint into an ONNX file."),
        ("build", build, "Build a TensorRT engine."),
        ("info", info, "Show what a file holds."),
        ("inspect", inspect, "Show what an engine or a model is."),
    ):
        command = app.command(name, short_help=summary, no_args_is_help=True, epilog=_examples(module.EXAMPLES))
        command(getattr(module, name))
    return app


def _examples(lines: Iterable[str]) -> str:
    """A paragraph whose line breaks stay, which a backspace asks the help's formatter for."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def main() -> None:
    """Run the program with the arguments of this process."""
    # The program's own process, so its environment may be set: OpenCV's log lines would stand beside our one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no reason to stop
            stream.reconfigure(errors="replace")
    _app()(prog_name="yoloship")
