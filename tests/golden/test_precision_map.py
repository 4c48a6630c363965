"""Mean average precision of the bundled model in less than float32, on scenes whose boxes are exact."""

from __future__ import annotations

from functools import cache
from typing import Any

from helpers.scenes import CLASS_NAMES, MODEL, held_out_scenes, truths
from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.evaluate.average_precision import mean_average_precision
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.passes.half import convert_precision, emulate
from yoloship.precision.quantization import QuantizeConfig, quantize_with_images
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

SCENES, CALIBRATION = slice(0, 12), slice(100, 104)
EVERYTHING = DetectOptions(score_threshold=0.001, iou_threshold=0.6)
INPUT_HW, SMALL_HW = (480, 480), (384, 384)


@cache
def graph(input_hw: tuple[int, int] = INPUT_HW) -> Any:
    return build_graph(read_checkpoint(MODEL), GraphConfig(input_hw, input_form="image", output_form="heads"))


def precision_of(model: Any) -> float:
    scenes = held_out_scenes()[SCENES]
    with Detector(OnnxRuntimeSession.open(graph_bytes(model))) as detector:
        found = [detector(scene.image, options=EVERYTHING) for scene in scenes]
    return mean_average_precision(found, truths(scenes), CLASS_NAMES).map50_95


@cache
def in_float32(input_hw: tuple[int, int] = INPUT_HW) -> float:
    return precision_of(graph(input_hw))


def calibration() -> list[Any]:
    return [scene.image for scene in held_out_scenes()[CALIBRATION]]


def test_float16_loses_at_most_two_thousandths() -> None:
    assert in_float32() > 0.9
    assert abs(precision_of(emulate(convert_precision(graph(), "float16"))) - in_float32()) <= 0.002


def test_int8_with_float16_in_between_loses_at_most_a_hundredth() -> None:
    quantized = quantize_with_images(graph(), calibration(), QuantizeConfig(max_drop=0.02))
    assert not quantized.kept
    assert in_float32() - precision_of(emulate(quantized.model)) <= 0.01


def test_where_boxes_only_loosen_layers_are_left_unquantized_and_then_at_most_a_hundredth_is_lost() -> None:
    config = QuantizeConfig(calibrator="minmax", other_layers="float32")
    quantized = quantize_with_images(graph(SMALL_HW), calibration(), config)
    assert quantized.full_drop > config.max_drop >= quantized.drop
    assert quantized.kept
    assert in_float32(SMALL_HW) - precision_of(quantized.model) <= 0.01
