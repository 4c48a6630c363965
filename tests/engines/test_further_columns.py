"""Engines of models that answer more than boxes, with suppression inside: the operators of that are TensorRT's too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.samples import sample
from yoloship.engine import Flavour, build_engine
from yoloship.graph import GraphConfig, build_graph, model_info
from yoloship.model import NmsConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    from yoloship.graph.config import FloatPrecision


@pytest.mark.parametrize(
    ("task", "columns", "batch", "precision"), [("pose", 9, 1, "float32"), ("obb", 1, 2, "float16")]
)
def test_suppression_carries_keypoints_and_looks_at_angles(
    flavour: Flavour,
    saved: Callable[[onnx.ModelProto], Path],
    task: str,
    columns: int,
    batch: int,
    precision: FloatPrecision,
) -> None:
    nms = NmsConfig(max_detections=20, candidates=32, iterations=2)
    config = GraphConfig((64, 96), batch, output_form="nms", nms=nms, precision=precision)
    network = sample("ultralytics", task)
    built = build_engine(saved(build_graph(network, config)), flavour=flavour, info=model_info(network, config))
    assert [(spec.name, spec.shape) for spec in built.outputs] == [
        ("boxes_xyxy", (batch, 20, 4)),
        ("scores", (batch, 20)),
        ("class_ids", (batch, 20)),
        ("count", (batch,)),
        ("exact", (batch,)),
        ("extras", (batch, 20, columns)),
    ]
    assert precision in built.dtypes
