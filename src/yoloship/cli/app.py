"""The program ``yoloship``: its process, its commands, its exit codes and its error lines.

Exit codes: 0 success; 1 an error, one line on stderr; 2 wrong usage; 130 interrupted; 143 terminated (128 and the
signal's number).
"""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn, TextIO, cast

import click

from yoloship._version import __version__
from yoloship.cli.command import EXAMPLES, help_option, printing_option
from yoloship.cli.options import OPTION_OF
from yoloship.cli.output import ReaderGone, print_err, print_err_text
from yoloship.errors import YoloshipError, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType


MAX_IMAGE_PIXELS = 200_000_000
"""The default of `yoloship.images.ImageLimits`, which is not imported before it is needed."""
ENVIRONMENT = MappingProxyType(
    {
        "OPENCV_LOG_LEVEL": "SILENT",  # its log lines would surround our one error line
        # NumPy and OpenCV would each start a thread with a buffer for every core, for matrix products that are tiny
        # here. If memory is limited, that ends the process with a segmentation fault.
        "OPENBLAS_NUM_THREADS": "1",
    }
)
"""Environment variables that are set for this process, unless the user has set them."""

_ENDING = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Code that cleans up after Ctrl-C cleans up after this too.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _ClosedStream(io.TextIOBase):
    """Replaces a stdout that was closed before the program began, so that results are not lost silently."""

    def write(self, _: object) -> int:
        """Raise the error that a closed descriptor raises."""
        raise OSError(errno.EBADF, "it is closed")

    @property
    def buffer(self) -> _ClosedStream:
        """This stream: bytes are refused too."""
        return self


def prepare_process() -> None:
    """Set up the standard streams, signals and environment variables that the program relies on."""
    # Standard descriptors that are closed are opened, so that no file that is opened later takes the number of one. A
    # stdout that was closed refuses what is written, however it is named; a stderr takes it and forgets it.
    for descriptor, mode in ((0, os.O_RDWR), (1, os.O_RDONLY), (2, os.O_RDWR)):
        with suppress(OSError):  # it is open
            os.fstat(descriptor)
            continue
        opened = os.open(os.devnull, mode)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # The header of an image is checked before OpenCV sees it. If the two ever disagree, OpenCV refuses too.
    given = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "")
    if not (given.isascii() and given.isdecimal() and len(given) < 19):  # OpenCV ends the process if it is other text
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_IMAGE_PIXELS)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = cast("TextIO", _ClosedStream())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # do not stop because a terminal cannot show a character
            stream.reconfigure(errors="replace")
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # keep the signals that nohup ignores
            signal.signal(number, _terminate)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)


NAME = "yoloship"
COMPLETION = "_YOLOSHIP_COMPLETE"
"""The variable that a shell sets to ask for completions, as click's documentation describes."""

BY_SIGNAL = 128
"""Shells expect an exit code of this plus the signal's number."""

NO_MEMORY = "not enough memory; use a smaller --imgsz, smaller images or a smaller model"
OUT_OF_MEMORY = (
    "failed to map segment",
    "cannot allocate memory",
    "can't start new thread",
    "insufficient memory",
    "bad_alloc",
    "bad allocation",
)

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "Try everything with a bundled model, offline.",
        "predict": "Run a model on images: find objects, outline them, or name what they show.",
        "detect": "Predict with a detection model.",
        "segment": "Predict with a segmentation model.",
        "pose": "Predict with a pose model.",
        "obb": "Predict with an oriented-box model.",
        "classify": "Predict with a classification model.",
        "export": "Turn a checkpoint into an ONNX file.",
        "build": "Build a TensorRT engine.",
        "serve": "Serve models over HTTP.",
        "batch": "Run a model on millions of images, on this machine or on a Ray cluster.",
        "triton": "Write a model repository for a Triton server, or check a running server.",
        "val": "Measure how good models are on a dataset.",
        "verify": "Check that two files of one model give the same answers.",
        "bench": "Measure how fast models run on this machine.",
        "info": "Show what a checkpoint, an ONNX file or an engine contains.",
        "inspect": "Another name for info.",
        "doctor": "Check what works on this machine.",
        "cache": "Show or empty the cache.",
    }
)
"""Command names and their short help. A command is the function of that name in the module of that name, which is
imported when it is needed."""
ALIASES: Mapping[str, str] = MappingProxyType(
    {"inspect": "info", **dict.fromkeys(("detect", "segment", "pose", "obb", "classify"), "predict")}
)


class Program(click.Group):
    """The group of all commands; it imports a command's module when the command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base's signature
        """The names of the commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command. For an unknown name, suggest the one that was probably meant."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {cmd_name!r}. {hint}", ctx)
        name = ALIASES.get(cmd_name, cmd_name)
        return cast("click.Command", getattr(import_module(f"yoloship.cli.{name}"), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.pass_context
def _root(ctx: click.Context, verbose: int) -> None:
    """Show the log as far as ``--verbose`` says, but always warnings and downloads."""
    logger, fetched, lines = logging.getLogger(NAME), logging.getLogger(f"{NAME}.releases"), _LogLines()
    before = ctx.with_resource(ExitStack())
    before.callback(logger.setLevel, logger.level)
    before.callback(fetched.setLevel, fetched.level)
    before.callback(logger.removeHandler, lines)
    logger.addHandler(lines)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    fetched.setLevel(logging.INFO)
    if ctx.invoked_subcommand is None:
        print_err_text(ctx.get_help())
        ctx.exit(2)


PROGRAM: Final = Program(
    NAME,
    help=("Run trained YOLO and ResNet checkpoints without torch. A checkpoint is read as data: no code in it is run."),
    epilog="\n  ".join(
        (EXAMPLES, "yoloship predict best.pt photo.jpg", "yoloship export best.pt", "yoloship info best.pt")
    ),
    params=[
        help_option(),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Log to stderr what is loaded, built and removed; -vv also logs each use of the cache.",
        ),
        printing_option("--version", text=lambda _: f"{NAME} {__version__}", help="Show the version and exit."),
    ],
    add_help_option=False,
    no_args_is_help=False,
    invoke_without_command=True,
    callback=_root,
)
"""The program, ready to be run or tested."""


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments. Every way to end it, errors included, ends in this function.

    Returns:
        The exit code.
    """
    try:
        with PROGRAM.make_context(NAME, list(arguments)) as context:
            PROGRAM.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _say_usage(error, arguments)
        return 2
    except ReaderGone:
        return 1
    except YoloshipError as error:
        if _lacks_memory(error.problem):
            return _failed(f"{error.subject}: {NO_MEMORY}" if error.subject else NO_MEMORY)
        if error.subject not in arguments:  # a file may have the same name as an argument of the library
            error.subject = OPTION_OF.get(error.subject or "", error.subject)
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except Terminated as end:
        print_err("terminated")
        return BY_SIGNAL + end.number
    except KeyboardInterrupt:
        print_err("interrupted")
        return BY_SIGNAL + signal.SIGINT
    except Exception as error:
        if not isinstance(error, MemoryError) and not _lacks_memory(str(error)):
            raise
        return _failed(NO_MEMORY)
    return 0


class _LogLines(logging.Handler):
    """Writes the library's log records to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record on its own line."""
        text = record.getMessage()
        print_err(f"warning: {text}" if record.levelno >= logging.WARNING else text)


def _failed(text: str) -> int:
    print_err(f"error: {visible(text)}")
    return 1


def _lacks_memory(text: str) -> bool:
    """Whether memory ran out. Libraries raise errors of their own for it, and the loader raises ImportError."""
    return any(words in text.lower() for words in OUT_OF_MEMORY)


def _say_usage(error: click.UsageError, arguments: Sequence[str]) -> None:
    if error.ctx is not None:
        print_err_text(error.ctx.get_usage())
        print_err_text(f"Try '{error.ctx.command_path} --help' for help.\n")
    hint = ""
    if isinstance(error, click.NoSuchOption):
        files = [word for word in arguments if word.startswith("-") and os.path.lexists(word)]
        hint = f" If you mean the file, write {os.path.join(os.curdir, files[0])}" if files else ""  # noqa: PTH118
    print_err(f"Error: {visible(error.format_message() + hint)}")


def main() -> NoReturn:
    """Run the program with the arguments of this process, and end the process."""
    prepare_process()
    if instruction := os.environ.get(COMPLETION):
        from click.shell_completion import shell_complete

        raise SystemExit(shell_complete(PROGRAM, {}, NAME, COMPLETION, instruction))
    raise SystemExit(run(sys.argv[1:]))
