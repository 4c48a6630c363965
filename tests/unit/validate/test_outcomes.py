"""Precision, recall and F1 at a score, from which detections are right."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, found
from yoloship.evaluate.evaluator import Match
from yoloship.validate.outcomes import Outcomes, f1_of, precision_and_recall


def outcomes() -> Outcomes:
    scored = [found([BOX, OTHER, FAR], [0.9, 0.5, 0.2], [0, 0, 1]), found([BOX], [0.7], [0])]
    matches = [
        Match(np.array([0, -1, -2]), np.array([0]), np.array([True])),
        Match(np.array([-1]), np.array([-1]), np.array([True])),
    ]
    return Outcomes.of(scored, matches, np.array([2, 1, 0]))


def test_detections_of_all_images_are_ordered_by_score_without_those_that_do_not_count() -> None:
    one = outcomes()
    assert one.scores == pytest.approx([0.9, 0.7, 0.5])
    assert one.right.tolist() == [True, False, False]
    assert not one.scores.flags.writeable
    assert len(NAMES) == len(one.labels)


def test_a_detection_counts_at_its_own_score() -> None:
    at = np.array([0.0, float(np.float32(0.7)), 0.71, 0.95])
    precision, recall = precision_and_recall(outcomes(), 0, at)
    np.testing.assert_allclose(precision, [1 / 3, 1 / 2, 1, np.nan])
    assert recall.tolist() == [0.5, 0.5, 0.5, 0]


def test_without_detections_there_is_no_precision_and_f1_is_zero() -> None:
    precision, recall = precision_and_recall(outcomes(), 1, np.array([0.1]))
    assert np.isnan(precision).all()
    assert f1_of(precision, recall).tolist() == [0]


def test_f1_is_the_harmonic_mean() -> None:
    assert f1_of(np.array([0.5, 0.0]), np.array([1.0, 0.0])).tolist() == pytest.approx([2 / 3, 0])
