"""The house form of a command: `@command`, then one `@argument`, `@option` or `@flag` a line.

@command("yoloship detect best.pt photo.jpg")
@argument("model", metavar="MODEL", help="A checkpoint (.pt).")
@option("--conf", type=FRACTION, metavar="FLOAT", default=0.25, help="Drop boxes whose score is not above this.")
@options.overwrite
def detect(model: str, conf: float, overwrite: bool) -> None: ...
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from yoloship.cli.output import print_err_text, print_text
from yoloship.cli.values import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


class Number(click.FloatRange):
    """A number within a range; what is not a number, or infinite, is refused."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what Python takes for a number and nobody means."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number within a range."""

    name = "whole number"


FRACTION = Number(0, 1)
COUNT = WholeNumber(min=1)


class Argument(click.Argument):
    """An argument that has a help text: a file, in every command.

    Args:
        declarations: The parameter's name in the function.
        help: What it is.
        many: Whether there may be several; the function gets a tuple then.
        attributes: Whatever `click.Argument` takes: ``metavar``; ``required``, without which the function gets None
            for a missing one.
    """

    def __init__(self, declarations: Any, *, help: str, many: bool = False, **attributes: Any) -> None:  # noqa: A002
        super().__init__(declarations, nargs=-1 if many else 1, **{"required": True, "type": SOURCE, **attributes})
        self.explanation = help


class Command(click.Command):
    """A command whose help explains its arguments, and ends with examples."""

    def __init__(self, *args: Any, starts_bare: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(help_option())
        self.starts_bare = starts_bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help of a command that cannot do anything without arguments, and end as wrong usage."""
        if not args and not self.starts_bare and not ctx.resilient_parsing:
            print_err_text(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments with their help before the options."""
        arguments = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, Argument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(str(entry.metavar), entry.explanation) for entry in arguments])
        super().format_options(ctx, formatter)


def command(
    *examples: str, starts_bare: bool = False, kind: type[Command] = Command
) -> Callable[[Callable[..., None]], Command]:
    """Turn a function into a command of the program; its docstring is the help text.

    Args:
        examples: Command lines for the end of the help.
        starts_bare: Whether the command does something without any argument. Others show their help.
        kind: The class of the command.
    """
    return click.command(
        cls=kind,
        add_help_option=False,
        starts_bare=starts_bare,
        epilog=paragraph("Examples:", *examples),
    )


argument = partial(click.argument, cls=Argument)
"""An argument; see `Argument`."""


def option(*names: str, help: str, **attributes: Any) -> Decorator:  # noqa: A002 - click's word
    """An option; its default is shown in the help if it has one.

    Args:
        names: ``-o``, ``--output-file``, ``--draw/--no-draw``, and the parameter's name if it is another.
        help: The effect, and the default if that is not a plain value.
        attributes: Whatever `click.option` takes: ``metavar``, ``type``, ``default``, ``multiple``, ``is_flag``.
    """
    return click.option(*names, help=help, show_default=True, **attributes)


flag = partial(option, is_flag=True)
"""An option without a value: False unless it is given."""


def printing_option(*names: str, text: Callable[[click.Context], str], help: str) -> click.Option:  # noqa: A002
    """An option that prints a text and ends the program, whatever else was given."""

    def show(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            print_text(f"{text(ctx)}\n")
            ctx.exit()

    return click.Option([*names], is_flag=True, is_eager=True, expose_value=False, callback=show, help=help)


help_option = partial(printing_option, "-h", "--help", text=click.Context.get_help, help="Show this message and exit.")


def paragraph(heading: str, *lines: str) -> str:
    """Lines that stay lines, which a backspace asks the help's formatter for."""
    return "\n".join(("\b", heading, *(f"  {line}" for line in lines)))
