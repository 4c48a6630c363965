from __future__ import annotations

from typing import Any

import pytest

from yoloship.errors import InputError
from yoloship.validate.yolov5.val_options import Yolov5Options


def test_the_defaults_are_those_of_the_official_tool() -> None:
    options = Yolov5Options()
    assert (options.imgsz, options.batch, options.score_threshold, options.iou_threshold) == (640, 32, 0.001, 0.6)
    assert (options.max_detections, options.single_class, options.shapes) == (300, False, "auto")


@pytest.mark.parametrize(
    "wrong",
    [
        {"imgsz": 0}, {"imgsz": 10_000}, {"imgsz": 640.0}, {"batch": 0}, {"batch": True}, {"max_detections": 0},
        {"score_threshold": -0.1}, {"score_threshold": float("nan")}, {"iou_threshold": 1.1}, {"shapes": "round"},
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(wrong))}: out of range"):
        Yolov5Options(**wrong)
