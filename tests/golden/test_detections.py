"""From a trained checkpoint and a photo to boxes: the official code's own, at a fixed 640×640."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.shared import PHOTOS, TRAINED, require
from yoloship.checkpoint import read_checkpoint
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.model import InputForm, OutputForm
    from yoloship.results.detections import Detections

MODELS = ("coco-yolov5n", "ppe-yolov5n", "damage-yolov5n")
IMAGES = ("bus.jpg", "street.jpg", "zidane.jpg")
FORMS: tuple[tuple[InputForm, OutputForm], ...] = (("image", "heads"), ("float", "raw"), ("image", "compact"))


@cache
def reference() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(require(PHOTOS / "detections.json").read_text())
    return data


@cache
def detector(model: str, input_form: InputForm, output_form: OutputForm) -> Detector:
    checkpoint = read_checkpoint(require(TRAINED / f"{model}.pt"))
    graph = build_graph(checkpoint, GraphConfig(input_form=input_form, output_form=output_form))
    return Detector(OnnxRuntimeSession.open(graph_bytes(graph)))


def expected(model: str, image: str, thresholds: str) -> npt.NDArray[np.float64]:
    return np.array(reference()[model]["images"][image][thresholds], np.float64).reshape(-1, 6)


def matches(found: Detections, want: npt.NDArray[np.float64], min_iou: float) -> int:
    """How many of the expected boxes have a partner of their own: same class, close score, IoU high enough.

    Clipped to the image a box can lose all its area, and then has no IoU with anything; equal corners count too.
    """
    free = np.ones(len(found), bool)
    count = 0
    for *box, score, class_id in want:
        iou = _iou(np.array(box), found.boxes_xyxy.astype(np.float64))
        same = np.abs(found.boxes_xyxy - np.array(box)).max(axis=1, initial=0) <= 0.01
        good = (
            free & ((iou >= min_iou) | same) & (found.class_ids == class_id) & (np.abs(found.scores - score) <= 0.002)
        )
        if good.any():
            free[np.argmax(np.where(good, iou, -1))] = False
            count += 1
    return count


def _iou(box: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(overlap / np.maximum(areas - overlap, 1e-12))


@pytest.mark.parametrize("forms", FORMS, ids="-".join)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("model", MODELS)
def test_a_photo_gives_the_reference_detections(model: str, image: str, forms: tuple[InputForm, OutputForm]) -> None:
    want = expected(model, image, "conf0.25_iou0.45")
    found = detector(model, *forms)(require(PHOTOS / image))
    assert sorted(found.class_ids.tolist()) == sorted(want[:, 5].astype(int).tolist())
    assert matches(found, want, 0.99) == len(want)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("model", MODELS)
def test_nearly_all_faint_detections_agree_too(model: str, image: str) -> None:
    want = expected(model, image, "conf0.001_iou0.6")
    options = DetectOptions(score_threshold=0.001, iou_threshold=0.6)
    found = detector(model, "image", "heads")(require(PHOTOS / image), options=options)
    assert abs(len(found) - len(want)) <= 0.01 * len(want)
    assert matches(found, want, 0.99) >= 0.99 * len(want)


@pytest.mark.parametrize("model", MODELS)
def test_a_standard_file_without_our_record_gives_the_same(model: str) -> None:
    """As another exporter would write it: recognised by its form and by the metadata that the field shares."""
    graph = build_graph(read_checkpoint(require(TRAINED / f"{model}.pt")), GraphConfig())
    foreign = [entry for entry in graph.metadata_props if not entry.key.startswith("yoloship")]
    del graph.metadata_props[:]
    graph.metadata_props.extend(foreign)
    with Detector(OnnxRuntimeSession.open(graph_bytes(graph))) as found:
        ours = detector(model, "float", "raw")
        assert found.class_names == ours.class_names
        assert found.info.strides == ours.info.strides
        for image in IMAGES:
            assert found(require(PHOTOS / image)) == ours(require(PHOTOS / image))


def test_class_names_are_those_of_the_checkpoint() -> None:
    for model in MODELS:
        assert list(detector(model, "image", "heads").class_names) == reference()[model]["names"]
