"""What the kernels of heads without anchors, oriented boxes and keypoints must do; see `helpers.cuda_contract`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cuda_steps import EXP_TOLERANCE, Rig, candidates_of, frame_table, run_decode, run_nms
from yoloship.cuda.extras import ExtraLevel, Extras, Keypoints, launch_keypoints, pack_extra_levels
from yoloship.cuda.free_heads import Chosen, FreeHeads, FreeLevel, Span, pack_free_levels
from yoloship.cuda.postprocess import (
    HeadLevel,
    Heads,
    Raw,
    Results,
    Suppression,
    launch_nms,
    pack_levels,
    result_dtype,
)
from yoloship.letterbox import Letterbox
from yoloship.results.oriented import moments_of, pair_probious
from yoloship.tasks.decode import heads_candidates, heads_to_raw, raw_candidates, sigmoid
from yoloship.tasks.rotated import rotated_nms

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.cuda.postprocess import DecodeInput

    Floats = npt.NDArray[np.float32]
    Maps = list[npt.NDArray[Any]]

NEAR = 1e-4
"""Of a threshold: there, the last bits of exp(), log(), sin() and cos() decide."""


def dtype_name(array: npt.NDArray[Any]) -> Any:
    """The element type of an array on the device."""
    return array.dtype.name


def sides_of(logits: Floats, bins: int) -> Floats:
    """(4·bins, N) to (N, 4) distances in cells: the reference of DFL."""
    if bins == 1:
        return np.ascontiguousarray(logits.T)
    parts = logits.reshape(4, bins, -1)
    with np.errstate(all="ignore"):
        weights = np.exp(parts - parts.max(axis=1, keepdims=True))
        values = (weights * np.arange(bins, dtype=np.float32)[:, None]).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(values.T, np.float32)


def decoded_free(
    maps: Maps, strides: tuple[int, ...], classes: int, bins: int, oriented: bool = False
) -> tuple[Floats, Floats, Floats | None]:
    """Boxes (N, 4), class scores (N, C) and angles (N,) of one image; maps (4·bins + C + E, h, w)."""
    boxes, scores, angles = [], [], []
    for level, stride in zip(maps, strides, strict=True):
        _, height, width = level.shape
        flat = level.astype(np.float32).reshape(len(level), -1)
        rows, columns = np.divmod(np.arange(height * width), width)
        left, top, right, bottom = sides_of(flat[: 4 * bins], bins).T
        across, down = columns.astype(np.float32) + np.float32(0.5), rows.astype(np.float32) + np.float32(0.5)
        scores.append(sigmoid(flat[4 * bins : 4 * bins + classes]).T)
        if not oriented:
            box = [across - left, down - top, across + right, down + bottom]
        else:
            angle = flat[4 * bins + classes]
            cosine, sine, u, v = np.cos(angle), np.sin(angle), (right - left) / 2, (bottom - top) / 2
            box = [u * cosine - v * sine + across, u * sine + v * cosine + down, left + right, top + bottom]
            angles.append(angle)
        boxes.append((np.stack(box, axis=1) * stride).astype(np.float32))
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(angles) if angles else None


def free_heads(
    rig: Rig, maps: Maps, strides: tuple[int, ...], classes: int, bins: int, oriented: bool = False
) -> FreeHeads:
    """Maps (B, 4·bins + C + E, h, w) on the device."""
    levels = []
    for level, stride in zip(maps, strides, strict=True):
        _, channels, height, width = level.shape
        pointer, cells, item = rig.put(level), height * width, level.itemsize
        boxes, scores, angles = (
            Span.of_map(pointer, channels, cells, at, item) for at in (0, 4 * bins, 4 * bins + classes)
        )
        levels.append(FreeLevel((height, width), stride, boxes, scores, None if not oriented else angles))
    return FreeHeads(rig.put(pack_free_levels(levels)), tuple(levels), bins, dtype_name(maps[0]), oriented)


def assert_candidates(
    found: dict[str, npt.NDArray[Any]], boxes: Floats, scores: Floats, threshold: float, angles: Floats | None = None
) -> None:
    """The candidates are those of the scores, (N, C), above the threshold, but for those that exp() decides."""
    with np.errstate(invalid="ignore"):
        best = scores.max(axis=1)
        usable = np.isfinite(boxes).all(axis=1)
        sure, maybe = ((best > threshold + slack) & usable for slack in (EXP_TOLERANCE, -EXP_TOLERANCE))
    indices = found["indices"]
    assert set(np.flatnonzero(sure)) <= set(indices.tolist()) <= set(np.flatnonzero(maybe))
    np.testing.assert_allclose(found["scores"], best[indices], rtol=0, atol=EXP_TOLERANCE)
    np.testing.assert_allclose(scores[indices, found["class_ids"]], best[indices], rtol=0, atol=EXP_TOLERANCE)
    np.testing.assert_allclose(found["boxes"], boxes[indices], rtol=2e-5, atol=2e-3)
    if angles is not None:
        np.testing.assert_allclose(found["angles"], angles[indices], rtol=0, atol=1e-5)


class FreeHeadsContract:
    """The tests of decoding what a head without anchors gives."""

    @pytest.mark.parametrize(
        ("classes", "bins", "dtype", "strides"),
        [
            (80, 16, np.float32, (8, 16, 32)),
            (1, 16, np.float16, (8, 16, 32, 64)),
            (1000, 1, np.float32, (16, 32)),
            (3, 7, np.float32, (8,)),
            (5, 1, np.float16, (4, 8, 16, 32)),
        ],
    )
    def test_undecoded_maps_give_the_candidates_of_numpy(
        self, rig: Rig, classes: int, bins: int, dtype: Any, strides: tuple[int, ...]
    ) -> None:
        rng = np.random.default_rng()
        maps = [
            (rng.standard_normal((2, 4 * bins + classes + 2, 192 // s, 128 // s)) * 2).astype(dtype) for s in strides
        ]
        for level in maps:
            level[:, 4 * bins : 4 * bins + classes] -= dtype(4 if classes > 100 else 1)
        maps[0][0, 4 * bins, 0] = np.nan
        maps[0][0, 2, 1] = np.nan
        maps[0][1, 3, 1] = np.inf
        maps[-1][1, 4 * bins + classes - 1] = 30
        threshold = 0.6
        workspace = run_decode(rig, free_heads(rig, maps, strides, classes, bins), classes, 2, threshold)
        for image in range(2):
            boxes, scores, _ = decoded_free([level[image] for level in maps], strides, classes, bins)
            found = candidates_of(rig, workspace, image)
            assert_candidates(found, boxes, scores, threshold)
            assert len(found["indices"]) > 3

    def test_of_a_head_without_suppression_every_class_of_a_cell_is_a_candidate(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        strides, classes, bins = (8, 16), 7, 16
        maps = [rng.standard_normal((2, 4 * bins + classes, 96 // s, 64 // s), np.float32) * 2 for s in strides]
        heads = replace(free_heads(rig, maps, strides, classes, bins), pairs=300)
        allowed = [0, 1, 2, 4, 6]
        workspace = run_decode(rig, heads, classes, 2, 0.7, allowed=allowed, capacity=heads.cells * classes)
        box = Letterbox.fixed((96, 64), (96, 64))
        results = run_nms(rig, workspace, [box, box], Suppression(0.0, 40, keeps_overlaps=heads.is_chosen))
        for image, result in enumerate(results):
            boxes, scores, _ = decoded_free([level[image] for level in maps], strides, classes, bins)
            scores[:, [3, 5]] = 0
            if np.diff(np.sort(scores.ravel())[-60:]).min() < EXP_TOLERANCE:
                continue
            best = np.argsort(-scores.ravel(), kind="stable")[: min(40, int((scores > 0.7).sum()))]
            assert len(best) > 10
            np.testing.assert_array_equal(result.indices, best)
            np.testing.assert_array_equal(result.class_ids, best % classes)
            expected = np.clip(boxes[best // classes], 0, [64, 96, 64, 96])
            np.testing.assert_allclose(result.boxes_xyxy, expected, rtol=1e-5, atol=2e-3)

    @pytest.mark.parametrize(("threshold", "count"), [(0.0, 96), (1.0, 0)])
    def test_the_outermost_thresholds_keep_all_or_nothing(self, rig: Rig, threshold: float, count: int) -> None:
        maps = [np.zeros((1, 64 + 2, 8, 12), np.float32)]
        maps[0][:, 64] = 90  # a score of exactly 1
        workspace = run_decode(rig, free_heads(rig, maps, (8,), 2, 16), 2, 1, threshold)
        assert len(candidates_of(rig, workspace, 0)["indices"]) == count

    @pytest.mark.parametrize(("classes", "dtype"), [(80, np.float32), (1, np.float16)])
    def test_decoded_columns_give_the_candidates_of_numpy_exactly(self, rig: Rig, classes: int, dtype: Any) -> None:
        rng = np.random.default_rng()
        columns = rng.random((2, 4 + classes + 3, 333)).astype(dtype)
        columns[:, :4] *= 100
        columns[0, 4, :40] = np.nan
        columns[0, 1, 40:60] = np.nan
        columns[1, 2, :30] = -np.inf
        columns[1, 4:, 100:150] = dtype(0.5)
        output = self.columns(rig, columns, classes)
        workspace = run_decode(rig, output, classes, 2, 0.5, allowed=list(range(0, classes, 2)))
        for image in range(2):
            wide = columns[image].astype(np.float32)
            half = wide[2:4] * np.float32(0.5)
            boxes = np.concatenate([wide[:2] - half, wide[:2] + half]).T
            scores = wide[4 : 4 + classes].T
            ids = scores.argmax(axis=1)
            best = scores[np.arange(333), ids]
            expected = np.flatnonzero((best > 0.5) & (ids % 2 == 0) & np.isfinite(boxes).all(axis=1))
            found = candidates_of(rig, workspace, image)
            np.testing.assert_array_equal(found["indices"], expected)
            np.testing.assert_array_equal(found["class_ids"], ids[expected])
            np.testing.assert_array_equal(found["scores"], best[expected])
            np.testing.assert_array_equal(found["boxes"], boxes[expected])

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    def test_rows_that_the_head_has_chosen_are_kept_as_they_are_but_for_the_thresholds(
        self, rig: Rig, dtype: Any
    ) -> None:
        rng = np.random.default_rng()
        rows = rng.random((2, 300, 6 + 4)).astype(dtype)
        rows[..., :4] *= 60
        rows[..., 2:4] += rows[..., :2]
        rows[..., 4] = -np.sort(-rows[..., 4], axis=1)
        rows[:, 20:40, 4] = rows[:, 39:19:-1, 4]  # their order counts, not their scores
        rows[..., 5] = rng.integers(0, 3, (2, 300))
        rows[0, 7, 0] = np.nan
        rows[0, 9, 4] = np.nan
        output = Chosen(rig.put(rows), 300, 10, dtype_name(rows))
        box = Letterbox.fixed((64, 64), (64, 64))
        workspace = run_decode(rig, output, 3, 2, 0.3, allowed=[0, 2])
        results = run_nms(rig, workspace, [box, box], Suppression(0.1, 50, keeps_overlaps=True, keeps_order=True))
        for image, result in enumerate(results):
            wide = rows[image].astype(np.float32)
            passes = (wide[:, 4] > 0.3) & (wide[:, 5] != 1) & np.isfinite(wide[:, :4]).all(axis=1)
            kept = np.flatnonzero(passes)[:50]
            assert len(kept) == 50
            np.testing.assert_array_equal(result.indices, kept)
            np.testing.assert_array_equal(result.scores, wide[kept, 4])
            np.testing.assert_array_equal(result.class_ids, wide[kept, 5])
            np.testing.assert_array_equal(result.boxes_xyxy, np.clip(wide[kept, :4], 0, 64))

    @pytest.mark.parametrize("class_id", [-1.0, 3.0, 0.5, np.nan, np.inf, 1e30])
    def test_a_chosen_row_of_no_class_is_marked(self, rig: Rig, class_id: float) -> None:
        rows = np.array([[[1, 1, 9, 9, 0.9, class_id]]], np.float32)
        workspace = run_decode(rig, Chosen(rig.put(rows), 1, 6), 3, 1, 0.5, allowed=[0])
        assert candidates_of(rig, workspace, 0)["class_ids"].tolist() == [-1]

    def test_rows_and_maps_with_columns_behind_the_classes_give_the_same_candidates_as_without(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        raw = rng.random((2, 300, 5 + 3 + 32), dtype=np.float32)
        raw[..., :4] *= 90
        workspace = run_decode(rig, Raw(rig.put(raw), 300, extras=32), 3, 2, 0.4)
        anchors = ((10.0, 13.0), (16.0, 30.0))
        maps = rng.standard_normal((2, 2 * (5 + 3 + 4), 8, 6), np.float32) * 2
        levels = (HeadLevel(rig.put(maps), (8, 6), 8, anchors),)
        heads = run_decode(rig, Heads(rig.put(pack_levels(levels)), levels, extras=4), 3, 2, 0.3)
        bare = np.ascontiguousarray(maps.reshape(2, 2, 12, 8, 6)[:, :, :8]).reshape(2, 16, 8, 6)
        for image in range(2):
            expected = raw_candidates(np.ascontiguousarray(raw[image, :, :8]), 0.4)
            found = candidates_of(rig, workspace, image)
            np.testing.assert_array_equal(found["scores"], expected.scores)
            np.testing.assert_array_equal(found["boxes"], expected.boxes_xyxy)
            wanted = heads_candidates([bare[image]], (8,), (anchors,), 0.3)
            got = candidates_of(rig, heads, image)
            every = heads_to_raw([bare[image : image + 1]], (8,), (anchors,))[0]
            best = (every[:, 5:] * every[:, 4:5]).max(axis=1)
            if (np.abs(best - 0.3) > EXP_TOLERANCE).all():
                np.testing.assert_allclose(got["scores"], wanted.scores, rtol=0, atol=EXP_TOLERANCE)

    def columns(self, rig: Rig, columns: npt.NDArray[Any], classes: int, angle: bool = False) -> FreeHeads:
        _, channels, cells = columns.shape
        pointer = rig.put(columns)
        spans = [Span.of_map(pointer, channels, cells, at, columns.itemsize) for at in (0, 4, 4 + classes)]
        level = FreeLevel((1, cells), 1, spans[0], spans[1], spans[2] if angle else None)
        table = rig.put(pack_free_levels([level]))
        return FreeHeads(table, (level,), 0, dtype_name(columns), angle)


def oriented_crowd(rng: np.random.Generator, count: int, classes: int) -> Floats:
    """(4 + classes + 1, count) decoded columns of oriented boxes that overlap a lot and whose scores tie a lot."""
    columns = np.empty((4 + classes + 1, count), np.float32)
    columns[:2] = np.round(rng.random((2, count)) * 12) * 25 + rng.random((2, count))
    columns[2:4] = 10 + rng.random((2, count)) * 90
    columns[4:-1] = np.round(rng.random((classes, count)) * 8) / 8
    columns[-1] = (rng.random(count) - 0.25) * np.pi
    return columns


class RotatedContract(FreeHeadsContract):
    """The tests of oriented boxes on a GPU, and those of heads without anchors."""

    @pytest.mark.parametrize(
        ("bins", "dtype"),
        [(16, np.float32), (1, np.float32), (16, np.float16)],
    )
    def test_undecoded_maps_give_oriented_candidates(self, rig: Rig, bins: int, dtype: Any) -> None:
        rng = np.random.default_rng()
        strides, classes = (8, 16, 32), 4
        maps = [
            (rng.standard_normal((2, 4 * bins + classes + 1, 96 // s, 160 // s)) * 2).astype(dtype) for s in strides
        ]
        maps[0][0, 4 * bins + classes, 0] = np.nan
        workspace = run_decode(rig, free_heads(rig, maps, strides, classes, bins, True), classes, 2, 0.9)
        for image in range(2):
            boxes, scores, angles = decoded_free([m[image] for m in maps], strides, classes, bins, True)
            assert angles is not None
            whole = np.concatenate([boxes, angles[:, None]], axis=1)
            found = candidates_of(rig, workspace, image)
            found["boxes"] = np.concatenate([found["boxes"], found["angles"][:, None]], axis=1)
            assert_candidates(found, whole, scores, 0.9, angles)

    @pytest.mark.parametrize("class_agnostic", [False, True])
    def test_a_box_goes_if_any_better_one_is_too_alike(self, rig: Rig, class_agnostic: bool) -> None:
        rng = np.random.default_rng()
        counts = (0, 1, 33, 150, 256, 257, 400)
        box = Letterbox.fixed((300, 500), (320, 320))
        columns = np.zeros((len(counts), 4 + 3 + 1, 400), np.float32)
        for image, count in enumerate(counts):
            columns[image, :, :count] = oriented_crowd(rng, count, 3)
        suppression = Suppression(0.3, 300, class_agnostic)
        workspace = run_decode(rig, self.columns(rig, columns, 3, True), 3, len(counts), 0.2)
        for image, result in enumerate(run_nms(rig, workspace, [box] * len(counts), suppression)):
            self.check(result, columns[image], 0.2, suppression)

    def test_degenerate_boxes_and_a_maximum_of_them(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        columns = oriented_crowd(rng, 300, 2)
        columns[2:4, :20] = 0
        columns[2, 20:30] = -30
        columns[0, 30:35] = np.inf
        columns[-1, 35:40] = np.nan
        columns[2:4, 40:50] = 1e19
        columns[:, 50:60] = columns[:, 60:70]
        box = Letterbox.fixed((300, 500), (320, 320))
        for limit, most in ((0.0, 300), (0.5, 7), (1.0, 1000)):
            suppression = Suppression(limit, most)
            workspace = run_decode(rig, self.columns(rig, columns[None], 2, True), 2, 1, 0.1)
            with np.errstate(all="ignore"):
                self.check(run_nms(rig, workspace, [box], suppression)[0], columns, 0.1, suppression)

    def test_of_more_than_1024_oriented_candidates_exactly_the_best_take_part(self, rig: Rig) -> None:
        columns = oriented_crowd(np.random.default_rng(), 1500, 1)
        columns[4] = 0.9
        box = Letterbox.fixed((320, 320), (320, 320))
        workspace = run_decode(rig, self.columns(rig, columns[None], 1, True), 1, 1, 0.5)
        (result,) = run_nms(rig, workspace, [box], Suppression(0.6, 300))
        assert (result.candidates, result.passed_over) == (1500, 1500 - 1024)
        self.check(result, columns[:, :1024], 0.5, Suppression(0.6, 300))

    def test_chosen_rows_of_oriented_boxes_are_kept(self, rig: Rig) -> None:
        rows = np.random.default_rng().random((1, 40, 7), dtype=np.float32) * 30
        rows[..., 4] = np.linspace(0.9, 0.1, 40)
        rows[..., 5] = 1
        rows[0, 3, 6] = np.nan
        workspace = run_decode(rig, Chosen(rig.put(rows), 40, 7, is_rotated=True), 2, 1, 0.5)
        box = Letterbox.fixed((32, 32), (32, 32))
        (result,) = run_nms(rig, workspace, [box], Suppression(0.1, 300, keeps_overlaps=True))
        kept = [index for index in np.flatnonzero(rows[0, :, 4] > 0.5).tolist() if index != 3]
        assert result.indices.tolist() == kept
        np.testing.assert_array_equal(result.boxes_xyxy, rows[0, kept, :4])
        np.testing.assert_array_equal(result.extras[:, 0], rows[0, kept, 6])

    def check(self, result: Any, columns: Floats, threshold: float, suppression: Suppression) -> None:
        """The reference's boxes in its order, but for pairs so near to the limit that the last bits decide."""
        boxes = np.concatenate([columns[:4], columns[-1:]]).T
        scores = columns[4:-1].max(axis=0)
        ids = columns[4:-1].argmax(axis=0).astype(np.int32)
        passed = np.flatnonzero((scores > np.float32(threshold)) & np.isfinite(boxes).all(axis=1))
        groups = np.zeros_like(ids) if suppression.class_agnostic else ids
        moments = moments_of(boxes[passed])
        alike = pair_probious(moments[:, :, None], moments[:, None])
        if (np.abs(alike - suppression.iou_threshold) < NEAR).any():
            limits = [min(max(suppression.iou_threshold + slack, 0), 1) for slack in (-NEAR, NEAR)]
        else:
            limits = [suppression.iou_threshold] * 2
        least, most = (
            passed[rotated_nms(boxes[passed], scores[passed], groups[passed], iou_threshold=limit, max_detections=9999)]
            for limit in limits
        )
        full = len(result.indices) == suppression.max_detections
        if suppression.iou_threshold < NEAR:
            least = least[:0]  # whether boxes far apart are above 0 is rounding alone
        assert set(result.indices.tolist()) <= set(most.tolist())
        assert full or set(least.tolist()) <= set(result.indices.tolist())
        np.testing.assert_array_equal(result.indices, [i for i in most.tolist() if i in set(result.indices.tolist())])
        np.testing.assert_array_equal(result.boxes_xyxy, boxes[result.indices, :4])
        np.testing.assert_array_equal(result.extras[:, 0], boxes[result.indices, 4])
        np.testing.assert_array_equal(result.scores, scores[result.indices])
        np.testing.assert_array_equal(result.class_ids, ids[result.indices])


class KeypointsContract:
    """The tests of keypoints on a GPU."""

    @pytest.mark.parametrize(
        ("points", "dimensions", "dtype"),
        [
            (17, 3, np.float32),
            (5, 2, np.float16),
            (64, 3, np.float32),
            (1, 2, np.float32),
        ],
    )
    def test_undecoded_keypoints_of_what_is_kept_come_back_in_source_pixels(
        self, rig: Rig, points: int, dimensions: int, dtype: Any
    ) -> None:
        rng = np.random.default_rng()
        strides, classes, extras = (8, 16), 2, points * dimensions
        maps = [(rng.standard_normal((2, 4 + classes + extras, 96 // s, 160 // s)) * 2).astype(dtype) for s in strides]
        maps[0][:, -1, 0, 0] = np.nan
        maps[0][:, -extras, 1] = np.inf
        heads = free_heads(rig, maps, strides, classes, 1)
        levels = [
            ExtraLevel(
                Span.of_map(level.boxes.pointer, 4 + classes + extras, level.cells, 4 + classes, maps[0].itemsize),
                level.grid_hw, level.stride,
            )
            for level in heads.levels
        ]  # fmt: skip
        table = Extras(rig.put(pack_extra_levels(levels)), len(levels), heads.dtype)
        boxes = [Letterbox.fixed(hw, (96, 160)) for hw in ((50, 60), (700, 333))]
        results = self.run(rig, heads, classes, Keypoints(table, points, dimensions, "offsets"), boxes)
        for image, (entry, box) in enumerate(zip(results, boxes, strict=True)):
            kept = int(entry["kept"])
            assert kept > 5
            every = np.concatenate([m[image, 4 + classes :].astype(np.float32).reshape(extras, -1).T for m in maps])
            grids = [np.divmod(np.arange(level.cells), level.grid_hw[1]) for level in heads.levels]
            cells = np.concatenate([np.stack([column, row], axis=1) for row, column in grids]).astype(np.float32)
            scale = np.concatenate([np.full(level.cells, level.stride) for level in heads.levels]).astype(np.float32)
            wanted = every.reshape(-1, points, dimensions)[entry["indices"][:kept]].copy()
            cell, stride = cells[entry["indices"][:kept], None], scale[entry["indices"][:kept], None, None]
            xy = wanted[..., :2]
            with np.errstate(all="ignore"):
                xy = (xy + (cell + np.float32(0.5))) * stride
                wanted[..., 2:] = sigmoid(wanted[..., 2:])
            self.compare(entry["extras"][:kept].reshape(wanted.shape), xy, wanted[..., 2:], box)

    def test_decoded_keypoints_of_columns_and_of_chosen_rows_come_back_in_source_pixels(self, rig: Rig) -> None:
        rng = np.random.default_rng()
        rows = rng.random((2, 60, 6 + 6), dtype=np.float32)
        rows[..., :2] *= 30
        rows[..., 2:4] = rows[..., :2] + 20
        rows[..., 5] = 0
        rows[..., 6:] *= 120
        box = Letterbox.fixed((200, 90), (96, 96))
        span = Span(rig.put(rows) + 6 * 4, 60 * 12, 1, 12)
        table = Extras(rig.put(pack_extra_levels([ExtraLevel(span, (1, 60))])), 1)
        keypoints = Keypoints(table, 2, 3, "decoded")
        chosen = Chosen(span.pointer - 6 * 4, 60, 12)
        for image, entry in enumerate(self.run(rig, chosen, 1, keypoints, [box, box], keeps_overlaps=True)):
            kept = int(entry["kept"])
            wanted = rows[image, entry["indices"][:kept], 6:].reshape(-1, 2, 3)
            self.compare(entry["extras"][:kept].reshape(-1, 2, 3), wanted[..., :2], wanted[..., 2:], box)
            assert (entry["extras"][kept:] == 0).all()

    def run(
        self, rig: Rig, output: DecodeInput, classes: int, keypoints: Keypoints, boxes: list[Letterbox], **how: Any
    ) -> npt.NDArray[Any]:
        extras = keypoints.points * keypoints.dimensions
        dtype = result_dtype(40, extras)
        results = Results(rig.empty(dtype.itemsize * len(boxes)), 40, extras, hands_on=True)
        workspace = run_decode(rig, output, classes, len(boxes), 0.5)
        table = frame_table(rig, boxes)
        launch_nms(rig.kernels, rig.stream, workspace, Suppression(0.6, 40, **how), table, results)
        launch_keypoints(rig.kernels, rig.stream, keypoints, workspace, table, results)
        return rig.get(results.pointer, dtype, (len(boxes),))

    def compare(self, found: Floats, xy: Floats, visibility: Floats, box: Letterbox) -> None:
        height, width = box.image_hw
        with np.errstate(all="ignore"):
            source = box.to_image(np.concatenate([xy, xy], axis=-1).astype(np.float64))[..., :2]
        source = np.clip(source, 0, [width, height])
        np.testing.assert_allclose(found[..., :2], source, rtol=1e-5, atol=2e-3)
        np.testing.assert_allclose(found[..., 2:], visibility, rtol=0, atol=EXP_TOLERANCE)
