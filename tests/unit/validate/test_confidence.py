"""The curves by confidence, and the confidence with the best mean F1."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, found, sample
from yoloship.evaluate.coco import Scored, Truth
from yoloship.evaluate.evaluator import evaluate
from yoloship.validate.confidence import best_confidence, curves_of
from yoloship.validate.outcomes import Outcomes
from yoloship.validate.record import Curves


def curves(scored: list[Scored], truths: list[Truth]) -> Curves:
    result = evaluate(scored, truths, NAMES)
    return curves_of(Outcomes.of(scored, result.matches(), result.objects), result)


def truth(*objects: tuple[list[float], int]) -> Truth:
    one = sample("a.jpg", [box for box, _ in objects], [class_id for _, class_id in objects]).truth
    assert one is not None
    return one


def test_the_best_confidence_leaves_out_what_is_wrong_and_keeps_what_is_right() -> None:
    made = curves([found([BOX, OTHER, FAR], [0.9, 0.6, 0.3], [0, 0, 0])], [truth((BOX, 0), (OTHER, 0))])
    best = best_confidence(made)
    assert best is not None
    assert 0.3 < best <= 0.6
    index = int(np.flatnonzero(made.confidences == best)[0])
    assert (made.precision[0, index], made.recall[0, index], made.f1[0, index]) == (1, 1, 1)
    assert made.precision[0, 0] == pytest.approx(2 / 3)
    assert made.recall[0, -1] == 0


def test_only_classes_with_objects_have_curves() -> None:
    made = curves([found([BOX, FAR], [0.9, 0.8], [0, 1])], [truth((BOX, 0), (OTHER, 2))])
    assert made.class_ids == (0, 2)
    assert made.precision.shape == made.f1.shape == (2, 1000)
    assert made.precision_at_recall.shape == (2, 101)
    assert made.precision_at_recall[0].min() == pytest.approx(1)
    assert made.precision_at_recall[1].max() == 0


def test_if_nothing_is_right_no_confidence_is_the_best() -> None:
    assert best_confidence(curves([found([FAR], [0.9], [0])], [truth((BOX, 0))])) is None
