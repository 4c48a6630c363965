from __future__ import annotations

from typing import Any

import pytest

from yoloship.errors import InputError
from yoloship.pipeline import DetectOptions


def test_the_defaults_are_those_of_the_field() -> None:
    options = DetectOptions()
    assert (options.score_threshold, options.iou_threshold, options.max_detections) == (0.25, 0.45, 300)
    assert options.classes is None
    assert not options.class_agnostic


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_threshold", -0.1),
        ("score_threshold", 1.1),
        ("score_threshold", float("nan")),
        ("score_threshold", "0.5"),
        ("score_threshold", True),
        ("iou_threshold", 45),
        ("iou_threshold", float("inf")),
        ("max_detections", 0),
        ("max_detections", 2.0),
        ("max_detections", True),
        ("classes", "person"),
        ("classes", (1.5,)),
        ("classes", (True,)),
    ],
)
def test_values_outside_their_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: .*got "):
        DetectOptions(**{name: value})


def test_a_list_of_classes_becomes_a_tuple() -> None:
    wanted: Any = ["person", 3]
    assert DetectOptions(classes=wanted).classes == ("person", 3)
