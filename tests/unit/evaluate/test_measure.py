"""What all measures share."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.evaluate.measure import Detail, Measure, difference
from yoloship.evaluate.measures import MEASURES


def test_a_difference_is_told_by_its_mean_and_its_largest() -> None:
    found = difference("distance", "px", [np.array([1.0, 2.0]), np.array([]), np.array([6.0])])
    assert found == Detail("distance", "px", 3.0, 6.0)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_measure_says_what_it_counts(measure: Measure) -> None:
    assert all(measure.counted)
    assert measure.counted[0] != measure.counted[1]
    assert measure.title
    assert measure.agreed.endswith((" to", " on"))
    assert measure.figure in {"map50_95", "top1"}
