"""Mean average precision of masks, keypoints and oriented boxes: known cases by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.coco import OverlapKind, Truth, mean_average_precision
from yoloship.evaluate.overlaps import oriented_ious
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

pytest.importorskip("pycocotools")

NAMES = ("cat", "dog")
HW = (100, 100)
SQUARE = np.array([[20.0, 20], [80, 20], [80, 80], [20, 80]])
BOX = np.array([[20.0, 20, 80, 80]])


def found(**extras: Any) -> Detections:
    one = (BOX.astype(np.float32), np.array([0.9], np.float32), np.array([0], np.int32))
    return Detections(*one, NAMES, HW, **extras)


def precision(result: Detections, truth: Truth, overlap: OverlapKind) -> float:
    return mean_average_precision([result], [truth], NAMES, overlap).map50_95


def masks(rows: int, columns: int) -> Masks:
    whole = np.zeros((1, *HW), bool)
    whole[0, 20 : 20 + rows, 20 : 20 + columns] = True
    return Masks.from_array(whole)


def test_masks_are_judged_by_their_pixels_and_not_by_their_boxes() -> None:
    truth = Truth(BOX, np.array([0]), polygons=(SQUARE,))
    assert precision(found(masks=masks(60, 60)), truth, "masks") == pytest.approx(1)
    part = precision(found(masks=masks(60, 43)), truth, "masks")  # IoU 0.72: five thresholds of ten
    assert part == pytest.approx(0.5)
    assert precision(found(masks=masks(60, 43)), truth, "boxes") == pytest.approx(1)


def test_keypoints_are_judged_by_those_that_are_labelled() -> None:
    points = np.array([[[30.0, 30, 2], [60, 60, 1], [0, 0, 0]]])
    truth = Truth(BOX, np.array([0]), keypoints=points)
    exact = np.array([[[30, 30], [60, 60], [99, 99]]], np.float32)
    assert precision(found(keypoints=exact), truth, "keypoints") == pytest.approx(1)
    moved = exact.copy()
    moved[0, 1] = 60 + 40, 60
    # Scale 0.53 · 60², and 1/3 for each of three points: exp(−1600 / (2 · 1908 · 4/9)) = 0.389, a mean of 0.695.
    assert precision(found(keypoints=moved), truth, "keypoints") == pytest.approx(0.4)
    seen = np.concatenate([moved, np.ones((1, 3, 1), np.float32)], axis=2)
    assert precision(found(keypoints=seen), truth, "keypoints") == pytest.approx(0.4)


def test_objects_without_a_labelled_keypoint_count_for_nothing() -> None:
    points = np.zeros((2, 3, 3))
    points[0] = [[30, 30, 2], [60, 60, 2], [70, 70, 2]]
    truth = Truth(np.tile(BOX, (2, 1)), np.array([0, 1]), keypoints=points)
    seen = found(keypoints=points[:1, :, :2].astype(np.float32))
    record = mean_average_precision([seen], [truth], NAMES, "keypoints")
    assert record.objects == 1
    assert record.map50_95 == pytest.approx(1)
    unlabelled = Truth(BOX, np.array([0]), keypoints=np.zeros((1, 3, 3)))
    with pytest.raises(InputError, match="no image has an object with labelled keypoints"):
        precision(found(keypoints=points[:1].astype(np.float32)), unlabelled, "keypoints")


def test_oriented_boxes_are_judged_by_their_probabilistic_iou() -> None:
    box = np.array([[50.0, 50, 60, 20, 0.3]])
    truth = Truth(BOX, np.array([0]), boxes_xywhr=box)
    assert precision(found(boxes_xywhr=box.astype(np.float32)), truth, "oriented") == pytest.approx(1)
    turned = np.array([[50, 50, 60, 20, 0.5]], np.float32)
    share = sum(oriented_ious(turned, box)[0, 0] >= step / 100 for step in range(50, 100, 5)) / 10
    assert 0 < share < 1
    assert precision(found(boxes_xywhr=turned), truth, "oriented") == pytest.approx(share)


def test_a_false_oriented_box_of_a_higher_score_costs_precision() -> None:
    box = np.array([[50, 50, 60, 20, 0.3], [50, 50, 60, 20, 1.9]], np.float32)
    both = Detections(
        np.tile(BOX, (2, 1)).astype(np.float32), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32), NAMES, HW,
        boxes_xywhr=box[::-1].copy(),
    )  # fmt: skip
    truth = Truth(BOX, np.array([0]), boxes_xywhr=box[:1].astype(np.float64))
    assert precision(both, truth, "oriented") == pytest.approx(0.5)


@pytest.mark.parametrize("overlap", ["masks", "keypoints", "oriented"])
def test_nothing_found_is_no_precision(overlap: OverlapKind) -> None:
    truth = Truth(
        BOX, np.array([0]), polygons=(SQUARE,), keypoints=np.ones((1, 3, 3)), boxes_xywhr=np.ones((1, 5))
    )  # fmt: skip
    assert precision(Detections.empty(HW, NAMES), truth, overlap) == 0
