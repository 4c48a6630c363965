"""Accuracy, and what belongs to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yoloship.datasets.dataset import Dataset, Sample
from yoloship.errors import InputError
from yoloship.validate.choices import ValOptions
from yoloship.validate.classification import judge_classes

NAMES = tuple("abcdefg")
DATA = Dataset("kinds", "folders", "classify", NAMES, ())


def image(name: str, class_id: int) -> Sample:
    return Sample(Path(name), name, (10, 10), None, class_id)


def probabilities(*best: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Descending for these classes, from 0.5 by halves."""
    made = np.full(len(NAMES), 0.001, np.float32)
    for place, class_id in enumerate(best):
        made[class_id] = 0.5 / 2**place
    return made


def test_top_1_and_top_5_and_the_classes() -> None:
    samples = [image("1.jpg", 0), image("2.jpg", 0), image("3.jpg", 1), image("4.jpg", 6)]
    rows = [probabilities(0), probabilities(1, 2, 3, 4, 0), probabilities(1), probabilities(1, 2, 3, 4, 5)]
    one = judge_classes(samples, rows, DATA, ValOptions())
    assert (one.top1, one.top5, one.metric) == (0.5, 0.75, "top1")
    assert (one.map50, one.map50_95) == (None, None)
    assert one.precision == pytest.approx((1 + 1 / 3) / 3)
    assert one.recall == pytest.approx(0.5)
    assert one.confusion is not None
    assert one.confusion[1].tolist() == [1, 1, 0, 0, 0, 0, 1, 0]
    a, b, g = one.classes
    assert (a.name, a.recall, a.precision) == ("a", 0.5, 1)
    assert (b.name, b.recall) == ("b", 1)
    assert b.precision == pytest.approx(1 / 3)
    assert (g.recall, g.precision, g.f1) == (0, None, 0)
    assert [(image_.name, image_.remark) for image_ in one.worst] == [
        ("2.jpg", "b 0.50, is a (0.03)"), ("4.jpg", "b 0.50, is g (0.00)"),
    ]  # fmt: skip
    assert [item.detections for item in one.calibration] == [4]
    json.dumps(one.to_dict())


def test_without_images_there_is_no_accuracy() -> None:
    with pytest.raises(InputError, match="no image has a class"):
        judge_classes([], [], DATA, ValOptions())
