"""The images with the most errors, and what is drawn on them."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, found, sample
from yoloship.evaluate.coco import Scored, Truth
from yoloship.evaluate.evaluator import Match, evaluate
from yoloship.validate.record import WorstImage
from yoloship.validate.worst import worst_images

SAMPLES = [
    sample("good.jpg", [BOX], [0]),
    sample("bad.jpg", [BOX, OTHER], [0, 1]),
    sample("worse.jpg", [BOX], [0]),
]
FOUND = [
    found([BOX], [0.9], [0]),
    found([BOX, OTHER], [0.8, 0.7], [0, 2]),
    found([FAR, OTHER], [0.9, 0.9], [0, 0]),
]


def worst(most: int = 10) -> tuple[WorstImage, ...]:
    truths = [one.truth for one in SAMPLES if one.truth is not None]
    matches = evaluate(FOUND, truths, NAMES).matches()
    return worst_images(SAMPLES, FOUND, truths, matches, NAMES, 0.5, most)


def test_the_image_with_the_most_errors_is_the_first_and_one_without_is_not_there() -> None:
    assert [(one.name, one.found, one.missed, one.invented) for one in worst()] == [
        ("worse.jpg", 0, 1, 2), ("bad.jpg", 1, 1, 1),
    ]  # fmt: skip
    assert [one.name for one in worst(1)] == ["worse.jpg"]


def test_marks_say_what_was_found_missed_and_invented() -> None:
    bad = worst()[1]
    assert [(mark.kind, mark.label) for mark in bad.marks] == [
        ("found", "cat 0.80"), ("missed", "dog"), ("invented", "owl 0.70, is dog"),
    ]  # fmt: skip
    assert bad.marks[0].outline_xy == ((10, 10), (30, 10), (30, 30), (10, 30))


def test_oriented_boxes_are_drawn_as_they_are_turned() -> None:
    box = np.array([[50.0, 50, 40, 20, np.pi / 2]])
    truth = Truth(np.array([[40.0, 30, 60, 70]]), np.array([0]), boxes_xywhr=box)
    none = Scored(
        np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), (100, 100),
        boxes_xywhr=np.empty((0, 5), np.float32),
    )  # fmt: skip
    match = Match(np.empty(0, np.int64), np.array([-1]), np.array([True]))
    (one,) = worst_images(SAMPLES[:1], [none], [truth], [match], NAMES, 0.5, 5)
    corners = sorted(one.marks[0].outline_xy)
    assert np.array(corners) == pytest.approx(np.array([[40, 30], [40, 70], [60, 30], [60, 70]]))
