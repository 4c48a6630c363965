from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yoloship.validate.yolov5.suppression import candidates, suppressed


def rows(*values: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def test_every_class_above_the_threshold_is_a_candidate_of_its_own() -> None:
    boxes, scores, ids = candidates(rows((10, 20, 4, 6, 0.5, 0.8, 0.4, 0.001), (5, 5, 2, 2, 0.001, 1, 1, 1)), 3, 0.001)
    np.testing.assert_array_equal(boxes, [[8, 17, 12, 23]] * 2)
    np.testing.assert_allclose(scores, [0.4, 0.2])
    assert ids.tolist() == [0, 1]


def test_columns_behind_the_classes_are_ignored() -> None:
    _, scores, ids = candidates(rows((10, 20, 4, 6, 1, 0.1, 0.2, 9)), 2, 0.001)
    np.testing.assert_allclose(scores, [0.1, 0.2])
    assert ids.tolist() == [0, 1]


def test_classes_suppress_only_themselves_unless_they_are_one() -> None:
    found = candidates(rows((10, 10, 8, 8, 1, 0.9, 0.8), (10, 11, 8, 8, 1, 0.7, 0.95)), 2, 0.001)
    assert suppressed(found, iou_threshold=0.6, max_detections=300).tolist() == [3, 0]
    assert suppressed(found, iou_threshold=0.6, max_detections=300, per_class=False).tolist() == [3]
    assert suppressed(found, iou_threshold=0.6, max_detections=1).tolist() == [3]


def test_an_iou_is_compared_with_the_threshold_in_double_precision() -> None:
    """An IoU of exactly 0.6 in float32 is above 0.6 in float64, and the box goes."""
    found = (
        rows((0, 0, 10, 10), (0, 0, 10, 6)), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32),
    )  # fmt: skip
    assert suppressed(found, iou_threshold=0.6, max_detections=300).tolist() == [0]
    assert suppressed(found, iou_threshold=0.7, max_detections=300).tolist() == [0, 1]


def test_boxes_of_high_classes_lie_on_sixteenths_of_a_pixel() -> None:
    """7,680 px a class: at class 79 the offset leaves float32 four bits behind the point."""
    near = rows((0, 0, 10, 10), (0, 0, 10, 6.02))
    scores = np.array([0.9, 0.8], np.float32)
    low, high = ((near, scores, np.full(2, class_id, np.int32)) for class_id in (0, 79))
    assert suppressed(low, iou_threshold=0.601, max_detections=300).tolist() == [0]
    assert suppressed(high, iou_threshold=0.601, max_detections=300).tolist() == [0, 1]


def test_what_is_not_a_number_is_never_kept() -> None:
    found = candidates(rows((np.nan, 10, 8, 8, 1, 0.9), (10, 10, 8, 8, np.nan, 0.9), (10, 10, 8, 8, 1, 0.5)), 1, 0.001)
    assert found[1][suppressed(found, iou_threshold=0.6, max_detections=300)].tolist() == [0.5]
