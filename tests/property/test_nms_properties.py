"""The fast suppression against the plain one, on thousands of random cases that are full of ties."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.tasks.nms import nms, nms_reference

ODD = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, 0.0], np.float32)


def case(rng: np.random.Generator, count: int) -> dict[str, object]:
    """Boxes on a coarse lattice with few distinct scores, so that ties in score and in IoU abound."""
    corner = rng.integers(0, 12, (count, 2)) * 4
    size = rng.integers(0, 6, (count, 2)) * 4
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    if rng.random() < 0.5:
        boxes += rng.normal(0, 0.5, boxes.shape).astype(np.float32)
    scores = (rng.integers(1, rng.integers(2, 40), count) / 40).astype(np.float32)
    if rng.random() < 0.2 and count:
        boxes[rng.integers(count), rng.integers(4)] = rng.choice(ODD)
        scores[rng.integers(count)] = rng.choice(ODD)
    return {
        "boxes_xyxy": boxes,
        "scores": scores,
        "group_ids": rng.integers(0, rng.integers(1, 5), count).astype(np.int32),
        "iou_threshold": float(rng.choice([0.0, 0.25, 1 / 3, 0.45, 0.5, 0.6, 1.0])),
        "max_detections": int(rng.choice([1, 3, 20, 300])),
    }


@pytest.mark.parametrize("seed", range(4))
def test_five_hundred_small_cases_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(500):
        given_case = case(rng, int(rng.integers(0, 24)))
        np.testing.assert_array_equal(nms(**given_case), nms_reference(**given_case), err_msg=str(given_case))  # type: ignore[arg-type]  # one dict for both


def test_cases_larger_than_a_block_agree() -> None:
    rng = np.random.default_rng(99)
    for count in (255, 256, 257, 600):
        given_case = case(rng, count)
        np.testing.assert_array_equal(nms(**given_case), nms_reference(**given_case))  # type: ignore[arg-type]  # one dict for both


def hard_case(rng: np.random.Generator, count: int) -> dict[str, object]:
    """Boxes of very different sizes, places and groups, some of them equal or nearly so."""
    centre = rng.random((count, 2)) * rng.choice([1.0, 100.0, 1e6])
    size = np.exp(rng.normal(0, rng.choice([0.05, 1.0, 4.0]), (count, 2))) * rng.choice([1e-25, 0.1, 20.0, 1e12])
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    if count > 4:
        again = rng.integers(0, count, count // 3)
        boxes[rng.integers(0, count, count // 3)] = boxes[again] * np.float32(1 + rng.choice([0, 1e-7, 1e-3]))
        boxes[rng.integers(count), rng.integers(4)] = rng.choice(ODD)
    return {
        "boxes_xyxy": boxes,
        "scores": rng.integers(1, 60, count).astype(np.float32) / 60,
        "group_ids": rng.integers(0, rng.integers(1, 40), count).astype(np.int32),
        "iou_threshold": float(rng.choice([0.0, 0.1, 0.45, 0.7, 0.95, 1.0])),
        "max_detections": int(rng.choice([5, 10_000])),
    }


@pytest.mark.parametrize("seed", range(4))
def test_looking_for_near_boxes_gives_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What serves many kept boxes, made to serve few, so that the plain one can be asked."""
    monkeypatch.setattr(sys.modules[nms.__module__], "_MANY", 2)
    monkeypatch.setattr(sys.modules[nms.__module__], "_BLOCK", 7)
    monkeypatch.setattr("yoloship.tasks.nms.MAX_PAIRS", 5)
    rng = np.random.default_rng(seed)
    for index in range(150):
        given_case = (case if index % 2 else hard_case)(rng, int(rng.integers(0, 70)))
        np.testing.assert_array_equal(nms(**given_case), nms_reference(**given_case), err_msg=str(given_case))  # type: ignore[arg-type]  # one dict for both


def test_thousands_of_kept_boxes_are_those_of_the_block_by_block_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    centre, size = rng.random((6000, 2)) * 640, np.exp(rng.normal(2, 0.7, (6000, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    arguments = (boxes, rng.random(6000, dtype=np.float32), rng.integers(0, 3, 6000).astype(np.int32))
    kept = nms(*arguments, iou_threshold=0.45, max_detections=6000)
    assert len(kept) > 4000
    monkeypatch.setattr(sys.modules[nms.__module__], "_MANY", 10_000)
    np.testing.assert_array_equal(kept, nms(*arguments, iou_threshold=0.45, max_detections=6000))


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40))
def test_what_is_kept_is_sorted_and_does_not_overlap(seed: int, count: int) -> None:
    given_case = case(np.random.default_rng(seed), count)
    kept = nms(**given_case)  # type: ignore[arg-type]  # a dict of all arguments
    scores = np.asarray(given_case["scores"])[kept]
    assert (scores[:-1] >= scores[1:]).all()
    assert len(set(kept.tolist())) == len(kept)
