from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.validate.yolov5.matching import IOUS, best_labels, correct, ious

Boxes: TypeAlias = Sequence[tuple[float, float, float, float]]


def boxes(*rows: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def right(found: Boxes, labels: Boxes, class_ids: Sequence[int] = (0, 0)) -> list[int]:
    """At how many of the ten thresholds each detection is right; all labels are of class 0."""
    ids = np.array(class_ids[: len(found)])
    return [int(count) for count in correct(boxes(*found), ids, boxes(*labels), np.zeros(len(labels), int)).sum(axis=1)]


def test_the_thresholds_are_those_of_torch() -> None:
    assert IOUS.dtype == np.float32
    np.testing.assert_allclose(IOUS, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95], rtol=1e-7)
    assert IOUS[5] == 0.75


def test_ious_have_a_small_number_below() -> None:
    shares = ious(boxes((0, 0, 2, 2), (5, 5, 5, 5)), boxes((1, 0, 3, 2), (5, 5, 5, 5)))
    assert shares.tolist() == [[pytest.approx(2 / 6), 0], [0, 0]]


def test_an_equal_box_is_right_at_every_threshold_and_one_of_another_class_at_none() -> None:
    assert right([(0, 0, 10, 10)], [(0, 0, 10, 10)]) == [10]
    assert right([(0, 0, 10, 10)], [(0, 0, 10, 10)], [1]) == [0]


def test_of_two_detections_the_one_with_the_higher_score_finds_the_label_at_the_thresholds_it_reaches() -> None:
    """The first has the higher score and an IoU of 0.72. Below that, it shuts out the second, which fits better."""
    assert right([(0, 0, 10, 7.2), (0, 0, 10, 10)], [(0, 0, 10, 10)]) == [5, 5]


def test_a_detection_has_no_second_choice() -> None:
    """Both overlap the first label most. The second would reach the other label too, and does not get it."""
    labels = [(0.0, 0.0, 10.0, 10.0), (0.0, 3.0, 10.0, 13.0)]
    assert right([(0, 0, 10, 10), (0, 1, 10, 11)], labels) == [10, 0]


def test_of_two_labels_at_the_same_distance_the_later_one_is_taken() -> None:
    assert best_labels(np.array([[0.7, 0.1], [0.7, 0.3], [0.2, 0.3]], np.float32)).tolist() == [1, 2]


def test_nothing_gives_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert correct(boxes(), none, boxes((0, 0, 1, 1)), np.array([0])).shape == (0, 10)
    assert not correct(boxes((0, 0, 1, 1)), np.array([0]), boxes(), none).any()
