"""A model over a dataset by the ordinary pipeline: what is left out, what is renamed, and what is written down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import yoloship
from helpers.models import finds_a_cat
from yoloship.datasets.dataset import Dataset, Sample
from yoloship.detect.detector import Detector
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.validate.choices import ValOptions
from yoloship.validate.running import validate

HW = (64, 96)
KINDS_MODEL = Path(yoloship.__file__).parent / "demo" / "kinds-resnet18.pt"
CAT = [20.0, 15, 40, 25]
"""What the model finds in every image."""


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector[Any]]:
    with yoloship.load(finds_a_cat(HW).SerializeToString()) as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """A cat, an image without objects, and a file that is no image."""
    boxes: tuple[list[list[float]], ...] = ([CAT], [], [CAT])
    names = ("cat.png", "empty.png", "broken.png")
    samples = []
    for name, own in zip(names, boxes, strict=True):
        path = tmp_path / name
        assert cv2.imwrite(str(path), np.zeros((*HW, 3), np.uint8))
        samples.append(Sample(path, name, HW, Truth(np.array(own).reshape(-1, 4), np.zeros(len(own), int))))
    (tmp_path / "broken.png").write_bytes(b"no image")
    return Dataset("zoo", "yolo", "detect", ("cat", "dog"), tuple(samples))


def test_images_that_can_be_read_are_judged_and_others_are_faults(detector: Detector[Any], data: Dataset) -> None:
    seen: list[tuple[str, float, float]] = []
    judged = validate(detector, data, on_progress=lambda *step: seen.append(step))
    one = judged.validation
    assert (one.images, one.labels, one.detections, one.left_out) == (2, 1, 2, 1)
    assert [(fault.path.name, fault.consequence) for fault in one.faults] == [("broken.png", "image left out")]
    assert one.map50 == pytest.approx(1)
    assert one.precision == 0.5  # it finds a cat in the empty image too
    assert seen[:3] == [("validating", done, 3) for done in (1, 2, 3)]
    assert [sample.name for sample in judged.samples] == ["cat.png", "empty.png"]
    assert len(judged.scored) == 2


def test_what_determines_the_numbers_is_written_down(detector: Detector[Any], data: Dataset) -> None:
    one = validate(detector, data).validation
    assert one.settings["input"] == "64×96"
    assert one.settings["preprocessing"] == "letterbox, bilinear (INTER_LINEAR), padded to the square"
    assert one.settings["score_threshold"] == 0.001
    assert one.settings["classes_of_a_box"] == "the best one"
    assert one.settings["evaluator"].startswith("hotcoco")
    assert {"read", "network"} <= set(one.speed_ms)
    assert all(spent > 0 for spent in one.speed_ms.values())
    assert one.versions["versions"]["numpy"]


def test_classes_are_renamed_to_those_of_the_dataset(detector: Detector[Any], data: Dataset) -> None:
    samples = tuple(
        replace(sample, truth=Truth(sample.truth.boxes_xyxy, sample.truth.class_ids + 1))
        for sample in data.samples
        if sample.truth is not None
    )
    turned = replace(data, class_names=("dog", "cat"), samples=samples)
    one = validate(detector, turned).validation
    assert one.map50 == pytest.approx(1)
    assert one.notes == ("classes are matched by name",)
    only_dogs = replace(turned, class_names=("dog",), samples=data.samples)
    assert validate(detector, only_dogs).validation.detections == 0  # a cat is not among its classes


def test_a_high_threshold_is_noted(detector: Detector[Any], data: Dataset) -> None:
    (note,) = validate(detector, data, ValOptions(score_threshold=0.25)).validation.notes
    assert "score_threshold (--conf) drops detections that score 0.25 or less" in note


def test_another_task_and_a_dataset_of_unreadable_images_are_refused(detector: Detector[Any], data: Dataset) -> None:
    with pytest.raises(InputError, match="is not of the dataset's task: expected pose, got detect"):
        validate(detector, replace(data, task="pose"))
    with pytest.raises(InputError, match="zoo: has no image that can be read"):
        validate(detector, replace(data, samples=data.samples[2:]))


def test_images_without_label_files_are_said(detector: Detector[Any], data: Dataset) -> None:
    found = validate(detector, replace(data, missing_labels=1)).validation
    assert "1 of 3 images have no label file, and count as images without objects" in found.notes


def test_what_is_for_objects_is_refused_with_a_classifier(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), np.zeros((*HW, 3), np.uint8))
    with yoloship.load(KINDS_MODEL, transform="torchvision-v1") as classifier:
        sample = Sample(path, "a.png", HW, class_id=0)
        dataset = Dataset("zoo", "folders", "classify", classifier.class_names, (sample,))
        for options, named in (
            (ValOptions(single_class=True), "single_class"),
            (ValOptions(score_threshold=0, iou_threshold=0.5), "score_threshold, iou_threshold"),
            (ValOptions(max_detections=3, confidence=0.0), "max_detections, confidence"),
        ):
            with pytest.raises(InputError, match=f"^{named}: has no effect for a classification model; leave it out"):
                validate(classifier, dataset, options)
