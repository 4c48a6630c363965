"""How classes are compared: known cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.class_measure import ClassMeasure
from yoloship.evaluate.coco import Truth
from yoloship.results.classification import Classification

NAMES = tuple("abcdefgh")
MEASURE = ClassMeasure()


def says(*order: int) -> Classification:
    """An answer whose most probable classes are these, in this order."""
    scores = np.full(len(NAMES), 0.01, np.float32)
    scores[list(order)] = np.linspace(0.3, 0.1, len(order))
    return Classification(scores, NAMES, (10, 20))


def truth(class_id: int) -> Truth:
    return Truth(np.zeros((1, 4)), np.array([class_id]))


def test_top_one_is_the_first_class_and_top_five_one_of_five() -> None:
    found = [says(0, 1, 2, 3, 4), says(1, 0, 2, 3, 4), says(1, 2, 3, 4, 0), says(1, 2, 3, 4, 5)]
    assert MEASURE.figures(found, [truth(0)] * 4, NAMES) == {"top1": 0.25, "top5": 0.75}


def test_results_and_truths_have_to_belong_together() -> None:
    with pytest.raises(InputError, match="results and truths differ in number: got 1 and 2"):
        MEASURE.figures([says(0)], [truth(0)] * 2, NAMES)
    with pytest.raises(InputError, match="class 8: has no name: expected 0 to 7"):
        MEASURE.figures([says(0)], [truth(8)], NAMES)


def test_models_agree_on_images_whose_first_class_is_the_same() -> None:
    first, second = [says(0, 1), says(2, 3)], [says(0, 3), says(3, 2)]
    compared = MEASURE.compare(first, second, 0.0)
    assert compared.agreement.share == MEASURE.agreement(first, second, 0.0) == 0.5
    np.testing.assert_allclose(compared.scores, [(0.3, 0.3), (0.3, 0.1)], rtol=1e-6)
    assert compared.details[0].worst == pytest.approx(0.2)
    assert dict(MEASURE.counts(compared.agreement, 0.0)) == {"classes": "1 of 2 images have the same top class"}
