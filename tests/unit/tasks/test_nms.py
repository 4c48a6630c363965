from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from yoloship.tasks.nms import nms, nms_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

pytestmark = pytest.mark.parametrize("suppress", [nms, nms_reference])


def kept(
    suppress: Callable[..., npt.NDArray[np.int64]],
    boxes: list[list[float]],
    scores: list[float],
    groups: list[int] | None = None,
    iou: float = 0.5,
    most: int = 300,
) -> list[int]:
    indices: list[int] = suppress(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(groups or [0] * len(scores), np.int32),
        iou_threshold=iou,
        max_detections=most,
    ).tolist()
    return indices


A, SHIFTED, FAR = [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def test_the_better_of_two_overlapping_boxes_stays(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    assert kept(suppress, [A, SHIFTED, FAR], [0.5, 0.9, 0.7]) == [1, 2]


def test_of_equal_scores_the_lower_index_stays(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    assert kept(suppress, [A, SHIFTED, A], [0.5, 0.5, 0.5]) == [0]


def test_other_groups_do_not_meet(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    assert kept(suppress, [A, A, A], [0.5, 0.6, 0.7], [0, 1, 0]) == [2, 1]


def test_an_iou_at_the_threshold_stays(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    half = [0.0, 0.0, 5.0, 10.0]
    assert kept(suppress, [A, half], [0.9, 0.8], iou=0.5) == [0, 1]
    assert kept(suppress, [A, half], [0.9, 0.8], iou=0.4999) == [0]


def test_a_box_that_is_gone_suppresses_nothing(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    chain = [[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]]
    assert kept(suppress, chain, [0.9, 0.8, 0.7], iou=0.4) == [0, 2]


def test_no_more_than_the_most_are_kept(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    boxes = [[i * 20.0, 0.0, i * 20.0 + 10, 10.0] for i in range(400)]
    scores = np.linspace(0.1, 0.9, 400).tolist()
    assert kept(suppress, boxes, scores, most=5) == [399, 398, 397, 396, 395]
    assert len(kept(suppress, boxes, scores, most=350)) == 350


def test_nothing_in_nothing_out(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    assert kept(suppress, [], []) == []


def test_candidates_that_are_no_numbers_are_never_kept(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    nan, inf = float("nan"), float("inf")
    assert kept(suppress, [A, [nan, 0, 1, 1], [0, 0, inf, 1], SHIFTED], [nan, 0.9, 0.8, 0.1]) == [3]


def test_boxes_without_area_neither_suppress_nor_go(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    dot, inside_out = [5.0, 5.0, 5.0, 5.0], [10.0, 10.0, 0.0, 0.0]
    assert kept(suppress, [dot, dot, inside_out, A], [0.9, 0.8, 0.7, 0.6], iou=0.0) == [0, 1, 2, 3]


def test_huge_boxes_do_no_harm(suppress: Callable[..., npt.NDArray[np.int64]]) -> None:
    huge = [-3e38, -3e38, 3e38, 3e38]
    assert kept(suppress, [huge, huge, A], [0.9, 0.8, 0.7]) == [0, 1, 2]
