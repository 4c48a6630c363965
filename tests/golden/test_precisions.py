"""Trained checkpoints in less than float32: the same objects, and engines that build."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.cli import run
from helpers.networks import require_rtx
from helpers.shared import PHOTOS, TRAINED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.engine import BuildConfig, Range, build_engine
from yoloship.evaluate.artefact import open_artefact
from yoloship.evaluate.matching import agree, agreement_over_ious, match
from yoloship.evaluate.measures import measure_of
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.body import layer_precisions
from yoloship.graph.passes.half import convert_precision, emulate
from yoloship.images import read_image
from yoloship.model import NmsConfig
from yoloship.models.loading import load
from yoloship.precision.quantization import QuantizeConfig, quantize_with_images
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.results.detections import Detections

MODELS = ("coco-yolov5n", "ppe-yolov5n", "damage-yolov5n")
IMAGES = ("bus.jpg", "street.jpg", "zidane.jpg")


def images() -> list[Path]:
    return [require(PHOTOS / name) for name in IMAGES]


@cache
def graph(model: str, config: GraphConfig) -> Any:
    return build_graph(read_checkpoint(require(TRAINED / f"{model}.pt")), config)


HEADS = GraphConfig(input_form="image", output_form="heads")
SMALLER = GraphConfig((448, 448), input_form="image", output_form="heads")


def detector(model: Any) -> Detector:
    return Detector(OnnxRuntimeSession.open(graph_bytes(model)))


@cache
def photos() -> tuple[Any, ...]:
    return tuple(read_image(path) for path in images())


def faintly_seen(model: Any) -> list[Detections]:
    with detector(model) as found:
        options = measure_of(found.info, "found").options(found, 0.25)
        return [found(photo, options=options) for photo in photos()]


@cache
def in_float32(model: str, config: GraphConfig = HEADS) -> list[Detections]:
    return faintly_seen(graph(model, config))


def pairs(right: list[Detections], changed: list[Detections]) -> list[tuple[float, float, float]]:
    """Overlap and both scores of what both see."""
    found = []
    for one, other in zip(right, changed, strict=True):
        matched = match(one, other)
        for (row, column), iou in zip(matched.pairs.tolist(), matched.ious.tolist(), strict=True):
            if max(one.scores[row], other.scores[column]) >= 0.25:
                found.append((iou, float(one.scores[row]), float(other.scores[column])))
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("precision", "least_iou"), [("float16", 0.97), ("bfloat16", 0.95)])
def test_half_precision_sees_the_same_objects(model: str, precision: Any, least_iou: float) -> None:
    changed = faintly_seen(emulate(convert_precision(graph(model, HEADS), precision)))
    assert agree(in_float32(model), changed, 0.25).share == 1
    found = pairs(in_float32(model), changed)
    assert min(iou for iou, _, _ in found) >= least_iou
    assert max(abs(a - b) for _, a, b in found) < (0.01 if precision == "float16" else 0.06)


@pytest.mark.parametrize("model", MODELS)
def test_int8_calibrated_on_the_photos_sees_nearly_the_same_objects(model: str) -> None:
    config = HEADS if model == "ppe-yolov5n" else SMALLER  # what that model looks for is too small for the smaller
    quantized = quantize_with_images(graph(model, config), photos(), QuantizeConfig(max_drop=0.05))
    right, changed = in_float32(model, config), faintly_seen(emulate(quantized.model))
    assert agreement_over_ious(right, changed, 0.25) == pytest.approx(1 - quantized.drop)
    assert agree(right, changed, 0.25).share >= 0.95
    assert np.mean([iou for iou, _, _ in pairs(right, changed)]) >= 0.93


@pytest.mark.parametrize("other_layers", ["float16", "float32"])
def test_the_figures_of_an_export_are_those_of_the_file_that_it_wrote(other_layers: str, tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "int8.onnx", require(TRAINED / "coco-yolov5n.pt")
    options = ("--precision", "int8", "--max-drop", "1", "--imgsz", "224", "--other-layers", other_layers)
    ran = run("export", checkpoint, "-o", path, *options, *(f"--calibrate={photo}" for photo in images()))
    assert ran.code == 0, ran
    said = re.search(r"in (\d+) of (\d+) convolutions, .* agree with float32 to ([\d.]+)%", ran.out)
    assert said is not None, ran
    written = onnx.load(path)
    computed = [layer.precision for layer in layer_precisions(written)]
    assert (computed.count("int8"), len(computed)) == (int(said[1]), int(said[2]))
    right = faintly_seen(graph("coco-yolov5n", GraphConfig((224, 224))))
    with open_artefact(path) as found:
        options_of = measure_of(found.info, "found").options(found, 0.25)
        changed = [found(photo, options=options_of) for photo in photos()]
    assert 100 * agreement_over_ious(right, changed, 0.25) == pytest.approx(float(said[3]), abs=0.051)
    with load(path) as detector:  # as it is, without emulation
        assert all(len(detector(photo)) for photo in photos())


def detections(model: str, config: GraphConfig) -> list[Detections]:
    with detector(graph(model, config)) as found:
        return [found(photo) for photo in photos()]


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
            "score_threshold .* cannot be below 0.25, .*: expected 0.25 or more, got 0.1": DetectOptions(
                score_threshold=0.1
            ),
            "iou_threshold .* is fixed at 0.45 .*: expected 0.45, got 0.6": DetectOptions(iou_threshold=0.6),
            "max_detections .* cannot be above 300, .*: expected 300 or less, got 301": DetectOptions(
                max_detections=301
            ),
            "class_agnostic .* is fixed at False .*: expected False, got True": DetectOptions(class_agnostic=True),
        }
        for words, options in cases.items():
            with pytest.raises(InputError, match=words):
                found(np.zeros((8, 8, 3), np.uint8), options=options)
        found(np.zeros((8, 8, 3), np.uint8), options=DetectOptions(score_threshold=0.5, max_detections=3))


SMALL_HW = (160, 192)


@pytest.mark.parametrize(
    ("precision", "form", "batch"),
    [("int8", "nms", None), ("float8", "raw", 1)],
    ids=["int8, nms, dynamic", "float8, raw, static"],
)
def test_what_is_quantized_with_float16_in_between_builds_and_keeps_its_float32_ends(
    precision: Any, form: Any, batch: int | None, tmp_path: Path
) -> None:
    """All else that builds is in tests/engines/test_matrix.py."""
    require_rtx()
    config = GraphConfig(SMALL_HW, batch, "float" if form == "raw" else "image", form)
    noise = np.random.default_rng(0).integers(0, 256, (*SMALL_HW, 3), np.uint8)
    quantizing = QuantizeConfig(precision, "minmax", max_drop=1, other_layers="float16")
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_bytes(quantize_with_images(graph("ppe-yolov5n", config), [noise], quantizing).model))
    built = build_engine(
        path,
        BuildConfig(
            batch=Range(1, 2, 4) if batch is None else None, targets=("sm89",) if precision == "float8" else ()
        ),
    )
    assert {"float16", {"float8": "float8_e4m3fn"}.get(precision, precision)} <= built.dtypes
    assert [spec.dtype for spec in built.inputs] == ["float32" if form == "raw" else "uint8"]
    if form == "raw":
        assert [(spec.name, spec.dtype) for spec in built.outputs] == [("output0", "float32")]
    else:
        dtypes = ["float32", "float32", "int32", "int32", "int32"]
        assert [spec.dtype for spec in built.outputs] == dtypes
