"""The program: its commands, its exit codes, and how it ends when something is wrong.

Exit codes: 0 success; 1 an error of ours, one line on stderr; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from yoloship._version import __version__
from yoloship.errors import YoloshipError

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERRUPTED = 130
"""128 + SIGINT, as shells expect it."""


WITHOUT_ARGUMENTS = frozenset({"demo", "doctor"})
"""Commands that do something without any argument; the others show their help."""
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "See it work, with no network and no model of your own.",
        "detect": "Find objects in pictures.",
        "export": "Turn a checkpoint into an ONNX file.",
        "build": "Build a TensorRT engine.",
        "verify": "Compare two artefacts of one model.",
        "bench": "Measure how fast models are here.",
        "info": "Show what a file holds.",
        "inspect": "Show what an engine or a model is.",
        "doctor": "Try what works on this machine.",
    }
)
"""Each command is the function of that name in the module of that name, loaded when it is asked for."""


class _Group(typer.core.TyperGroup):
    """Loads commands when they are named, and turns our errors and an interrupt into an exit code and one line."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return _command(cmd_name) if cmd_name in COMMANDS else None

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


def _command(name: str) -> Any:
    module = import_module(f"yoloship.cli.{name}")
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    command = app.command(
        name,
        short_help=COMMANDS[name],
        no_args_is_help=name not in WITHOUT_ARGUMENTS,
        epilog=_paragraph("Examples:", *module.EXAMPLES),
    )
    command(getattr(module, name))
    return typer.main.get_command(app)


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


def program() -> typer.Typer:
    """The program, ready to be run or tested."""
    examples = ("yoloship detect best.pt photo.jpg", "yoloship export best.pt", "yoloship info best.pt")
    return typer.Typer(
        cls=_Group,
        callback=_root,
        epilog=_paragraph("Examples:", *examples),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _paragraph(heading: str, *lines: str) -> str:
    """Lines that stay lines, which a backspace asks the help's formatter for."""
    return "\n".join(("\b", heading, *(f"  {line}" for line in lines)))


def main() -> None:
    """Run the program with the arguments of this process."""
    # The program's own process, so its environment may be set: OpenCV's log lines would stand beside our one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter is no reason to stop
            stream.reconfigure(errors="replace")
    program()(prog_name="yoloship")
