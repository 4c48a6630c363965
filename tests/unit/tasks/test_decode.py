from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.models import ANCHORS, STRIDES, info, random_heads
from yoloship._util.bfloat16 import BFLOAT16, to_float32
from yoloship.errors import SessionError
from yoloship.tasks import form_of
from yoloship.tasks.decode import Candidates, heads_candidates, heads_to_raw, raw_candidates

if TYPE_CHECKING:
    from yoloship.model import ModelInfo

HW = (64, 96)


def decode(outputs: Any, record: ModelInfo, input_hw: tuple[int, int], score_threshold: float) -> list[Candidates]:
    return form_of(record, "model").decode(outputs, record, input_hw, score_threshold)


def assert_same(first: Candidates, second: Candidates) -> None:
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.class_ids, second.class_ids)


def test_the_reference_decodes_a_cell_as_the_formula_says() -> None:
    heads = [
        np.zeros((1, 24, 8, 12), np.float32),
        np.zeros((1, 24, 4, 6), np.float32),
        np.zeros((1, 24, 2, 3), np.float32),
    ]
    heads[1][0, 8:16, 2, 5] = [1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 3.0, 0.0]  # anchor 1, row 2, column 5
    raw = heads_to_raw(heads, STRIDES, ANCHORS)
    assert raw.shape == (1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 8)

    def sigma(t: float) -> float:
        return float(1 / (1 + np.exp(-t)))

    row = raw[0, 3 * 96 + 24 + 2 * 6 + 5]
    want = [
        (2 * sigma(1.0) - 0.5 + 5) * 16,
        (2 * sigma(-1.0) - 0.5 + 2) * 16,
        (2 * sigma(0.5)) ** 2 * 62,
        (2 * sigma(-0.5)) ** 2 * 45,
        sigma(2.0),
        sigma(-3.0),
        sigma(3.0),
        0.5,
    ]
    np.testing.assert_allclose(row, want, rtol=1e-5)
    (found,) = decode([raw], info("raw"), HW, 0.7)
    assert found.class_ids.tolist() == [1]
    np.testing.assert_allclose(found.scores, sigma(2.0) * sigma(3.0), rtol=1e-6)
    cx, cy, w, h = want[:4]
    np.testing.assert_allclose(found.boxes_xyxy, [[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]], rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.001, 0.25, 0.5, 0.9, 0.9998, 0.99995, 1.0])
@pytest.mark.parametrize("mean", [-6.0, -1.0, 5.0])
def test_looking_at_the_objectness_first_changes_nothing(threshold: float, mean: float) -> None:
    heads = random_heads(1, HW, mean=mean)
    raw = heads_to_raw(heads, STRIDES, ANCHORS)
    fast = heads_candidates([head[0] for head in heads], STRIDES, ANCHORS, threshold)
    assert_same(fast, raw_candidates(raw[0], threshold))


@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_maps_in_bfloat16_whose_channels_lie_last_are_decoded_as_their_float32_planes(threshold: float) -> None:
    bits, planes = [], []
    for head in random_heads(5, HW, batch=2, mean=0.0):
        last = np.ascontiguousarray(head.transpose(0, 2, 3, 1)).view(np.uint32)
        bits.append((last >> 16).astype(np.uint16).view(BFLOAT16).transpose(0, 3, 1, 2))
        planes.append(to_float32(bits[-1]))
    found, wanted = decode(bits, info(), HW, threshold), decode(planes, info(), HW, threshold)
    assert len(found[0]) > 0
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


def test_every_score_in_turn_as_the_threshold_changes_nothing() -> None:
    heads = random_heads(2, HW, mean=0.0)
    raw = heads_to_raw(heads, STRIDES, ANCHORS)[0]
    for threshold in np.concatenate([raw[:300, 4], (raw[:300, 4:5] * raw[:300, 5:]).ravel()[:300]]).tolist():
        fast = heads_candidates([head[0] for head in heads], STRIDES, ANCHORS, threshold)
        assert_same(fast, raw_candidates(raw, threshold))


def test_a_score_at_the_threshold_is_dropped() -> None:
    raw = np.array([[5, 5, 2, 2, 1.0, 0.5], [5, 5, 2, 2, 0.5, 1.0], [5, 5, 2, 2, 1.0, 0.50001]], np.float32)
    assert raw_candidates(raw, 0.5).scores.tolist() == [np.float32(0.50001)]


def test_saturated_classes_are_a_tie_that_the_lower_id_wins() -> None:
    heads = [np.full((24, 1, 1), -20, np.float32) for _ in STRIDES]
    heads[0][0:8, 0, 0] = [0, 0, 0, 0, 30, -5, 40, 90]
    found = heads_candidates(heads, STRIDES, ANCHORS, 0.25)
    assert found.class_ids.tolist() == [1]
    assert found.scores.tolist() == [1.0]


def test_numbers_that_are_none_are_no_candidates() -> None:
    raw = np.full((4, 8), 0.9, np.float32)
    raw[0, 4] = raw[1, 6] = np.nan
    raw[2, 4:] = -np.inf
    assert len(raw_candidates(raw, 0.25)) == 1
    heads = [np.full((24, 2, 2), np.nan, np.float32) for _ in STRIDES]
    assert len(heads_candidates(heads, STRIDES, ANCHORS, 0.25)) == 0


def test_every_image_of_a_batch_is_decoded() -> None:
    heads = random_heads(3, HW, batch=3, mean=0.0)
    found = decode(heads, info(), HW, 0.5)
    assert len(found) == 3
    for row in range(3):
        assert len(found[row])
        assert_same(found[row], heads_candidates([head[row] for head in heads], STRIDES, ANCHORS, 0.5))


def test_compact_outputs_are_filtered() -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    scores = np.array([[0.9, 0.25, np.nan]], np.float32)
    (found,) = decode([boxes, scores, np.array([[2, 1, 77]], np.int32)], info("compact"), HW, 0.25)
    assert_same(found, Candidates(boxes[0, :1], scores[0, :1], np.array([2], np.int32)))


@pytest.mark.parametrize(("exact", "complete"), [(1, True), (0, True), (-1, False)])
def test_a_graph_that_suppresses_says_whether_it_has_looked_at_all_candidates(exact: int, complete: bool) -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    scores, class_ids = np.array([[0.9, 0.8, 0]], np.float32), np.array([[2, 1, -1]], np.int32)
    outputs = [boxes, scores, class_ids, np.array([2], np.int32), np.array([exact], np.int32)]
    (found,) = decode(outputs, info("nms"), HW, 0.25)
    assert_same(found, Candidates(boxes[0, :2], scores[0, :2], class_ids[0, :2]))
    assert found.complete is found.take(np.array([0])).complete is complete
    assert decode(outputs, info("nms"), HW, 0.85)[0].complete  # one that was looked at is below


def test_half_precision_outputs_are_widened() -> None:
    heads = [head.astype(np.float16) for head in random_heads(4, HW, mean=0.0)]
    (found,) = decode(heads, info(), HW, 0.5)
    (want,) = decode([head.astype(np.float32) for head in heads], info(), HW, 0.5)
    assert_same(found, want)


def test_outputs_in_another_form_than_promised_are_refused() -> None:
    heads = random_heads(5, HW)
    raw = np.zeros((1, 9, 8), np.float32)
    cases: list[tuple[Any, ModelInfo, str]] = [
        (heads[:2], info(), "wrong number of outputs: expected 3, got 2"),
        (
            [heads[1], *heads[1:]],
            info(),
            r"head0: .* expected \(B, 24, 8, 12\), got float32\(1, 24, 4, 6\)",
        ),
        ([heads[0], heads[1], heads[2][:0]], info(), "head2"),
        ([head.astype(np.int32) for head in heads], info(), r"head0: .* expected floats"),
        ([raw[0]], info("raw"), r"output: .* expected \(B, N, 8\), got float32\(9, 8\)"),
        ([raw[..., :7]], info("raw"), "output"),
        ([raw, raw[..., 0], raw[..., 1]], info("compact"), "boxes_xyxy"),
        ([raw[..., :4], raw[..., 0], raw[..., 1]], info("compact"), r"class_ids: .* expected integers"),
        ([raw[..., :4], raw[..., 0] + 1, np.full((1, 9), 3)], info("compact"), "a class id outside"),
        ([raw], info("nms"), "wrong number of outputs: expected 5"),
        (
            [raw[..., :4], raw[..., 0], np.zeros((1, 9), int), np.zeros(1, int), np.zeros(2, int)],
            info("nms"),
            r"exact: .* expected \(1,\)",
        ),
    ]
    for outputs, record, words in cases:
        with pytest.raises(SessionError, match=words):
            decode(outputs, record, HW, 0.25)
