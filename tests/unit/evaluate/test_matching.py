from __future__ import annotations

import numpy as np
import pytest

from yoloship.evaluate.matching import Agreement, agree, agreement_over_ious, match
from yoloship.results.detections import Detections


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32), ("a", "b"), (100, 100))


def test_each_detection_has_one_partner_and_the_best_overlap_comes_first() -> None:
    first = detections((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
    second = detections((1, 0, 11, 10, 0.7, 0))
    found = match(first, second)
    assert found.pairs.tolist() == [[1, 0]]
    assert found.ious.tolist() == [1.0]


def test_boxes_of_other_classes_or_little_overlap_are_no_pair() -> None:
    first = detections((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 1))
    assert match(first, detections((0, 0, 10, 10, 0.9, 1), (58, 50, 68, 60, 0.9, 1))).pairs.shape == (0, 2)
    assert match(detections(), first).pairs.shape == (0, 2)
    assert match(first, detections()).pairs.shape == (0, 2)


def test_a_score_on_the_other_side_of_the_threshold_is_no_disagreement() -> None:
    first = detections((0, 0, 10, 10, 0.26, 0), (50, 50, 60, 60, 0.9, 1))
    second = detections((0, 0, 10, 10, 0.24, 0))
    found = agree([first], [second], 0.25)
    assert found == Agreement(first_count=2, second_count=0, first_seen=1, second_seen=0)
    assert found.share == 0.5


@pytest.mark.parametrize(("counts", "share"), [((0, 0, 0, 0), 1.0), ((4, 4, 4, 4), 1.0), ((2, 2, 1, 0), 0.25)])
def test_the_share_counts_both_sides(counts: tuple[int, int, int, int], share: float) -> None:
    assert Agreement(*counts).share == share


@pytest.mark.parametrize(("width", "share"), [(10, 1.0), (9.7, 1.0), (9.2, 0.9), (7.6, 0.6), (5.2, 0.1), (4, 0.0)])
def test_boxes_that_fit_less_tightly_agree_at_fewer_overlaps(width: float, share: float) -> None:
    first, second = detections((0, 0, 10, 10, 0.9, 0)), detections((0, 0, width, 10, 0.9, 0))
    assert agreement_over_ious([first], [second], 0.25) == pytest.approx(share)
    assert agreement_over_ious([second], [first], 0.25) == pytest.approx(share)


def test_of_tight_agreement_lost_and_invented_boxes_take_their_part_and_none_at_all_is_full() -> None:
    pair = detections((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 1))
    one = detections((0, 0, 10, 10, 0.9, 0))
    assert agreement_over_ious([pair], [one], 0.25) == agreement_over_ious([one], [pair], 0.25) == pytest.approx(2 / 3)
    assert agreement_over_ious([detections()], [detections()], 0.25) == 1
    faint = detections((0, 0, 10, 10, 0.24, 0))
    assert agreement_over_ious([detections((0, 0, 10, 10, 0.26, 0))], [faint], 0.25) == 1
