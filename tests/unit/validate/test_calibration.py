"""Scores against the share that is right."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.validate.calibration import calibration_bins, expected_error


def test_answers_are_sorted_into_ranges_of_scores() -> None:
    scores = np.array([0.95, 0.91, 0.55, 0.5, 0.01])
    bins = calibration_bins(scores, np.array([True, False, True, True, False]))
    assert [(round(one.low, 1), round(one.high, 1), one.detections) for one in bins] == [
        (0.4, 0.5, 1), (0.5, 0.6, 1), (0.9, 1.0, 2),
    ]  # fmt: skip
    assert bins[-1].precision == 0.5
    assert bins[-1].mean_score == pytest.approx(0.93)


def test_the_expected_error_is_weighted_by_the_number_of_answers() -> None:
    scores = np.array([0.85] * 3 + [0.25])
    bins = calibration_bins(scores, np.array([True, True, False, False]))
    assert expected_error(bins) == pytest.approx((3 * abs(0.85 - 2 / 3) + 0.25) / 4)
    assert expected_error(()) is None


def test_without_a_lower_bound_every_answer_counts() -> None:
    bins = calibration_bins(np.array([0.0, 1.0]), np.array([False, True]), least=0.0)
    assert [one.detections for one in bins] == [1, 1]
    assert expected_error(bins) == 0
