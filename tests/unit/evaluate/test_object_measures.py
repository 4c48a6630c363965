"""How objects are compared: by boxes, masks, keypoints and oriented boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.evaluate.coco import Truth
from yoloship.evaluate.measure import Comparison
from yoloship.evaluate.measures import MEASURES
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

HW = (100, 100)
BOX = np.array([[20, 20, 80, 80]], np.float32)


def found(score: float = 0.9, box: Any = BOX, **extras: Any) -> Detections:
    one = (np.array(box, np.float32), np.array([score], np.float32), np.array([0], np.int32))
    return Detections(*one, ("a", "b"), HW, **extras)


def masks(columns: int) -> Masks:
    whole = np.zeros((1, *HW), bool)
    whole[0, 20:80, 20 : 20 + columns] = True
    return Masks.from_array(whole)


def compared(first: Detections, second: Detections) -> Comparison:
    return MEASURES[first.task].compare([first], [second], 0.25)


def test_boxes_alone_have_no_details() -> None:
    result = compared(found(), found(score=0.8))
    assert (result.ious, result.details) == ((1.0,), ())
    assert result.scores[0] == pytest.approx((0.9, 0.8))


def test_masks_are_compared_beside_their_boxes() -> None:
    result = compared(found(masks=masks(60)), found(masks=masks(45), box=[[20, 20, 65, 80]]))
    assert result.ious == pytest.approx((0.75,))
    (boxes,) = result.details
    assert (boxes.name, boxes.limit) == ("box IoU", "iou")
    assert boxes.mean == pytest.approx(0.75)


def test_a_mask_that_is_lost_is_an_object_that_is_lost() -> None:
    result = compared(found(masks=masks(60)), found(masks=masks(20)))
    assert result.ious == ()
    assert result.agreement.share == 0


def test_boxes_in_the_padding_cannot_overlap_and_are_left_out() -> None:
    outside = [[20, 0, 80, 0]]
    result = compared(found(masks=masks(60), box=outside), found(masks=masks(60), box=[[21, 0, 80, 0]]))
    assert (result.ious, result.details) == ((1.0,), ())


def test_keypoints_are_compared_by_distance_and_visibility() -> None:
    points = np.array([[[30, 30, 0.9], [60, 60, 0.2]]], np.float32)
    moved = np.array([[[33, 34, 0.8], [99, 99, 0.3]]], np.float32)
    distance, visibility, boxes = compared(found(keypoints=points), found(keypoints=moved)).details
    assert (distance.name, distance.unit, distance.worst) == ("keypoint distance", "px", 5.0)
    assert visibility.worst == pytest.approx(0.1)
    assert boxes.mean == 1
    names = [one.name for one in compared(found(keypoints=points[..., :2]), found(keypoints=points[..., :2])).details]
    assert names == ["keypoint distance", "box IoU"]


@pytest.mark.parametrize(
    ("other", "want"),
    [
        ([52, 50, 60, 30, 0.3], (2, 0, 0)),
        ([50, 50, 30, 62, 0.3 + np.pi / 2], (0, 2, 0)),
        ([50, 50, 60, 30, 0.3 - np.pi], (0, 0, 0)),
        ([50, 50, 30, 60, 0.35 - np.pi / 2], (0, 0, np.degrees(0.05))),
    ],
)
def test_oriented_boxes_are_compared_in_pixels_and_degrees(other: list[float], want: tuple[float, ...]) -> None:
    box = np.array([[50, 50, 60, 30, 0.3]], np.float32)
    details = compared(found(boxes_xywhr=box), found(boxes_xywhr=np.array([other], np.float32))).details
    assert [one.unit for one in details] == ["px", "px", "°"]
    assert [one.worst for one in details] == pytest.approx(want, abs=1e-4)


def test_each_task_is_judged_by_its_own_precision() -> None:
    pytest.importorskip("pycocotools")
    square = np.array([[20.0, 20], [80, 20], [80, 80], [20, 80]])
    truth = Truth(BOX, np.array([0]), polygons=(square,))
    for columns, want in ((60, 1.0), (43, 0.5)):
        figures = MEASURES["segment"].figures([found(masks=masks(columns))], [truth], ("a", "b"))
        assert figures == {"map50_95": pytest.approx(want)}
