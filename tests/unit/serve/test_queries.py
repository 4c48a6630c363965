"""Thresholds in the query of an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import yoloship
from helpers.serving import cat_model
from yoloship.errors import InputError
from yoloship.serve.queries import options_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yoloship.Detector]:
    with yoloship.load(cat_model(tmp_path_factory.mktemp("models")), score_threshold=0.3) as made:
        yield made


def test_nothing_takes_the_options_of_the_model(detector: yoloship.Detector) -> None:
    assert options_of([], detector) is None


def test_each_parameter_changes_its_option_and_the_others_stay(detector: yoloship.Detector) -> None:
    options = options_of([("iou", "0.6"), ("max_det", "7"), ("agnostic_nms", "true"), ("classes", "cat, 1")], detector)
    assert options == yoloship.DetectOptions(0.3, 0.6, 7, ("cat", "1"), True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conf", "nan"), ("conf", "inf"), ("conf", "-0.1"), ("conf", "1.1"), ("conf", ""), ("conf", "0x1"),
        ("iou", "1e999"), ("max_det", "0"), ("max_det", "1.5"), ("max_det", "9" * 20), ("max_det", "٣"),
        ("agnostic_nms", "yes"), ("classes", ""), ("classes", "cat,,dog"), ("classes", "2"), ("classes", "x" * 5000),
        ("Conf", "0.5"), ("__class__", "1"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(detector: yoloship.Detector, name: str, text: str) -> None:
    with pytest.raises(InputError):
        options_of([(name, text)], detector)
