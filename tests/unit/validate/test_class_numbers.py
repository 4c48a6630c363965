"""The figures of each class that has objects."""

from __future__ import annotations

import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, found, sample
from yoloship.evaluate.evaluator import evaluate
from yoloship.validate.class_numbers import class_figures
from yoloship.validate.outcomes import Outcomes


def test_each_class_with_objects_has_its_figures_and_no_other() -> None:
    samples = [sample("a.jpg", [BOX, OTHER], [0, 0]), sample("b.jpg", [BOX, FAR], [0, 2])]
    truths = [one.truth for one in samples if one.truth is not None]
    scored = [found([BOX, OTHER, FAR], [0.9, 0.8, 0.7], [0, 0, 0]), found([BOX, OTHER], [0.9, 0.6], [1, 0])]
    result = evaluate(scored, truths, NAMES)
    outcomes = Outcomes.of(scored, result.matches(), result.objects)
    cat, owl = class_figures(outcomes, result, truths, NAMES, "boxes", 0.5)
    assert (cat.class_id, cat.name, cat.images, cat.labels) == (0, "cat", 2, 3)
    assert cat.precision == 0.5
    assert cat.recall == pytest.approx(2 / 3)
    assert cat.f1 == pytest.approx(2 * 0.5 * 2 / 3 / (0.5 + 2 / 3))
    assert cat.ap50 == pytest.approx(67 / 101)  # recalls 0 to 0.66 of 101
    assert cat.ap50_95 == pytest.approx(sum(cat.ap_by_iou) / 10)
    assert (owl.name, owl.images, owl.labels, owl.precision, owl.recall, owl.ap50) == ("owl", 1, 1, None, 0, 0)
