"""What to keep of a model's answers: the defaults of a validation, and what a graph has fixed."""

from __future__ import annotations

import pytest

from helpers.models import info
from yoloship.errors import InputError
from yoloship.model import NmsConfig
from yoloship.validate.choices import ValOptions


def test_the_defaults_are_those_of_the_models_own_validation() -> None:
    kept = ValOptions().detect(info())
    assert (kept.score_threshold, kept.iou_threshold, kept.max_detections) == (0.001, 0.6, 300)
    other = ValOptions().detect(info(family="ultralytics", anchors=()))
    assert (other.score_threshold, other.iou_threshold, other.class_agnostic) == (0.001, 0.7, False)


def test_what_is_given_wins() -> None:
    kept = ValOptions(0.01, 0.5, 100, single_class=True).detect(info())
    assert (kept.score_threshold, kept.iou_threshold, kept.max_detections) == (0.01, 0.5, 100)
    assert kept.class_agnostic


def test_what_is_inside_a_graph_stays() -> None:
    fixed = info("nms", nms=NmsConfig(0.2, 0.5, 50))
    kept = ValOptions().detect(fixed)
    assert (kept.score_threshold, kept.iou_threshold, kept.max_detections) == (0.2, 0.5, 50)


@pytest.mark.parametrize(
    "wrong",
    [{"score_threshold": 1.5}, {"iou_threshold": -0.1}, {"max_detections": 0}, {"confidence": 2.0}, {"worst": 101}],
)
def test_a_value_outside_its_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: out of range"):
        ValOptions(**wrong)  # type: ignore[arg-type]  # the test is about these values
