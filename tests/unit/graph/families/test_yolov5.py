from __future__ import annotations

import pytest

from helpers.modules import Maker, module
from yoloship.graph.families.yolov5 import Yolov5


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("models.yolo.Model", True),
        ("models.yolo.DetectionModel", True),
        ("my.copy.of.models.yolo.DetectionModel", True),
        ("models.yolo.SegmentationModel", True),
        ("models.yolo.ClassificationModel", True),
        ("models.yolo.DetectionModelX", False),
        ("xmodels.yolo.Model", False),
        ("ultralytics.nn.tasks.DetectionModel", False),
    ],
)
def test_a_network_belongs_to_it_by_its_whole_class_path(path: str, owned: bool) -> None:
    assert Yolov5().owns(module(path)) == owned


def test_its_heads_serve_detection_segmentation_and_classification() -> None:
    head = Maker().detect([8], [8])
    assert Yolov5().is_head(head)
    assert not Yolov5().is_head(module("other.Detect"))
    assert Yolov5().is_head(module("yolov5.models.common.Classify"))
    assert not Yolov5().is_head(module("models.common.Conv"))
    assert dict(Yolov5().tasks()) == {"Detect": "detect", "Segment": "segment", "Classify": "classify"}
    assert Yolov5().head_for("detect") is not None
    assert Yolov5().head_for("obb") is None
