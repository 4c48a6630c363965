from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.results.boxes import box_ious, pair_ious


def plain(one: Any, other: Any) -> float:
    """Intersection over union as it is defined, in Python's own numbers."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_iou_of_each_with_each_is_its_definition(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 20, (17, 2, 2)).astype(dtype)  # some have no area, some lie on others
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    first, second = boxes[:9], boxes[7:]
    found = box_ious(first, second)
    assert found.dtype == dtype
    assert found.shape == (9, 10)
    expected = [[plain(one, other) for other in second.tolist()] for one in first.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pairs_are_those_on_the_diagonal() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 4, 1]], np.float32)
    np.testing.assert_array_equal(pair_ious(boxes.T, boxes[::-1].T), np.diag(box_ious(boxes, boxes[::-1])))
    assert pair_ious(boxes[0], boxes[1]) == np.float32(1 / 7)


def test_a_box_turned_round_or_of_no_area_overlaps_nothing() -> None:
    whole = np.array([[0, 0, 10, 10]], np.float32)
    odd = np.array([[5, 5, 5, 8], [8, 8, 2, 2], [0, 0, 0, 0]], np.float32)
    assert box_ious(odd, whole).tolist() == [[0], [0], [0]]
    assert box_ious(odd, odd).tolist() == [[0] * 3] * 3


def test_no_boxes_have_no_ious_and_what_is_given_stays_as_it_is() -> None:
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    boxes.flags.writeable = False
    assert box_ious(boxes[:0], boxes).shape == (0, 1)
    assert box_ious(boxes, boxes).tolist() == [[1]]
