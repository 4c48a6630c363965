"""The options of calls: what replaces the detector's, and what does not go with the model."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.models import image_session, info
from yoloship.detect.call_options import CallOptions
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import InputError


def call_options(options: DetectOptions | None = None, **changes: Any) -> CallOptions:
    record = info()
    session = image_session(record, lambda _: [])
    return CallOptions(CpuPipeline(session, ModelInput.checked(record, None, "square", "best.pt")), options, changes)


def test_a_change_replaces_one_option_of_the_detector() -> None:
    options = call_options(DetectOptions(0.1, 0.6), max_detections=7)
    assert options.default == DetectOptions(0.1, 0.6, 7)
    assert options.chosen(None, {"score_threshold": 0.5}) == DetectOptions(0.5, 0.6, 7)
    assert options.chosen(DetectOptions(0.3), {}) == DetectOptions(0.3), "whole options replace all of them"


def test_equal_options_are_the_same_object() -> None:
    """A GPU compares the options of a plan by identity, because that is faster."""
    options = call_options()
    first = options.chosen(None, {"score_threshold": 0.5})
    assert options.chosen(None, {"score_threshold": 0.5}) is first
    assert options.chosen(DetectOptions.of(info()), {}) is options.default


def test_many_different_options_are_not_all_remembered() -> None:
    options = call_options()
    for count in range(1, 1000):
        options.chosen(None, {"max_detections": count})
    assert len(options._known) < 100


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": ("zebra",)}, "zebra: no such class: expected one of alpha, beta, gamma, or an id from 0 to 2"),
        ({"retina_masks": True}, "retina_masks (--retina-masks): has no effect for a detection model; leave it out"),
    ],
)
def test_what_does_not_go_with_the_model_is_refused_each_time(changes: dict[str, Any], told: str) -> None:
    options = call_options()
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            options.chosen(None, changes)
        assert str(caught.value) == told
