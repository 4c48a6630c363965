"""Decoding of heads without anchors: the fast way against the plain formula, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.options import DetectOptions
from yoloship.errors import SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.tasks.anchor_free import (
    ChannelRows,
    LevelMaps,
    check_heads,
    distances,
    end2end_candidates,
    heads_candidates,
    heads_cells,
    images_of,
    level_maps,
)
from yoloship.tasks.decode import sigmoid
from yoloship.tasks.detect import Detect
from yoloship.tasks.obb import Obb

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

NAMES = ("a", "b", "c")
HW = (64, 96)
INFO = ModelInfo("detect", "ultralytics", NAMES, (8, 16), (), "image", "heads", HW, 1)


def levels(reg_max: int, extra: int = 0, seed: int = 3) -> tuple[LevelMaps, ...]:
    rng = np.random.default_rng(seed)

    def values(channels: int, stride: int) -> Floats:
        return (3 * rng.standard_normal((channels, HW[0] // stride, HW[1] // stride))).astype(np.float32)

    return tuple(
        LevelMaps(values(4 * reg_max, s), values(3, s) - 2, values(extra, s) if extra else None, s) for s in (8, 16)
    )


def plain(maps: tuple[LevelMaps, ...], reg_max: int) -> tuple[Any, Any]:
    """Boxes (N, 4) in float64 and class scores (N, 3) of every cell."""
    boxes, scores = [], []
    for level in maps:
        height, width = level.classes.shape[1:]
        for row in range(height):
            for column in range(width):
                numbers = level.boxes[:, row, column].astype(np.float64).reshape(4, reg_max)
                share = np.exp(numbers - numbers.max(1, keepdims=True))
                sides = (share @ np.arange(reg_max)) / share.sum(1) if reg_max > 1 else numbers[:, 0]
                x, y = column + 0.5, row + 0.5
                corners = np.array([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
                boxes.append(corners * level.stride)
                scores.append(sigmoid(level.classes[:, row, column]))
    return np.array(boxes), np.array(scores)


@pytest.mark.parametrize("reg_max", [1, 16])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.9, 0.99995, 1.0])
def test_candidates_are_the_cells_whose_best_class_is_above_the_threshold(reg_max: int, threshold: float) -> None:
    maps = levels(reg_max)
    boxes, scores = plain(maps, reg_max)
    found = heads_candidates(maps, threshold)
    keep = scores.max(1) > np.float32(threshold)
    np.testing.assert_array_equal(found.scores, scores.max(1)[keep])
    np.testing.assert_array_equal(found.class_ids, scores.argmax(1)[keep])
    np.testing.assert_allclose(found.boxes_xyxy, boxes[keep], rtol=1e-4, atol=1e-3)
    assert (found.boxes_xyxy.dtype.name, found.class_ids.dtype.name, found.final) == ("float32", "int32", False)


def test_cells_are_all_of_them_in_their_order() -> None:
    maps = levels(16)
    boxes, scores = plain(maps, 16)
    found = heads_cells(maps)
    np.testing.assert_allclose(found[0], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found[1], scores.max(1))


def test_a_one_to_one_head_gives_pairs_of_a_cell_and_a_class_best_first() -> None:
    maps = levels(16)
    boxes, scores = plain(maps, 16)
    found = heads_candidates(maps, 0.25, one2one=True)
    pairs = np.argsort(-scores.ravel(), kind="stable")
    pairs = pairs[scores.ravel()[pairs] > 0.25]
    assert len(pairs) > (scores.max(1) > 0.25).sum(), "no cell has two classes, so that nothing is compared"
    np.testing.assert_array_equal(found.scores, scores.ravel()[pairs])
    np.testing.assert_array_equal(found.class_ids, pairs % 3)
    np.testing.assert_allclose(found.boxes_xyxy, boxes[pairs // 3], rtol=1e-4, atol=1e-3)
    assert found.final


def test_a_one_to_one_head_gives_at_most_300_of_the_300_best_cells() -> None:
    maps = (LevelMaps(np.zeros((4, 40, 40), np.float32), np.zeros((3, 40, 40), np.float32), None, 8),)
    rng = np.random.default_rng(1)
    maps[0].classes[:] = rng.standard_normal((3, 40, 40))
    found = heads_candidates(maps, 0.0, one2one=True)
    flat = maps[0].classes.reshape(3, -1)
    best = np.argsort(-flat.max(0), kind="stable")[:300]
    want = np.sort(sigmoid(flat[:, best]).ravel())[::-1][:300]
    np.testing.assert_array_equal(found.scores, want)


def test_further_columns_are_decoded_for_the_cells_that_pass_only() -> None:
    maps, seen = levels(16, extra=2), []

    def decode(raw: Floats, centres: Floats, strides: Floats) -> Floats:
        seen.append(len(raw))
        return (raw + centres) * strides

    found = heads_candidates(maps, 0.25, decode_extras=decode)
    assert seen == [len(found)]
    assert found.extras is not None
    want = []
    for level in maps:
        assert level.extras is not None
        passed = sigmoid(level.classes.max(0)) > np.float32(0.25)
        rows, columns = np.nonzero(passed)
        want.append((level.extras[:, rows, columns].T + np.stack([columns + 0.5, rows + 0.5], 1)) * level.stride)
    np.testing.assert_allclose(found.extras, np.concatenate(want), rtol=1e-5)


def test_further_columns_of_a_one_to_one_head_are_those_of_the_chosen_cells() -> None:
    maps = tuple(
        LevelMaps(level.boxes, level.classes, np.arange(level.classes[0].size, dtype=np.float32).reshape(1, h, w), s)
        for level in levels(1)
        for h, w, s in ((*level.classes.shape[1:], level.stride),)
    )
    found = heads_candidates(maps, 0.25, one2one=True)
    assert found.extras is not None
    cells = dict(zip(map(tuple, heads_cells(maps)[0].tolist()), [*range(96), *range(24)], strict=True))
    assert [cells[tuple(box)] for box in found.boxes_xyxy.tolist()] == found.extras[:, 0].astype(int).tolist()


def test_boxes_may_depend_on_further_columns() -> None:
    maps = levels(1, extra=1)

    def decode(sides: Floats, centres: Floats, strides: Floats, extras: Floats | None) -> Floats:
        assert extras is not None
        boxes: Floats = np.repeat(extras, 4, axis=1)
        return boxes

    found = heads_candidates(maps, 0.25, decode_boxes=decode)
    assert found.extras is not None
    np.testing.assert_array_equal(found.boxes_xyxy, np.repeat(found.extras, 4, axis=1))


def test_distances_of_extreme_numbers_are_finite() -> None:
    wild = np.array([[1e30, -1e30, 0, 5] * 4], np.float32)
    np.testing.assert_allclose(distances(wild), [[0, 0, 0, 0]])
    assert distances(np.empty((0, 64), np.float32)).shape == (0, 4)


def test_images_of_a_batch_are_views_of_the_maps() -> None:
    outputs = [np.random.default_rng(2).random((2, c, h, w), np.float32) for c, h, w in _shapes()]
    for row, image in enumerate(images_of(level_maps(outputs, INFO, HW))):
        assert np.shares_memory(image[0].boxes, outputs[0])
        np.testing.assert_array_equal(image[1].classes, outputs[3][row])


def _shapes() -> list[tuple[int, int, int]]:
    return [(64, 8, 12), (3, 8, 12), (64, 4, 6), (3, 4, 6)]


@pytest.mark.parametrize(
    ("place", "shape", "words"),
    [
        (0, (1, 63, 8, 12), r"box0: .* expected \(B, 4·reg_max, 8, 12\), got float32\(1, 63, 8, 12\)"),
        (1, (1, 4, 8, 12), r"class0: .* expected \(B, 3, 8, 12\)"),
        (2, (1, 64, 4, 7), "box1"),
        (3, (2, 3, 4, 6), "class1"),
        (3, (1, 3, 24), "class1"),
    ],
)
def test_maps_that_are_not_as_promised_are_refused(place: int, shape: tuple[int, ...], words: str) -> None:
    outputs = [np.zeros((1, *one), np.float32) for one in _shapes()]
    level_maps(outputs, INFO, HW)
    outputs[place] = np.zeros(shape, np.float32)
    with pytest.raises(SessionError, match=words):
        level_maps(outputs, INFO, HW)


def test_declared_maps_are_checked_and_open_extents_are_taken() -> None:
    good = [TensorSpec("x", "float32", (1, *shape)) for shape in _shapes()]
    check_heads(good, INFO, "m.onnx")
    check_heads([TensorSpec("x", "float32", ("b", "c", "h", "w"))] * 4, INFO, "m.onnx")
    for bad in (good[:3], [good[1], *good[1:]], [*good[:3], good[2]], [TensorSpec("x", "float32", (1, 64)), *good[1:]]):
        with pytest.raises(SessionError, match=r"contradicts its outputs: expected 4 maps"):
            check_heads(bad, INFO, "m.onnx")
    with pytest.raises(SessionError, match="expected 6 maps"):
        check_heads(good, replace(INFO, extra_columns=5), "m.onnx")


def test_rows_are_read_by_channel_and_further_columns_follow_the_classes() -> None:
    rows = np.array([[10, 20, 4, 6, 0.1, 0.9, 7], [1, 2, 2, 2, 0.2, 0.1, 8]], np.float32).T
    found = ChannelRows().candidates(rows, 2, 0.25)
    np.testing.assert_array_equal(found.boxes_xyxy, [[8, 17, 12, 23]])
    np.testing.assert_array_equal(found.scores, np.array([0.9], np.float32))
    assert found.class_ids.tolist() == [1]
    assert found.extras is not None
    assert found.extras.tolist() == [[7]]
    assert ChannelRows().candidates(rows[:6], 2, 0.25).extras is None
    boxes, scores = ChannelRows().cells(rows, 2)
    np.testing.assert_array_equal(boxes, [[8, 17, 12, 23], [0, 1, 2, 3]])
    np.testing.assert_array_equal(scores, np.array([0.9, 0.2], np.float32))


def test_rows_fit_by_their_second_extent() -> None:
    rows = ChannelRows()
    assert rows.fits((1, 7, 8400), 3)
    assert rows.fits(("b", "c", "n"), 3)
    assert not rows.fits((1, 8400, 7), 3)
    assert not rows.fits((1, 8), 3)
    assert rows.shape_text(3) == "(B, 7, N)"


def test_rows_of_a_one_to_one_head_are_final_and_those_below_the_threshold_go() -> None:
    rows = np.array([[1, 2, 3, 4, 0.9, 2], [5, 6, 7, 8, 0.25, 0], [0, 0, 0, 0, 0, 99]], np.float32)
    found = end2end_candidates(rows, 3, 0.25)
    assert found.final
    np.testing.assert_array_equal(found.boxes_xyxy, [[1, 2, 3, 4]])
    assert (found.class_ids.tolist(), found.extras) == ([2], None)
    more = end2end_candidates(np.concatenate([rows, rows[:, :2]], axis=1), 3, 0.25)
    assert more.extras is not None
    assert more.extras.tolist() == [[1, 2]]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_final_rows_with_a_number_that_is_not_finite_are_not_kept(number: float) -> None:
    rows = np.array([[1, 2, 3, 4, 0.9, 2], [5, number, 7, 8, 0.8, 0], [5, 6, 7, 8, 0.7, 1]], np.float32)
    rows[2, 4] = number if number > 0 else 0.7
    kept = Detect().suppress(end2end_candidates(rows, 3, 0.25), DetectOptions(), None)
    assert kept.class_ids.tolist() == ([2] if number > 0 else [2, 1])
    turned = Obb().suppress(
        end2end_candidates(np.array([[1, 2, 3, 4, 0.9, 2, number], [5, 6, 7, 8, 0.8, 0, 1]], np.float32), 3, 0.25),
        DetectOptions(), None,
    )  # fmt: skip
    assert turned.class_ids.tolist() == [0]


@pytest.mark.parametrize("class_id", [3, -1, 0.5, np.nan])
def test_a_class_id_that_the_model_does_not_have_is_refused(class_id: float) -> None:
    rows = np.array([[1, 2, 3, 4, 0.9, class_id]], np.float32)
    with pytest.raises(SessionError, match="a class id outside the model's classes: expected below 3"):
        end2end_candidates(rows, 3, 0.25)
