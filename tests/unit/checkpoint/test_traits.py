"""Task, class names and strides, as module trees say them."""

from __future__ import annotations

import math

import pytest

from helpers import forge
from yoloship.checkpoint import Checkpoint, read_checkpoint
from yoloship.errors import CheckpointError


def with_head(model: str, head: str, attributes: dict[str, bytes]) -> Checkpoint:
    layers = forge.module("torch.nn.modules.container.Sequential", modules={"0": forge.module(head, attributes)})
    whole = forge.module(model, {"names": forge.listed(forge.text("a"))}, modules={"model": layers})
    return read_checkpoint(forge.zip_bytes(forge.end(whole)))


STRIDE = {"stride": forge.listed(forge.number(32.0), forge.number(8.0), forge.number(16.0))}


@pytest.mark.parametrize(
    ("model", "head", "task"),
    [
        ("models.yolo.Model", "models.yolo.Detect", "detect"),
        ("models.yolo.DetectionModel", "models.yolo.IDetect", "detect"),
        ("models.yolo.Model", "models.yolo.Segment", "segment"),
        ("models.yolo.SegmentationModel", "models.yolo.Other", "segment"),
        ("models.yolo.ClassificationModel", "models.common.Classify", "classify"),
        ("ultralytics.nn.tasks.DetectionModel", "ultralytics.nn.modules.head.Detect", "detect"),
    ],
)
def test_the_task_follows_the_model_or_its_head(model: str, head: str, task: str) -> None:
    assert with_head(model, head, STRIDE).task == task


def test_strides_come_finest_first_whatever_their_order() -> None:
    assert with_head("models.yolo.Model", "models.yolo.Detect", STRIDE).strides == (8, 16, 32)


def test_a_classifier_has_no_strides() -> None:
    assert with_head("models.yolo.ClassificationModel", "models.common.Classify", {}).strides == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -8.0, 8.5, 1e9])
def test_strides_that_are_no_whole_pixels_are_refused(value: float) -> None:
    with pytest.raises(CheckpointError, match="strides that are not 1 to 16 whole numbers of pixels up to 65536"):
        with_head("models.yolo.Model", "models.yolo.Detect", {"stride": forge.listed(forge.number(value))})


def test_a_detector_without_strides_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"its head, a 'models\.yolo\.Detect', does not state its strides"):
        with_head("models.yolo.Model", "models.yolo.Detect", {})


@pytest.mark.parametrize(
    ("model", "head", "words"),
    [
        ("RTDETRDetectionModel", "RTDETRDecoder", "whose last layer is an RT-DETR decoder of Ultralytics' package"),
        ("WorldModel", "WorldDetect", "whose last layer is a YOLO-World head.*with its classes set"),
        ("YOLOEModel", "YOLOEDetect", "whose last layer is a YOLOE head.*with its classes set"),
        ("YOLOESegModel", "YOLOESegment26", "whose last layer is a YOLOE head"),
        ("SemanticSegmentationModel", "SemanticSegment", "whose last layer is a head for semantic segmentation"),
        ("DepthModel", "Depth", "whose last layer is a head for depth"),
    ],
)
def test_other_models_of_ultralytics_package_are_named_as_what_they_are(model: str, head: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        with_head(f"ultralytics.nn.tasks.{model}", f"ultralytics.nn.modules.head.{head}", STRIDE)


@pytest.mark.parametrize(
    ("model", "head", "task"),
    [
        ("YOLOv10DetectionModel", "v10Detect", "detect"),
        ("PoseModel", "Pose26", "pose"),
        ("OBBModel", "OBB", "obb"),
        ("SegmentationModel", "Segment26", "segment"),
    ],
)
def test_every_task_of_ultralytics_package_is_known(model: str, head: str, task: str) -> None:
    assert with_head(f"ultralytics.nn.tasks.{model}", f"ultralytics.nn.modules.head.{head}", STRIDE).task == task
