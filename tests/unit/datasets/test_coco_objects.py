from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.datasets.coco_objects import Wanted, read_object, truth_of
from yoloship.errors import InputError
from yoloship.results.rle import compressed, run_lengths

HW = (6, 8)
BOX = {"bbox": [1, 2, 3, 4]}
PLAIN, SEGMENT, POSE = Wanted("boxes"), Wanted("masks"), Wanted("keypoints", 2)


def read(entry: dict[str, Any], wanted: Wanted = PLAIN) -> Any:
    return read_object({**BOX, **entry}, 1, HW, wanted, "f.json: annotations[0]")


def test_a_box_becomes_corners_and_its_area_is_its_own_unless_it_is_said() -> None:
    assert read({}).box_xyxy == (1, 2, 4, 6)
    assert read({}).area_px == 12
    assert read({"area": 5.5, "iscrowd": 1}).area_px == 5.5
    assert read({"iscrowd": 1}).is_crowd


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"bbox": None}, "bbox is not x, y, width, height"),
        ({"bbox": [1, 2, 3]}, "bbox is not"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox is not"),
        ({"bbox": [1, 2, 3, True]}, "bbox is not"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox is not"),
        ({"bbox": [1, 2, 3, 1e300]}, "bbox is not"),
        ({"bbox": [1, 2, 3, 10**400]}, "bbox is not"),
        ({"bbox": [1, 2, -3, 4]}, "bbox has a negative size"),
        ({"area": "5"}, "area is not a number"),
        ({"area": -1}, "area is not a number"),
        ({"iscrowd": 2}, "iscrowd is neither 0 nor 1"),
        ({"iscrowd": True}, "iscrowd is neither 0 nor 1"),
    ],
)
def test_a_field_that_is_wrong_is_refused_by_name(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=rf"f\.json: annotations\[0\]: {problem}"):
        read(entry)


def test_polygons_and_run_lengths_are_kept_as_they_are() -> None:
    polygons = [[0, 0, 4, 0, 4, 4], [1, 1, 2, 1, 2, 2, 1, 2]]
    assert read({"segmentation": polygons}, SEGMENT).segmentation == polygons
    runs = {"size": [6, 8], "counts": [10, 8, 30]}
    assert read({"segmentation": runs}, SEGMENT).segmentation == runs


def test_compressed_run_lengths_are_read_to_their_end() -> None:
    mask = np.random.default_rng(3).integers(0, 2, HW).astype(bool)
    text = compressed(run_lengths(mask, 0, 0, HW))
    runs = {"size": [6, 8], "counts": text}
    assert read({"segmentation": runs}, SEGMENT).segmentation == runs
    with pytest.raises(InputError, match="runs that do not fill the image"):
        read({"segmentation": {**runs, "counts": text[:-1]}}, SEGMENT)


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "has no segmentation"),
        ([], "has no segmentation"),
        ([[0, 0, 1, 1]], "not x, y of three points"),
        ([[0, 0, 9e6, 1, 0, 9e6]], "too long an outline: expected at most 2,000,000 pixels"),
        ([[0, 0, 1, 1, 2]], "not x, y of three points"),
        ([[0, 0, 1, 1, 2, None]], "not x, y of three points"),
        ([[0, 0, 1, 1, 2, float("inf")]], "not x, y of three points"),
        ({"size": [8, 6], "counts": [48]}, "is not of the image's size"),
        ({"size": [6, 8], "counts": [10, 8]}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": [10, 39]}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": [-1, 49]}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": [1 << 70, 48 - (1 << 70)]}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": "\x00"}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": "o" * 50}, "runs that do not fill the image"),
        ({"size": [6, 8], "counts": "é"}, "runs that do not fill the image"),
        ({"size": [6, 8]}, "runs that do not fill the image"),
    ],
)
def test_a_mask_that_does_not_fill_its_image_is_refused(segmentation: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read({"segmentation": segmentation}, SEGMENT)


def test_keypoints_are_those_of_the_model() -> None:
    found = read({"keypoints": [1, 2, 2, 0, 0, 0]}, POSE)
    assert found.keypoints == (1, 2, 2, 0, 0, 0)
    truth = truth_of([found, read({"iscrowd": 1}, POSE)], POSE, "f.json")
    assert truth.keypoints is not None
    np.testing.assert_array_equal(truth.keypoints, [[[1, 2, 2], [0, 0, 0]], np.zeros((2, 3))])


@pytest.mark.parametrize("points", [None, [1, 2, 2], [1, 2, 3, 0, 0, 0], [1, 2, 0.5, 0, 0, 0], [1, 2, 2, 0, 0, "0"]])
def test_other_keypoints_are_refused(points: object) -> None:
    with pytest.raises(InputError, match="does not have the model's keypoints: expected x, y, v for 2 points"):
        read({"keypoints": points}, POSE)


def test_the_truth_of_an_image_has_what_the_evaluator_needs() -> None:
    truth = truth_of([read({"area": 5}), read({"iscrowd": 1})], PLAIN, "f.json")
    assert truth.crowd is not None
    assert truth.areas_px is not None
    assert truth.crowd.tolist() == [False, True]
    assert truth.areas_px.tolist() == [5, 12]
    assert truth.segmentations is None
    assert truth_of([], PLAIN, "f.json").boxes_xyxy.shape == (0, 4)
