from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.datasets import write_image, write_text
from helpers.scenes import CLASS_NAMES, MODEL, held_out_scenes
from yoloship.datasets.dataset import Dataset, Sample
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.validate.yolov5 import Yolov5Options, run

OPTIONS = Yolov5Options(imgsz=320)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("scenes")
    samples = []
    for place, scene in enumerate(held_out_scenes()[:6]):
        path = folder / f"{place}.png"
        cv2.imwrite(str(path), scene.image[: 640 - 40 * place])
        truth = Truth(np.clip(scene.boxes_xyxy, 0, [640, 640 - 40 * place] * 2), scene.class_ids)
        samples.append(Sample(path, path.name, (640 - 40 * place, 640), truth))
    return Dataset("scenes", "yolo", "detect", CLASS_NAMES, tuple(samples))


def test_a_model_is_validated_and_what_it_found_is_in_the_order_of_the_samples(dataset: Dataset) -> None:
    validation, found = run(MODEL, dataset, OPTIONS)
    assert validation.map50 is not None
    assert validation.map50 > 0.5
    assert (validation.images, validation.labels) == (6, dataset.object_count)
    assert [one.sample for one in found] == list(dataset.samples)
    assert sum(len(one.result) for one in found) == validation.detections
    assert validation.settings["input"] == "rectangles of 320, in batches of 32"
    assert set(validation.speed_ms) == {"read", "network", "postprocess", "total"}
    assert validation.dataset == "scenes"


def test_squares_can_be_asked_for(dataset: Dataset) -> None:
    squares = run(MODEL, dataset, replace(OPTIONS, shapes="squares"))[0]
    assert (squares.settings["shapes"], squares.settings["input"]) == ("squares", "320×320")


def test_a_damaged_image_is_left_out_of_the_figures(dataset: Dataset, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", (64, 64))
    write_text(path, path.read_bytes()[:500])
    broken = Sample(path, "a.png", (64, 64), dataset.samples[0].truth)
    validation, found = run(MODEL, replace(dataset, samples=(*dataset.samples[:2], broken), left_out=3), OPTIONS)
    assert (validation.images, len(found), validation.left_out) == (2, 2, 4)
    assert [fault.path for fault in validation.faults] == [path]


def test_a_single_class_takes_a_dataset_of_other_classes(dataset: Dataset) -> None:
    other = replace(dataset, class_names=("a", "b", "c", "d"))
    with pytest.raises(InputError, match="has different classes from the model"):
        run(MODEL, other, OPTIONS)
    validation, found = run(MODEL, other, replace(OPTIONS, single_class=True))
    assert [one.name for one in validation.classes] == ["object"]
    assert validation.confusion is not None
    assert validation.confusion.shape == (2, 2)
    assert all(one.result.class_names == ("object",) for one in found)


def test_datasets_for_other_tasks_and_without_labels_are_refused(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="is for the task 'segment'; YOLOv5's rules are here for detection only"):
        run(MODEL, replace(dataset, task="segment"))
    blank = Sample(dataset.samples[0].path, "a", (640, 640), Truth(np.zeros((0, 4)), np.zeros(0, np.int64)))
    with pytest.raises(InputError, match="no image has a label"):
        run(MODEL, replace(dataset, samples=(blank,)))
