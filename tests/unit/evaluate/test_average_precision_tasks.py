"""Mean average precision of masks, keypoints and oriented boxes: known cases by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.average_precision import mean_average_precision
from yoloship.evaluate.coco import OverlapKind, Scored, Truth, coco_dataset
from yoloship.evaluate.evaluator import evaluate
from yoloship.evaluate.overlaps import oriented_ious
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

pytest.importorskip("pycocotools")

NAMES = ("cat", "dog")
HW = (100, 100)
SQUARE = np.array([[20.0, 20], [80, 20], [80, 80], [20, 80]])
BOX = np.array([[20.0, 20, 80, 80]])


def found(**extras: Any) -> Detections:
    one = (BOX.astype(np.float32), np.array([0.9], np.float32), np.array([0], np.int32))
    return Detections(*one, NAMES, HW, **extras)


def precision(result: Detections, truth: Truth, overlap: OverlapKind) -> float:
    return mean_average_precision([result], [truth], NAMES, overlap).map50_95


def masks(rows: int, columns: int) -> Masks:
    whole = np.zeros((1, *HW), bool)
    whole[0, 20 : 20 + rows, 20 : 20 + columns] = True
    return Masks.from_array(whole)


def test_masks_are_judged_by_their_pixels_and_not_by_their_boxes() -> None:
    truth = Truth(BOX, np.array([0]), polygons=(SQUARE,))
    assert precision(found(masks=masks(60, 60)), truth, "masks") == pytest.approx(1)
    part = precision(found(masks=masks(60, 43)), truth, "masks")  # IoU 0.72: five thresholds of ten
    assert part == pytest.approx(0.5)
    assert precision(found(masks=masks(60, 43)), truth, "boxes") == pytest.approx(1)


def test_keypoints_are_judged_by_those_that_are_labelled() -> None:
    points = np.array([[[30.0, 30, 2], [60, 60, 1], [0, 0, 0]]])
    truth = Truth(BOX, np.array([0]), keypoints=points)
    exact = np.array([[[30, 30], [60, 60], [99, 99]]], np.float32)
    assert precision(found(keypoints=exact), truth, "keypoints") == pytest.approx(1)
    moved = exact.copy()
    moved[0, 1] = 60 + 40, 60
    # Scale 0.53 · 60², and 1/3 for each of three points: exp(−1600 / (2 · 1908 · 4/9)) = 0.389, a mean of 0.695.
    assert precision(found(keypoints=moved), truth, "keypoints") == pytest.approx(0.4)
    seen = np.concatenate([moved, np.ones((1, 3, 1), np.float32)], axis=2)
    assert precision(found(keypoints=seen), truth, "keypoints") == pytest.approx(0.4)


def test_objects_without_a_labelled_keypoint_count_for_nothing() -> None:
    points = np.zeros((2, 3, 3))
    points[0] = [[30, 30, 2], [60, 60, 2], [70, 70, 2]]
    truth = Truth(np.tile(BOX, (2, 1)), np.array([0, 1]), keypoints=points)
    seen = found(keypoints=points[:1, :, :2].astype(np.float32))
    record = mean_average_precision([seen], [truth], NAMES, "keypoints")
    assert record.objects == 1
    assert record.map50_95 == pytest.approx(1)
    unlabelled = Truth(BOX, np.array([0]), keypoints=np.zeros((1, 3, 3)))
    with pytest.raises(InputError, match="no image has an object with labelled keypoints"):
        precision(found(keypoints=points[:1].astype(np.float32)), unlabelled, "keypoints")


def test_oriented_boxes_are_judged_by_their_probabilistic_iou() -> None:
    box = np.array([[50.0, 50, 60, 20, 0.3]])
    truth = Truth(BOX, np.array([0]), boxes_xywhr=box)
    assert precision(found(boxes_xywhr=box.astype(np.float32)), truth, "oriented") == pytest.approx(1)
    turned = np.array([[50, 50, 60, 20, 0.5]], np.float32)
    share = sum(oriented_ious(turned, box)[0, 0] >= step / 100 for step in range(50, 100, 5)) / 10
    assert 0 < share < 1
    assert precision(found(boxes_xywhr=turned), truth, "oriented") == pytest.approx(share)


def test_a_false_oriented_box_of_a_higher_score_costs_precision() -> None:
    box = np.array([[50, 50, 60, 20, 0.3], [50, 50, 60, 20, 1.9]], np.float32)
    both = Detections(
        np.tile(BOX, (2, 1)).astype(np.float32), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32), NAMES, HW,
        boxes_xywhr=box[::-1].copy(),
    )  # fmt: skip
    truth = Truth(BOX, np.array([0]), boxes_xywhr=box[:1].astype(np.float64))
    assert precision(both, truth, "oriented") == pytest.approx(0.5)


@pytest.mark.parametrize("overlap", ["masks", "keypoints", "oriented"])
def test_nothing_found_is_no_precision(overlap: OverlapKind) -> None:
    truth = Truth(
        BOX, np.array([0]), polygons=(SQUARE,), keypoints=np.ones((1, 3, 3)), boxes_xywhr=np.ones((1, 5))
    )  # fmt: skip
    assert precision(Detections.empty(HW, NAMES), truth, overlap) == 0


def random_shapes(seed: int) -> tuple[list[Scored], list[Truth]]:
    """Outlines, one in seven a crowd with run lengths, and masks near to them."""
    rng = np.random.default_rng(seed)
    scored, truths = [], []
    for _ in range(8):
        corner, size = rng.uniform(0, 60, (4, 2)), rng.uniform(3, 38, (4, 2))
        boxes, ids = np.hstack([corner, corner + size]), rng.integers(0, 2, 4)
        outlines = [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, (y1 + y2) / 2]]) for x1, y1, x2, y2 in boxes]
        crowd, near = rng.random(4) < 0.15, np.repeat(boxes, 3, axis=0) + rng.normal(0, 2, (12, 4))
        pixels = np.zeros((12, *HW), bool)
        for whole, box in zip(pixels, np.clip(near, 0, 99).astype(int), strict=True):
            whole[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
        found = Detections(
            np.clip(near, 0, 100).astype(np.float32), np.sort(rng.random(12))[::-1].astype(np.float32),
            np.repeat(ids, 3).astype(np.int32), NAMES, HW, masks=Masks.from_array(pixels),
        )  # fmt: skip
        of_crowds = Masks.from_array(pixels[::3]).rle()
        shapes = [of_crowds[row] if crowd[row] else [outlines[row].ravel().tolist()] for row in range(4)]
        truths.append(Truth(boxes, ids, crowd=crowd, segmentations=tuple(shapes)))
        scored.append(Scored.of(found, "masks"))
    return scored, truths


def random_points(seed: int) -> tuple[list[Scored], list[Truth]]:
    """People of 17 points, some of which are not labelled."""
    rng = np.random.default_rng(seed)
    scored, truths = [], []
    for _ in range(8):
        corner, size = rng.uniform(0, 60, (3, 2)), rng.uniform(5, 38, (3, 2))
        points = np.concatenate([corner[:, None] + rng.random((3, 17, 2)) * size[:, None], np.zeros((3, 17, 1))], 2)
        points[..., 2] = rng.integers(0, 3, (3, 17)) * (rng.random((3, 1)) < 0.8)
        boxes, ids = np.hstack([corner, corner + size]), rng.integers(0, 2, 3)
        truths.append(Truth(boxes, ids, keypoints=points, areas_px=None if seed % 2 else size.prod(axis=1) / 2))
        near = (np.repeat(points[..., :2], 9, axis=0) + rng.normal(0, 1, (27, 17, 2))).astype(np.float32)
        scores = np.sort(rng.random(27))[::-1].astype(np.float32)
        every = np.repeat(boxes, 9, axis=0).astype(np.float32)
        scored.append(Scored(every, scores, np.repeat(ids, 9).astype(np.int32), HW, keypoints=near))
    return scored, truths


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("overlap", "name"), [("masks", "segm"), ("keypoints", "keypoints")])
def test_every_figure_is_that_of_pycocotools(overlap: OverlapKind, name: str, seed: int) -> None:
    scored, truths = (random_shapes if overlap == "masks" else random_points)(seed)
    ours = evaluate(scored, truths, NAMES, overlap)
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rows = []
    for image, found in enumerate(scored, 1):
        for place in range(len(found)):
            row = {"image_id": image, "category_id": int(found.class_ids[place]) + 1, "score": found.scores[place]}
            if found.masks is not None:
                row["segmentation"] = found.masks[place]
            if found.keypoints is not None:
                row["keypoints"] = np.hstack([found.keypoints[place], np.ones((17, 1))]).ravel().tolist()
            rows.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = coco_dataset([""] * len(truths), [HW] * len(truths), truths, NAMES)
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(rows), name)
        judge.evaluate()
        judge.accumulate()
    assert 0.02 < ours.precision[..., 0].mean() < 0.95
    np.testing.assert_allclose(ours.precision, judge.eval["precision"][..., -1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.recall, judge.eval["recall"], rtol=0, atol=1e-9)
