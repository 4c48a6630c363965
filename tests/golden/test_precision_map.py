"""Mean average precision of the bundled model in less than float32, on scenes whose boxes are exact."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from yoloship.checkpoint import read_checkpoint
from yoloship.demo.scene import HELD_OUT_SEED, make_scene
from yoloship.evaluate.coco import Truth, mean_average_precision
from yoloship.evaluate.quantization import QuantizeOrder, quantize_with_pictures
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.emulate import emulate
from yoloship.graph.precision import convert_precision
from yoloship.pipeline import DetectOptions, Detector
from yoloship.runtime import OnnxRuntimeSession

SCENES = range(HELD_OUT_SEED + 5000, HELD_OUT_SEED + 5016)
CALIBRATION = range(HELD_OUT_SEED + 9000, HELD_OUT_SEED + 9008)
EVERYTHING = DetectOptions(score_threshold=0.001, iou_threshold=0.6)


@cache
def scenes() -> list[Any]:
    return [make_scene(seed) for seed in SCENES]


@cache
def graph() -> Any:
    data = (files("yoloship.demo") / "codes-yolov5n.pt").read_bytes()
    return build_graph(read_checkpoint(data), GraphConfig(input_form="image", output_form="heads"))


def precision_of(model: Any) -> float:
    truths = [Truth(scene.boxes_xyxy, scene.class_ids) for scene in scenes()]
    with Detector(OnnxRuntimeSession.open(graph_bytes(model))) as detector:
        found = [detector(scene.picture, options=EVERYTHING) for scene in scenes()]
        return mean_average_precision(found, truths, detector.names).map50_95


@cache
def in_float32() -> float:
    return precision_of(graph())


def test_float16_loses_at_most_two_thousandths() -> None:
    assert in_float32() > 0.9
    assert abs(precision_of(emulate(convert_precision(graph(), "float16"))) - in_float32()) <= 0.002


def test_int8_loses_at_most_a_hundredth() -> None:
    pictures = [make_scene(seed).picture for seed in CALIBRATION]
    quantized = quantize_with_pictures(graph(), pictures, QuantizeOrder())
    assert in_float32() - precision_of(quantized.model) <= 0.01
