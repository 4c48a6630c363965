from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yoloship.engine import BuildConfig, InputProfile, Range, parse_target
from yoloship.errors import InputError


@pytest.mark.parametrize(("text", "numbers"), [("4", (4, 4, 4)), ("1:4:8", (1, 4, 8)), ("2:2:2", (2, 2, 2))])
def test_a_range_is_one_number_or_three(text: str, numbers: tuple[int, int, int]) -> None:
    assert Range.parse(text, option="--batch") == Range(*numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8:4:1", "--batch: bad range: expected 1 ≤ minimum ≤ optimum ≤ maximum ≤ 65536, got 8:4:1"),
        ("0", "--batch: bad range: expected 1 ≤ minimum ≤ optimum ≤ maximum ≤ 65536, got 0"),
        ("1:8", "--batch: bad range: expected N or MIN:OPT:MAX, got '1:8'"),
        ("-1", "--batch: bad range: expected N or MIN:OPT:MAX, got '-1'"),
        ("", "--batch: bad range: expected N or MIN:OPT:MAX, got ''"),
        ("1:2:99999999", "--batch: bad range: expected N or MIN:OPT:MAX, got '1:2:99999999'"),
    ],
)
def test_a_bad_range_says_what_a_good_one_is(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Range.parse(text, option="--batch")
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["8.9", "89", "sm89", "SM_89", "Sm89 "])
def test_a_target_may_be_written_in_several_ways(text: str) -> None:
    assert parse_target(text) == "sm89"


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no such target: expected one of portable, current, sm75"):
        parse_target("sm42")


def test_the_target_of_data_centre_gpus_points_to_the_other_flavour() -> None:
    with pytest.raises(InputError, match="TensorRT-RTX does not support it; use TensorRT there"):
        parse_target("9.0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"workspace_bytes": 1 << 41},
            "workspace_bytes: bad build option: expected 1048576 to 1099511627776, got 2199023255552",
        ),
        ({"workspace_bytes": 0}, "workspace_bytes: bad build option: expected 1048576 to 1099511627776, got 0"),
        ({"optimization_level": 6}, "optimization_level: bad build option: expected 0 to 5, got 6"),
        ({"targets": ("sm86", "sm86")}, "targets: bad build option: expected each once, got sm86, sm86"),
        (
            {"targets": ("portable", "sm86")},
            "targets: bad build option: expected 'portable' alone, or compute capabilities, got portable, sm86",
        ),
        (
            {"targets": ("sm86",), "hardware_compatibility": "ampere_plus"},
            "targets: bad build option: expected targets or hardware_compatibility, not both, got sm86",
        ),
        (
            {"hardware_compatibility": "all"},
            "hardware_compatibility: bad build option: "
            "expected one of none, ampere_plus, same_compute_capability, got all",
        ),
    ],
)
def test_a_bad_option_is_refused_before_tensorrt_is_touched(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        BuildConfig(**options)
    assert str(caught.value) == message


def test_a_profile_whose_minimum_is_above_its_optimum_is_refused() -> None:
    with pytest.raises(InputError, match="images: bad profile: expected three shapes of one rank"):
        InputProfile("images", (4, 3), (2, 3), (8, 3))


def test_a_profile_of_unequal_ranks_is_refused() -> None:
    with pytest.raises(InputError, match="images: bad profile"):
        InputProfile("images", (4, 3), (4, 3, 1), (8, 3))


def test_equal_configurations_give_equal_text_and_name_no_machine() -> None:
    one = BuildConfig(batch=Range(1, 4, 8), timing_cache=Path("here") / "cache")
    other = BuildConfig(batch=Range(1, 4, 8))
    assert one.to_json() == other.to_json()
    assert json.loads(one.to_json())["batch"] == {"minimum": 1, "optimum": 4, "maximum": 8}
