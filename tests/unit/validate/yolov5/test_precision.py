from __future__ import annotations

import numpy as np
import pytest

from yoloship.validate.yolov5.precision import POINTS, Judged, precisions


def judged(right: list[int], scores: list[float], class_ids: list[int], label_ids: list[int]) -> Judged:
    """Detections that are right at every threshold or at none."""
    correct = np.repeat(np.array(right, bool)[:, None], 10, axis=1).reshape(-1, 10)
    return Judged(correct, np.array(scores, np.float32), np.array(class_ids, np.int64), np.array(label_ids, np.int64))


def test_a_perfect_answer_has_the_ap_that_the_ramp_to_zero_leaves() -> None:
    """The last of 101 recalls has precision 0, so the last trapezoid is half."""
    found = precisions(judged([1, 1], [0.9, 0.8], [0, 0], [0, 0]))
    np.testing.assert_allclose(found.ap, 0.995)
    assert found.labels.tolist() == [2]


def test_precision_falls_in_a_straight_line_to_the_point_one_zero() -> None:
    """One of two labels is found: precision 1 up to recall 0.5, then a line down to 0 at recall 1."""
    found = precisions(judged([1], [0.9], [0], [0, 0]))
    np.testing.assert_allclose(found.ap, 0.75, atol=1e-3)
    np.testing.assert_allclose(found.precision_at_recall[0, [0, 400, 749]], [1, 1, 0.5], atol=2e-3)


def test_a_class_without_labels_does_not_count_and_one_without_detections_counts_zero() -> None:
    found = precisions(judged([1, 0], [0.9, 0.8], [0, 5], [0, 2]))
    assert found.class_ids.tolist() == [0, 2]
    np.testing.assert_allclose(found.ap.mean(axis=1), [0.995, 0])


def test_one_threshold_for_all_classes_is_where_the_smoothed_mean_f1_is_best() -> None:
    found = precisions(judged([1, 1, 0], [0.9, 0.7, 0.5], [0, 1, 1], [0, 1]))
    assert found.best is not None
    threshold = found.best / (POINTS - 1)
    assert 0.5 < threshold <= 0.7
    np.testing.assert_allclose(found.f1[:, found.best], 1, atol=0.3)
    assert found.precision.shape == found.recall.shape == (2, POINTS)


def test_left_of_all_scores_recall_is_full_and_right_of_them_zero_with_precision_one() -> None:
    found = precisions(judged([1, 0], [0.8, 0.4], [0, 0], [0]))
    assert (found.recall[0, 0], found.precision[0, 0]) == (1, 0.5)
    assert (found.recall[0, -1], found.precision[0, -1]) == (0, 1)


@pytest.mark.parametrize("scores", [[], [0.9, 0.5]])
def test_without_anything_right_everything_is_zero(scores: list[float]) -> None:
    found = precisions(judged([0] * len(scores), scores, [0] * len(scores), [0, 1]))
    assert found.best is None
    assert not found.ap.any()
    assert not found.precision.any()
    assert found.class_ids.tolist() == [0, 1]


def test_images_are_joined_in_their_order() -> None:
    parts = [judged([1], [0.9], [0], [0]), judged([], [], [], [1]), judged([0], [0.3], [1], [])]
    whole = Judged.joined(parts)
    assert whole.correct[:, 0].tolist() == [True, False]
    assert whole.label_ids.tolist() == [0, 1]
    assert len(Judged.joined([]).scores) == 0
