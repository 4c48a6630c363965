from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.model import ModelInfo, NmsConfig


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


def test_numbers_of_numpy_are_numbers() -> None:
    options = DetectOptions(
        score_threshold=np.float32(0.5),
        max_detections=np.int64(7),
        classes=(np.int32(3), "person"),
    )
    assert options == DetectOptions(score_threshold=0.5, max_detections=7, classes=(3, "person"))
    assert [type(value) for value in (options.score_threshold, options.max_detections)] == [float, int]
    by_array: Any = np.array([0, 2])
    assert DetectOptions(classes=by_array).classes == (0, 2)


def test_something_else_than_options_is_refused_with_a_hint() -> None:
    given: Any = {"score_threshold": 0.3}
    with pytest.raises(InputError) as caught:
        DetectOptions.changes(given)
    assert str(caught.value) == (
        "options: wrong type: expected a DetectOptions, got dict; give DetectOptions(score_threshold=0.3) or the like"
    )


def test_a_graph_that_suppresses_gives_the_defaults_it_has_fixed() -> None:
    nms = NmsConfig(score_threshold=0.3, iou_threshold=0.6, max_detections=7, class_agnostic=True)
    info = ModelInfo("detect", "ultralytics", ("a",), (8,), (), "float", "nms", (640, 640), 1, nms=nms)
    assert DetectOptions.of(info) == DetectOptions(0.3, 0.6, 7, None, class_agnostic=True)


def test_without_nms_inside_the_defaults_are_those_of_the_model_s_own_tool() -> None:
    info = ModelInfo("detect", "yolov5", ("a",), (8,), (), "float", "raw", (640, 640), 1)
    assert DetectOptions.of(info) == DetectOptions()
    assert DetectOptions.of(replace(info, family="ultralytics")) == DetectOptions(iou_threshold=0.7)
    assert DetectOptions.of(replace(info, family="acme")) == DetectOptions()


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        (DetectOptions(), ("iou_threshold",), r"iou_threshold \(--iou\) has no effect, because the head 'one2one'"),
        (DetectOptions(class_agnostic=True), (), r"class_agnostic \(--agnostic-nms\) has no effect"),
        (DetectOptions(max_detections=301), (), r"max_detections \(--max-det\) cannot be above 300"),
    ],
)
def test_options_of_suppression_are_refused_for_a_head_without(
    options: DetectOptions, given: tuple[str, ...], words: str
) -> None:
    DetectOptions(score_threshold=0.1, max_detections=300).check_final("m.onnx", ("score_threshold",))
    with pytest.raises(InputError, match=words):
        options.check_final("m.onnx", given)
