from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from yoloship.errors import InputError
from yoloship.tracking.presets import CHOICES, DEFAULT, PRESETS, TrackOptions, track_options


def test_the_presets_have_the_numbers_of_their_programs() -> None:
    def numbers(name: str) -> tuple[float, ...]:
        one = PRESETS[name]
        return one.high, one.low, one.new, one.min_overlap, one.min_overlap_low, one.buffer, one.confirm_frames

    assert numbers("paper") == (0.5, 0.1, 0.6, 0.2, 0.5, 30, 2)
    assert numbers("ultralytics") == (0.25, 0.1, 0.25, 0.2, 0.5, 30, 2)
    assert numbers("trackers") == (0.6, 0.1, 0.7, 0.1, 0.1, 30, 2)
    assert numbers("yoloship") == (0.25, 0.1, 0.25, 0.1, 0.1, 30, 2)


def test_the_presets_have_the_choices_of_their_programs() -> None:
    def choices(name: str) -> tuple[str, ...]:
        return tuple(getattr(PRESETS[name], choice) for choice in CHOICES)

    assert choices("paper") == ("thirtieths", "confirmed", "iou-score", "more", "center", "three", "filter")
    assert choices("ultralytics") == ("frames", "confirmed", "iou-score", "edges", "center", "three", "filter")
    assert choices("trackers") == ("thirtieths", "unconfirmed", "iou", "edges", "corners", "two", "detection")
    assert choices("yoloship") == choices("trackers")


def test_the_first_preset_is_the_default() -> None:
    assert next(iter(PRESETS)) == DEFAULT
    assert track_options() is PRESETS[DEFAULT]
    assert TrackOptions() == PRESETS[DEFAULT]


def test_a_name_gives_its_preset_and_options_stay_as_they_are() -> None:
    own = TrackOptions(buffer=90)
    assert track_options("paper") is PRESETS["paper"]
    assert track_options(own) is own


@pytest.mark.parametrize("name", ["bytetrack", "", 3, ["paper"]])
def test_another_name_is_refused_with_the_names_that_there_are(name: Any) -> None:
    with pytest.raises(InputError, match="no such preset of tracking: expected one of yoloship, trackers, paper"):
        track_options(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("high", 1.5), ("low", -0.1), ("new", float("nan")), ("min_overlap", "0.1"), ("min_overlap_low", True),
        ("min_overlap_new", None), ("buffer", -1), ("buffer", 2.5), ("buffer", 10**9), ("confirm_frames", 0),
        ("confirm_frames", True),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: out of range: expected a "):
        TrackOptions(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: no such choice: expected {' or '.join(CHOICES[name])}, got 'x'"):
        TrackOptions(**{name: "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"low": 0.3}, {"high": 0.3}, {"high": 0.9, "new": 0.8}])
def test_thresholds_out_of_order_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="TrackOptions: the thresholds are not in order: expected low <= high <= new"):
        TrackOptions(**changes)  # type: ignore[arg-type]


def test_the_detector_runs_at_the_low_threshold() -> None:
    assert TrackOptions(low=0.05).detect_threshold == 0.05


def test_options_cannot_be_changed_but_replaced() -> None:
    with pytest.raises(FrozenInstanceError):
        TrackOptions().buffer = 3  # type: ignore[misc]
    assert replace(PRESETS["paper"], buffer=60).buffer == 60
