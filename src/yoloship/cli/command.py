"""The decorators of a command (`@command`, then one `@argument`, `@option` or `@flag` per line), and value types.

@command(examples=("yoloship detect best.pt photo.jpg",))
@argument("model", metavar="MODEL", help="A checkpoint (.pt).")
@option("--conf", type=FRACTION, metavar="FLOAT", default=0.25, help="Keep only boxes with a score above this.")
@options.overwrite
def detect(model: str, conf: float, overwrite: bool) -> None: ...
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from yoloship.cli.other_tools import advice_for
from yoloship.cli.output import print_err_text, print_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import TypeAlias

    Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]
    Choice = click.Choice[str]
else:  # it is not generic before click 8.4
    Choice = click.Choice


class Number(click.FloatRange):
    """A finite number within a range."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse ``nan`` and ``inf``, which Python accepts as numbers."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number within a range."""

    name = "whole number"


_NAMES_WIDTH: Final = 24
"""Widest name of an option, in letters, that has its help beside it; that of wider ones is below."""
_HELP_WIDTH: Final = 110
"""Widest lines of a help, in letters; longer ones are hard to read, however wide the terminal is."""
FRACTION = Number(0, 1)
COUNT = WholeNumber(min=1)


EXAMPLES = "\b\nExamples:"
"""How the examples of a help begin. A backspace character tells click not to join the lines after it."""


class FileName(click.Path):
    """A path that may not exist; the library reports what is wrong with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty name, such as an unset shell variable; `pathlib` would take it for the current folder."""
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = FileName(readable=False, path_type=Path)
SOURCE = FileName(readable=False)
"""The text as the user gives it: a file, a folder, a pattern, or the name of a release."""


class Argument(click.Argument):
    """An argument with a help text. In every command it is a file or a source.

    Args:
        declarations: The parameter's name in the function.
        help: The help text.
        many: Whether there may be several; the function then gets a tuple.
        attributes: Whatever `click.Argument` takes, such as ``metavar``. With ``required=False`` the function gets None
            for a missing argument.
    """

    def __init__(self, declarations: Any, *, help: str, many: bool = False, **attributes: Any) -> None:  # noqa: A002
        super().__init__(declarations, nargs=-1 if many else 1, **{"required": True, "type": SOURCE, **attributes})
        self.explanation = help


class Command(click.Command):
    """A command whose help explains its arguments, and ends with examples.

    Args:
        args: Whatever `click.Command` takes.
        examples: Command lines for the end of the help.
        starts_bare: Whether the command works without arguments. If not, it shows its help.
        attributes: Whatever `click.Command` takes.
    """

    def __init__(self, *args: Any, examples: Sequence[str], starts_bare: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **{"context_settings": {"max_content_width": _HELP_WIDTH}, **attributes})
        self.epilog = "\n  ".join((EXAMPLES, *examples))
        self.params.append(help_option())
        self.starts_bare = starts_bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without arguments, show the help and end as wrong usage, unless the command can start without arguments.

        An option that may not be repeated is refused if it is: the last of its values would count otherwise. For an
        option of YOLOv5's or Ultralytics' tools, the error says what to write instead.
        """
        if not args and not self.starts_bare and not ctx.resilient_parsing:
            print_err_text(ctx.get_help())
            ctx.exit(2)
        try:
            found = self.make_parser(ctx).parse_args(list(args))[2]
        except click.NoSuchOption as error:
            own = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
            advice = advice_for(error.option_name, own)
            if advice is None:
                raise
            raise click.UsageError(f"No such option {error.option_name!r}. {advice}", ctx) from error
        given = [one for one in found if isinstance(one, click.Option)]
        for one in given:
            takes_one = not one.multiple and (not one.is_flag or one.secondary_opts)
            if takes_one and given.count(one) > 1:
                raise click.UsageError(f"{'/'.join(one.opts + one.secondary_opts)} is given twice", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments with their help before the options."""
        arguments = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, Argument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(str(entry.metavar), entry.explanation) for entry in arguments])
        for heading, options in self.sections(ctx):
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=_NAMES_WIDTH)

    def sections(self, ctx: click.Context) -> Iterable[tuple[str, Sequence[click.Parameter]]]:
        """The headings of the help, each with its options."""
        return [("Options", [parameter for parameter in self.get_params(ctx) if not isinstance(parameter, Argument)])]


command: Callable[..., Callable[[Callable[..., None]], Command]] = partial(
    click.command, cls=Command, add_help_option=False
)
"""Turn a function into a `Command` of the program; its docstring is the help text."""
argument = partial(click.argument, cls=Argument)
"""Add an `Argument` with a help text to a command."""


option = partial(click.option, show_default=True)
"""An option, as `click.option` makes it. Its help names the effect, and the default if that is not a plain value."""
flag = partial(option, is_flag=True)
"""An option without a value: False unless it is given."""


def printing_option(*names: str, text: Callable[[click.Context], str], help: str) -> click.Option:  # noqa: A002
    """An option that prints a text and ends the program, whatever other arguments there are."""

    def show(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            print_text(f"{text(ctx)}\n")
            ctx.exit()

    return click.Option([*names], is_flag=True, is_eager=True, expose_value=False, callback=show, help=help)


help_option = partial(printing_option, "-h", "--help", text=click.Context.get_help, help="Show this message and exit.")


DYNAMIC = "dynamic"


CHECKPOINT_SUFFIXES = frozenset({".pt", ".pth"})
ENGINE_SUFFIXES = frozenset({".engine", ".plan", ".trt"})

PRECISION_ALIASES = {
    "fp32": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8",
}


class PrecisionChoice(Choice):
    """A precision, given by its name or by a common short name."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Replace a short name by the full one."""
        name = value.lower()
        return super().convert(PRECISION_ALIASES.get(name, name), param, ctx)


def refuse_suffix(path: Path | None, suffixes: Collection[str], problem: str) -> None:
    """Refuse an output file whose suffix belongs to another kind of file than the command writes.

    Raises:
        click.BadParameter: the file has one of the suffixes.
    """
    if path is not None and path.suffix.lower() in suffixes:
        raise click.BadParameter(f"{path}: {problem}", param_hint="--output-file")


def image_size(text: str) -> tuple[int, int]:
    """``640`` → (640, 640); ``384x640`` → (384, 640), height first.

    Raises:
        click.BadParameter: anything else.
    """
    return _size(text, "640, or HxW such as 384x640")


def graph_size(text: str) -> tuple[int, int] | str:
    """A size for a graph: what `image_size` takes, or ``dynamic``.

    Raises:
        click.BadParameter: anything else.
    """
    return DYNAMIC if text.lower() == DYNAMIC else _size(text, f"640, HxW such as 384x640, or {DYNAMIC}")


def _size(text: str, forms: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    if match is None or not int(match[1]) or (match[2] and not int(match[2])):
        raise click.BadParameter(f"{text!r} is not a size: give {forms}")
    height = int(match[1])
    return height, int(match[2]) if match[2] else height


def alias_pair(text: str) -> tuple[str, str]:
    """``fork.nets.C3=models.common.C3`` → its two class paths.

    Raises:
        click.BadParameter: anything else.
    """
    old, _, official = (part.strip() for part in text.partition("="))
    if not all("." in path and all(word.isidentifier() for word in path.split(".")) for path in (old, official)):
        raise click.BadParameter(f"{text!r} is not an alias: give OLD.PATH=OFFICIAL.PATH, two class paths with dots")
    return old, official


def alias_table(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The aliases of a command line as a table.

    Raises:
        click.BadParameter: one class has two different aliases.
    """
    table: dict[str, str] = {}
    for old, official in pairs:
        if table.setdefault(old, official) != official:
            raise click.BadParameter(f"--alias gives {old} two names: {table[old]} and {official}")
    return table


def batch_size(text: str) -> int | str:
    """``4`` → 4; ``dynamic`` stays.

    Raises:
        click.BadParameter: anything else.
    """
    if text.lower() == DYNAMIC:
        return DYNAMIC
    if not re.fullmatch(r"\d{1,5}", text.strip()) or not int(text):
        raise click.BadParameter(f"{text!r} is not a batch size: give 1 or more, or {DYNAMIC}")
    return int(text)


def byte_size(text: str) -> int:
    """``2GB`` → 2 · 2³⁰; ``512MB``, or a number of bytes.

    Raises:
        click.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size in bytes: give 2GB, 512MB or a number of bytes")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]
