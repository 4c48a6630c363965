"""COCO's JSON forms of truth and detections, and what the evaluator keeps of a result."""

from __future__ import annotations

import json

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.coco import Scored, Truth, coco_dataset, coco_results
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

NAMES = ("cat", "dog", "owl")
BOX = np.array([[10.0, 10, 30, 30]])


def found(masks: Masks | None = None) -> Detections:
    one = (BOX.astype(np.float32), np.array([0.5], np.float32), np.array([1], np.int32))
    return Detections(*one, NAMES, (100, 120), masks=masks)


def test_truth_and_detections_are_plain_data_with_ids_from_one() -> None:
    assert coco_results([found()]) == [{"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.5}]
    dataset = json.loads(json.dumps(coco_dataset(["a.jpg"], [(100, 120)], [Truth(BOX, np.array([1]))], NAMES)))
    assert dataset["images"] == [{"id": 1, "file_name": "a.jpg", "width": 120, "height": 100}]
    assert dataset["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    ]
    assert dataset["categories"][2] == {"id": 3, "name": "owl"}


def test_a_crowd_an_area_and_a_shape_of_the_datasets_own_are_kept() -> None:
    shape = {"size": [100, 120], "counts": "abc"}
    truth = Truth(BOX, np.array([1]), crowd=np.array([True]), areas_px=np.array([77.5]), segmentations=(shape,))
    (one,) = coco_dataset(["a.jpg"], [(100, 120)], [truth], NAMES)["annotations"]
    assert (one["iscrowd"], one["area"], one["segmentation"]) == (1, 77.5, shape)


def test_only_what_is_compared_is_kept_of_a_result() -> None:
    whole = np.zeros((1, 100, 120), bool)
    whole[0, 10:30, 10:30] = True
    result = found(masks=Masks.from_array(whole))
    assert Scored.of(result, "boxes").masks is None
    (mask,) = Scored.of(result, "masks").masks or ()
    assert mask == result.masks.rle()[0] if result.masks else False
    assert len(Scored.of(Detections.empty((100, 120), NAMES), "masks")) == 0


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"labels/a\.txt: class 3: has no name: expected 0 to 2"):
        coco_dataset(["a.jpg"], [(100, 120)], [Truth(BOX, np.array([3]), "labels/a.txt")], NAMES)
