"""INT8 of every task that finds objects, on the small network of each head: what is measured, and what stays float."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from helpers.samples import sample
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.measures import MEASURES
from yoloship.graph import GraphConfig, build_graph
from yoloship.graph.passes.quantize import layers
from yoloship.precision.lowering import in_precision, quantized_share
from yoloship.precision.quantization import Disagreement, PrecisionLoss, QuantizeConfig, opener

HW = (64, 96)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (*HW, 3), np.uint8) for seed in range(3)]
CASES = (
    ("ultralytics", "detect"),
    ("yolov5", "segment"),
    ("ultralytics", "segment"),
    ("ultralytics", "pose"),
    ("ultralytics", "obb"),
)
CONFIG = QuantizeConfig(calibrator="minmax", max_drop=1, score_threshold=0.01, other_layers="float32")


@cache
def graph(family: str, task: str) -> Any:
    return build_graph(sample(family, task), GraphConfig(HW, input_form="image"))


def truths(detector: Any, task: str) -> list[Truth]:
    """What float32 itself finds, as the truth."""
    options = MEASURES[task].options(detector, 0.01)
    found = [detector(image, options=options)[:4] for image in IMAGES]
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    return [
        Truth(
            one.boxes_xyxy,
            one.class_ids,
            polygons=None
            if one.masks is None
            else tuple((parts or [square])[0].astype(np.float64) for parts in one.masks.polygons()),
            keypoints=None
            if one.keypoints is None
            else np.concatenate([one.keypoints[..., :2], np.ones((*one.keypoints.shape[:2], 1))], axis=2),
            boxes_xywhr=one.boxes_xywhr,
        )
        for one in found
    ]


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_loss_is_that_of_the_task(family: str, task: str) -> None:
    pytest.importorskip("pycocotools")
    opened = opener(None)
    with opened(graph(family, task)) as detector:
        assert detector.info.task == task
        agreement = Disagreement(detector, IMAGES, CONFIG, opened)
        precision = PrecisionLoss(detector, IMAGES, truths(detector, task), CONFIG, opened)
    assert not agreement.is_empty
    assert (agreement(graph(family, task)), precision(graph(family, task))) == (0, 0)
    assert precision._want > 0.2
    lowered = in_precision(graph(family, task), "int8", IMAGES, config=CONFIG)
    assert 0 <= agreement(lowered.model) <= 1
    assert f"; {MEASURES[task].agreed} " in lowered.words
    assert "% of the arithmetic" in lowered.words


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_last_convolutions_of_each_branch_are_not_quantized(family: str, task: str) -> None:
    quantized = {layer.name for layer in layers(graph(family, task))}
    heads = [
        node.name for node in graph(family, task).graph.node if node.op_type == "Conv" and node.name not in quantized
    ]
    model = sample(family, task)
    assert len(heads) >= len(model.strides)
    if task == "segment":
        assert any("proto" in name for name in heads)
    assert quantized_share(graph(family, task)).arithmetic == 0
