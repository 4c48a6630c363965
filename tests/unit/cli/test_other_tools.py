"""Options of YOLOv5's and Ultralytics' tools: the error says what to write instead."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from helpers.cli import run
from yoloship.cli.app import ALIASES, COMMANDS
from yoloship.cli.other_tools import INSTEAD, advice_for


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("predict", "--weights", "best.pt"), "Give the model as the first argument, without an option."),
        (("predict", "best.pt", "--source", "a.jpg"), "Give the sources after the model, without an option."),
        (("detect", "best.pt", "a.jpg", "--conf-thres=0.4"), "Use --conf."),
        (("predict", "best.pt", "a.jpg", "--save-txt"), "Use --txt DIR."),
        (("export", "best.pt", "--half"), "Use --precision float16."),
        (("export", "best.pt", "--dynamic"), "Use --batch dynamic, --imgsz dynamic."),
        (
            ("predict", "best.pt", "a.jpg", "--half"),
            "Write a file in half precision: yoloship export best.pt --precision float16",
        ),
        (("val", "best.pt", "--data", "data.yaml", "--task", "test"), "Use --split."),
    ],
)
def test_the_error_says_what_replaces_an_option_of_another_tool(words: tuple[str, ...], told: str) -> None:
    ran = run(*words)
    option = next(word for word in words if word.partition("=")[0] in INSTEAD).partition("=")[0]
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == f"Error: No such option {option!r}. {told}"


def test_an_underscore_counts_as_a_hyphen() -> None:
    assert advice_for("--save_txt", {"--txt"}) == "Use --txt DIR."


def test_an_option_that_the_command_lacks_is_not_suggested() -> None:
    assert advice_for("--save-txt", {"--imgsz"}) is None
    assert advice_for("--bogus", {"--imgsz"}) is None
    assert advice_for("--weights", {"--for"}) is None, "a command without a model"


def test_some_command_has_what_is_suggested() -> None:
    own: set[str] = set()
    for name in COMMANDS.keys() - ALIASES.keys():
        command: click.Command = getattr(import_module(f"yoloship.cli.{name}"), name)
        own |= {one for entry in command.params for one in (*entry.opts, *entry.secondary_opts)}
    for option, (first, *_) in INSTEAD.items():
        assert advice_for(option, own) == (f"Use {first}." if first.startswith("-") else first)
