"""Suppression behind somebody's raw graph gives what the pipeline makes of that graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.foreign import foreign
from helpers.modules import Maker, checkpoint
from helpers.samples import sample
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import GraphError
from yoloship.graph import GraphConfig, build_graph, graph_bytes, model_info
from yoloship.graph.onnx_file import opset, read_metadata, read_model_info
from yoloship.graph.passes.half import at_opset
from yoloship.graph.passes.suppression import append_suppression
from yoloship.model import ModelInfo, NmsConfig
from yoloship.models.building import suppressing
from yoloship.results.detections import Detections
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

MAKE = Maker()
CHECKPOINT = checkpoint(
    [
        (MAKE.conv(3, 8, 8, 8, padding=(0, 0)), -1),
        (MAKE.conv(8, 8, 2, 2, padding=(0, 0)), -1),
        (MAKE.detect([8, 8], [8, 16]), [0, 1]),
    ]
)
NMS = NmsConfig(score_threshold=0.1, iou_threshold=0.4, max_detections=40)
OPTIONS = DetectOptions(score_threshold=0.1, iou_threshold=0.4, max_detections=40)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8) for seed in range(4)]


def raw(input_hw: tuple[int, int] | None = (64, 96), batch: int | None = 1) -> onnx.ModelProto:
    return build_graph(CHECKPOINT, GraphConfig(input_hw, batch))


def detections(model: onnx.ModelProto, options: DetectOptions | None = None) -> list[Detections]:
    with Detector(OnnxRuntimeSession.open(graph_bytes(model)), imgsz=(64, 96)) as detector:
        return detector.detect_batch(IMAGES, options=options or detector.options)


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("input_hw", [(64, 96), None])
def test_the_boxes_are_those_that_the_pipeline_makes_of_the_raw_output(
    input_hw: tuple[int, int] | None, batch: int | None
) -> None:
    model = raw(input_hw, batch)
    want = detections(model, OPTIONS)
    assert sum(map(len, want)) > 20
    assert detections(suppressing(model, NMS, subject="best.onnx")) == want


@pytest.mark.parametrize("version", [17, 19, 22])
def test_a_foreign_graph_of_any_operator_set_is_followed(version: int) -> None:
    model = at_opset(foreign(raw()), version)
    whole = suppressing(model, NMS, subject="foreign.onnx")
    onnx.checker.check_model(whole, full_check=True)
    assert opset(whole) == version
    info = read_model_info(read_metadata(whole), "foreign.onnx")
    assert info is not None
    assert (info.output_form, info.nms, info.class_names) == ("nms", NMS, ("0", "1", "2"))
    assert detections(whole) == detections(model, OPTIONS)


def test_a_graph_that_suppresses_already_is_left_alone_or_refused() -> None:
    whole = suppressing(raw(), NMS, subject="best.onnx")
    assert suppressing(whole, NMS, subject="best.onnx") is whole
    with pytest.raises(GraphError) as caught:
        suppressing(whole, NmsConfig(score_threshold=0.1), subject="best.onnx")
    assert str(caught.value) == ("best.onnx: already contains NMS with another iou_threshold: expected 0.45, got 0.4")


@pytest.mark.parametrize("form", ["heads", "compact"])
def test_another_form_is_refused(form: str) -> None:
    model = build_graph(CHECKPOINT, GraphConfig((64, 96), output_form=form))
    with pytest.raises(GraphError, match=rf"suppression follows the raw form only: .* got {form}, "):
        suppressing(model, NMS, subject="best.onnx")


def test_a_graph_that_is_no_detector_is_refused() -> None:
    from helpers.networks import float_network

    with pytest.raises(GraphError, match=r"small\.onnx: has no output that NMS can be appended to"):
        suppressing(float_network(), NMS, subject="small.onnx")


def test_a_name_that_is_taken_is_refused() -> None:
    model = foreign(raw())
    name = model.graph.node[0].output[0]
    for node in model.graph.node:
        node.input[:] = ["scores" if one == name else one for one in node.input]
        node.output[:] = ["scores" if one == name else one for one in node.output]
    info = ModelInfo("detect", "yolov5", ("a", "b", "c"), (8,), (), "float", "raw", (64, 96), 1)
    with pytest.raises(GraphError, match="has a value with a name that suppression needs: got scores"):
        append_suppression(model, info, NMS)


@pytest.mark.parametrize("family", ["yolov5", "ultralytics"])
@pytest.mark.parametrize("input_hw", [(64, 96), None])
def test_masks_keep_their_coefficients_and_prototypes(family: str, input_hw: tuple[int, int] | None) -> None:
    model = build_graph(sample(family, "segment"), GraphConfig(input_hw, 1, output_form="raw"))
    want = detections(model, OPTIONS)
    assert sum(map(len, want)) > 5
    found = detections(suppressing(model, NMS, subject="best.onnx"))
    assert [one.masks for one in found] == [one.masks for one in want]


def test_a_segmentation_model_without_prototypes_is_refused() -> None:
    network = sample("yolov5", "segment")
    model = build_graph(network, GraphConfig((64, 96), 1))
    del model.graph.output[1]
    with pytest.raises(
        GraphError, match=r"has no prototypes, which masks are made of: expected an output \(B, 4, h, w\)"
    ):
        append_suppression(model, model_info(network, GraphConfig((64, 96), 1)), NMS)
