"""COCO's twelve numbers from what its evaluator found: sizes, missing sizes, and what keypoints do not have."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.evaluate.coco import Scored, Truth
from yoloship.evaluate.evaluator import evaluate
from yoloship.validate.coco_numbers import coco_figures, mean_of, size_figures

SMALL, LARGE = [10.0, 10, 30, 30], [100.0, 100, 300, 300]


def seen(*boxes: list[float]) -> Scored:
    count = len(boxes)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    return Scored(np.array(boxes, np.float32).reshape(-1, 4), scores, np.zeros(count, np.int32), (400, 400))


def test_sizes_are_judged_apart_and_one_without_objects_has_no_number() -> None:
    truths = [Truth(np.array([SMALL, LARGE]), np.array([0, 0]))]
    found = evaluate([seen(LARGE)], truths, ("code",))
    figures = coco_figures(found)
    assert (figures.ap_small, figures.ap_medium) == (0, None)
    assert figures.ap_large == pytest.approx(1)
    assert (figures.ar1, figures.ar10, figures.ar) == (0.5, 0.5, 0.5)
    assert figures.ap == pytest.approx(51 / 101)  # recalls 0 to 0.50 of 101
    small, medium, large = size_figures(found, truths, "boxes")
    assert (small.labels, medium.labels, large.labels) == (1, 0, 1)
    assert (small.recall, medium.recall, large.recall) == (0, None, 1)
    assert (large.low_px2, large.high_px2) == (96**2, None)


def test_a_crowd_is_in_no_size() -> None:
    truths = [Truth(np.array([SMALL, LARGE]), np.array([0, 0]), crowd=np.array([False, True]))]
    found = evaluate([seen(LARGE, SMALL)], truths, ("code",))
    assert [size.labels for size in size_figures(found, truths, "boxes")] == [1, 0, 0]
    assert coco_figures(found).ap == pytest.approx(1)  # what is on the crowd is not wrong


def test_keypoints_have_ten_numbers() -> None:
    points = np.array([[[20.0, 20, 2], [28, 28, 2]]])
    truths = [Truth(np.array([LARGE]), np.array([0]), keypoints=points)]
    one = seen(LARGE)
    found = Scored(one.boxes_xyxy, one.scores, one.class_ids, one.image_hw, keypoints=points.astype(np.float32))
    figures = coco_figures(result := evaluate([found], truths, ("person",), "keypoints"))
    assert (figures.ap_small, figures.ar1, figures.ar10, figures.ar_small) == (None,) * 4
    assert [figures.ap, figures.ar, figures.ap_large] == pytest.approx([1, 1, 1])
    assert [size.name for size in size_figures(result, truths, "keypoints")] == ["medium", "large"]


def test_the_mean_of_nothing_is_no_number() -> None:
    assert mean_of(np.full((10, 3), -1.0)) is None
    assert mean_of(np.array([-1.0, 0.25, 0.75])) == 0.5
