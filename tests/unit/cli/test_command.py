from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from yoloship.cli.command import COUNT, FRACTION, Command, argument, command, flag, option


@command(examples=("yoloship try best.pt",))
@argument("model", metavar="MODEL", help="A checkpoint (.pt).")
@option("--conf", type=FRACTION, metavar="FLOAT", default=0.25, help="Drop what scores less.")
@option("--runs", type=COUNT, metavar="N", default=3, help="How often.")
@flag("--loud", help="Say more.")
def attempt(model: str, conf: float, runs: int, loud: bool) -> None:
    """Try a model."""
    click.echo(f"{model} {conf} {runs} {loud}")


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(attempt, arguments)


def test_the_help_explains_arguments_options_and_ends_with_examples() -> None:
    text = ran("--help").output
    places = [text.index(word) for word in ("Try a model.", "Arguments:", "A checkpoint", "Options:", "Examples:")]
    assert places == sorted(places)
    assert "A checkpoint (.pt)." in text
    assert "[default: 0.25" in text
    assert text.rstrip().endswith("yoloship try best.pt")
    assert ran("-h").output == text


def test_what_is_given_arrives_and_the_rest_has_its_default() -> None:
    assert ran("best.pt").output == "best.pt 0.25 3 False\n"
    assert ran("best.pt", "--conf", "1", "--runs", "7", "--loud").output == "best.pt 1.0 7 True\n"


def test_a_command_that_needs_something_shows_its_help_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt.main([], prog_name="try", standalone_mode=False) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "Arguments:" in written.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--conf", "nan"), "'nan' is not a valid number."),
        (("--conf", "1.5"), "1.5 is not in the range 0<=x<=1."),
        (("--runs", "0"), "0 is not in the range x>=1."),
        (("--runs", "1.5"), "'1.5' is not a valid whole number."),
    ],
)
def test_numbers_outside_their_range_are_refused_in_words(arguments: tuple[str, ...], words: str) -> None:
    found = ran("best.pt", *arguments)
    assert found.exit_code == 2
    assert words in found.output


def test_examples_stay_lines() -> None:
    one = Command("one", examples=("yoloship one a", "yoloship one b"), add_help_option=False)
    assert one.get_help(click.Context(one)).endswith("\n  Examples:\n    yoloship one a\n    yoloship one b")
