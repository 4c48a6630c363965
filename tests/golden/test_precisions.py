"""Trained checkpoints in less than float32: the same objects, and engines that build."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from _networks import require_rtx
from _shared import PHOTOS, TRAINED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.engine import BuildConfig, Range, build_engine
from yoloship.evaluate.quantization import QuantizeOrder, quantize_with_pictures
from yoloship.evaluate.running import channel_means
from yoloship.evaluate.verification import Verification, verify
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.calibrate import calibrate
from yoloship.graph.emulate import emulate
from yoloship.graph.precision import convert_precision
from yoloship.graph.quantize import layers, quantize, values_to_watch
from yoloship.model import NmsConfig
from yoloship.pipeline import DetectOptions, Detector
from yoloship.runtime import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.results import Detections

MODELS = ("coco-yolov5n", "ppe-yolov5n", "damage-yolov5n")
PICTURES = ("bus.jpg", "street.jpg", "zidane.jpg")


def pictures() -> list[Path]:
    return [require(PHOTOS / name) for name in PICTURES]


@cache
def graph(model: str, config: GraphConfig) -> Any:
    return build_graph(read_checkpoint(require(TRAINED / f"{model}.pt")), config)


HEADS = GraphConfig(input_form="image", output_form="heads")


def detector(model: Any) -> Detector:
    return Detector(OnnxRuntimeSession.open(graph_bytes(model)))


def compare(model: str, changed: Any) -> Verification:
    with detector(graph(model, HEADS)) as first, detector(changed) as second:
        return verify(("float32", first), ("changed", second), pictures())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("precision", "least_iou"), [("float16", 0.97), ("bfloat16", 0.95)])
def test_half_precision_sees_the_same_objects(model: str, precision: Any, least_iou: float) -> None:
    found = compare(model, emulate(convert_precision(graph(model, HEADS), precision)))
    assert found.agreement.share == 1
    assert min(found.ious) >= least_iou
    assert max(abs(a - b) for a, b in found.scores) < (0.01 if precision == "float16" else 0.06)


@pytest.mark.parametrize("model", MODELS)
def test_int8_calibrated_on_the_photos_sees_nearly_the_same_objects(model: str) -> None:
    quantized = quantize_with_pictures(graph(model, HEADS), pictures(), QuantizeOrder(max_drop=0.05))
    found = compare(model, quantized.model)
    assert found.agreement.share == pytest.approx(1 - quantized.drop)
    assert found.agreement.share >= 0.95
    assert np.mean(found.ious) >= 0.93


def detections(model: str, config: GraphConfig) -> list[Detections]:
    with detector(graph(model, config)) as found:
        return [found(picture) for picture in pictures()]


@pytest.mark.parametrize("nms", [NmsConfig(), NmsConfig(iterations=2)], ids=["enough", "too few iterations"])
def test_suppression_in_the_graph_gives_the_detections_of_the_pipeline(nms: NmsConfig) -> None:
    inside = detections("coco-yolov5n", GraphConfig(input_form="image", output_form="nms", nms=nms))
    outside = detections("coco-yolov5n", GraphConfig(input_form="image", output_form="compact"))
    assert inside == outside
    assert sum(map(len, inside)) > 30


def test_options_that_a_graph_with_suppression_cannot_serve_are_refused() -> None:
    from yoloship.errors import InputError

    with detector(graph("ppe-yolov5n", GraphConfig(input_form="image", output_form="nms"))) as found:
        assert found.options == DetectOptions()
        cases: dict[str, DetectOptions] = {
            "another score_threshold: expected 0.25 or more, got 0.1": DetectOptions(score_threshold=0.1),
            "another iou_threshold: expected 0.45, got 0.6": DetectOptions(iou_threshold=0.6),
            "another max_detections: expected 300 or less, got 301": DetectOptions(max_detections=301),
            "another class_agnostic: expected False, got True": DetectOptions(class_agnostic=True),
        }
        for words, options in cases.items():
            with pytest.raises(InputError, match=words):
                found(np.zeros((8, 8, 3), np.uint8), options=options)
        found(np.zeros((8, 8, 3), np.uint8), options=DetectOptions(score_threshold=0.5, max_detections=3))


SMALL = {"input_form": "image", "input_hw": (160, 192)}


@cache
def lowered(model: str, precision: str, form: Any, batch: int | None) -> Any:
    base = graph(model, GraphConfig(**SMALL, output_form=form, batch=batch))  # type: ignore[arg-type]
    if precision in {"float16", "bfloat16"}:
        return convert_precision(base, precision)  # type: ignore[arg-type]
    feeds = [{"images": np.random.default_rng(0).integers(0, 256, (1, 160, 192, 3), np.uint8)}]
    names = values_to_watch(layers(base), "inputs")
    return quantize(base, calibrate(base, names, feeds, "minmax"), precision, means=channel_means(base, names, feeds))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, None], ids=["static", "dynamic"])
@pytest.mark.parametrize("form", ["raw", "nms"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8", "float8"])
def test_every_precision_builds_with_and_without_suppression(
    precision: str, form: str, batch: int | None, tmp_path: Path
) -> None:
    require_rtx()
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_bytes(lowered("ppe-yolov5n", precision, form, batch)))
    built = build_engine(
        path,
        BuildConfig(
            batch=Range(1, 2, 4) if batch is None else None, targets=("sm89",) if precision == "float8" else ()
        ),
    )
    assert {"float8": "float8_e4m3fn"}.get(precision, precision) in built.dtypes
    assert [spec.name for spec in built.outputs][-1] == ("exact" if form == "nms" else "output0")
