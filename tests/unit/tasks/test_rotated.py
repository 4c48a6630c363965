from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.results.oriented import moments_of, pair_probious
from yoloship.tasks import rotated
from yoloship.tasks.rotated import rotated_nms, rotated_nms_reference

BOTH = pytest.mark.parametrize("suppress", [rotated_nms_reference, rotated_nms])


def kept(
    suppress: Any,
    boxes: Any,
    scores: Any,
    groups: Any = None,
    *,
    iou_threshold: float = 0.5,
    max_detections: int = 300,
) -> list[int]:
    groups = np.zeros(len(scores), np.int32) if groups is None else np.array(groups, np.int32)
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    found = suppress(
        rows, np.array(scores, np.float32), groups, iou_threshold=iou_threshold, max_detections=max_detections
    )
    return list(found.tolist())


@BOTH
def test_a_box_goes_if_a_better_one_overlaps_it_even_if_that_one_has_gone(suppress: Any) -> None:
    chain = [(100 + 8 * step, 100, 40, 40, 0.2) for step in range(4)]
    assert kept(suppress, chain, [0.9, 0.8, 0.7, 0.6]) == [0]  # a greedy suppression would keep the third


@BOTH
def test_boxes_meet_within_their_group_only_and_ties_go_to_the_lower_index(suppress: Any) -> None:
    same = [(50, 50, 40, 20, 0.3)] * 3
    assert kept(suppress, same, [0.5, 0.5, 0.5]) == [0]
    assert kept(suppress, same, [0.5, 0.5, 0.9], [1, 0, 1]) == [2, 1]


@BOTH
def test_an_overlap_equal_to_the_threshold_stays(suppress: Any) -> None:
    pair = np.array([(50, 50, 40, 20, 0.3), (54, 50, 40, 20, 0.5)], np.float32)
    moments = moments_of(pair)
    overlap = float(pair_probious(moments[:, 0], moments[:, 1]))
    assert kept(suppress, pair, [0.9, 0.8], iou_threshold=overlap) == [0, 1]
    assert kept(suppress, pair, [0.9, 0.8], iou_threshold=float(np.nextafter(np.float32(overlap), np.float32(0)))) == [
        0
    ]


@BOTH
def test_the_same_rectangle_with_sides_exchanged_and_a_quarter_turn_goes(suppress: Any) -> None:
    pair = [(50, 50, 40, 20, 0.3), (50, 50, 20, 40, 0.3 + np.pi / 2)]
    assert kept(suppress, pair, [0.9, 0.8], iou_threshold=0.99) == [0]


@BOTH
def test_broken_candidates_are_dropped_and_suppress_nothing(suppress: Any) -> None:
    rows = [(np.nan, 50, 40, 20, 0), (50, 50, 40, np.inf, 0), (50, 50, 40, 20, 0), (50, 50, 40, 20, 0)]
    assert kept(suppress, rows, [0.9, 0.8, np.nan, 0.5]) == [3]
    assert kept(suppress, [], []) == []


@BOTH
def test_only_the_best_are_kept(suppress: Any) -> None:
    apart = [(100 * step, 0, 10, 10, 0) for step in range(5)]
    assert kept(suppress, apart, [0.1, 0.5, 0.3, 0.2, 0.4], max_detections=2) == [1, 4]


def test_the_fast_form_gives_what_the_reference_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    for trial in range(60):
        monkeypatch.setattr(rotated, "_BLOCK", int(random.choice([4, 128])))
        count, size = int(random.integers(1, 40)), random.choice([1.0, 30.0, 3000.0])
        high = (200, 200, size, size * random.choice([1, 0.01]), 3)
        rows = np.float32(random.uniform((0, 0, 0, 0, -1), high, (count, 5)))
        rows[: count // (trial % 4 + 1)] = rows[0]
        scores, groups = np.round(random.random(count), 1), random.integers(0, 3, count)
        limits: dict[str, Any] = {
            "iou_threshold": float(random.choice([0, 0.1, 0.5, 0.7, 0.99, 0.9995, 1])),
            "max_detections": int(random.choice([3, 300])),
        }
        fast = kept(rotated_nms, rows, scores, groups, **limits)
        assert fast == kept(rotated_nms_reference, rows, scores, groups, **limits)
