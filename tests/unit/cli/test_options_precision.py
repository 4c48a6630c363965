from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from helpers.cli import run
from yoloship.cli.options import check_calibration
from yoloship.conversion import Calibration


@pytest.mark.parametrize(
    ("precision", "given", "words"),
    [
        ("int8", {}, "--precision int8 needs images like those in production: --calibrate DIR"),
        ("float8", {"max_drop": 0.5}, "--precision float8 needs images like those in production: --calibrate DIR"),
        ("float16", {"images": ("a.jpg",)}, "--calibrate: only for --precision int8 and float8"),
        (
            "float32",
            {"max_drop": 0.5, "other_layers": "float32"},
            "--max-drop, --other-layers: only for --precision int8 and float8",
        ),
        (
            "int8",
            {"images": ("a.jpg",), "other_layers": "float16", "placement": "inputs_and_outputs"},
            "--other-layers float16 does not go with --placement inputs_and_outputs",
        ),
        ("int8", {"images": ("a.jpg",), "labels": Path("none")}, "--labels none: there is no such folder"),
    ],
)
def test_options_that_contradict_the_precision_are_wrong_usage(precision: Any, given: Any, words: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        check_calibration(precision, Calibration(**given))
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("precision", "given"),
    [("float32", {}), ("bfloat16", {}), ("int8", {"images": ("a.jpg",), "max_drop": 0.1, "other_layers": "float32"})],
)
def test_options_that_go_together_pass(precision: Any, given: Any) -> None:
    check_calibration(precision, Calibration(**given))


@pytest.mark.parametrize("command", ["export", "build"])
def test_the_old_name_of_an_option_is_answered_with_the_new_one(command: str) -> None:
    ran = run(command, "best.pt", "--precision", "int8", "--remainder", "float32")
    assert ran.code == 2
    assert "--remainder is now called --other-layers" in ran.err
