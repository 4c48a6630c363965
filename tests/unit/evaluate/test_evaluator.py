"""COCO's evaluator against pycocotools: every figure, and every match."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from yoloship.evaluate.coco import Scored, Truth, coco_dataset, coco_results
from yoloship.evaluate.evaluator import evaluate

NAMES = ("cat", "dog", "owl")


def random_case(seed: int, classes: int = 3, images: int = 12) -> tuple[list[Scored], list[Truth]]:
    """Objects near and far from the truth, crowds, areas of the dataset's own, equal scores, and empty images."""
    rng = np.random.default_rng(seed)
    scored, truths = [], []
    for _ in range(images):
        count = int(rng.integers(0, 8))
        corner, size = rng.uniform(0, 300, (count, 2)), rng.uniform(2, 150, (count, 2))
        boxes = np.hstack([corner, corner + size])
        ids = rng.integers(0, classes, count)
        crowd, areas = rng.random(count) < 0.2, size.prod(axis=1) * rng.uniform(0.3, 1, count)
        truths.append(Truth(boxes, ids, crowd=crowd, areas_px=areas if seed % 2 else None))
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (count * 3, 4))
        far = rng.uniform(0, 300, (int(rng.integers(0, 130)), 4))
        every = np.vstack([near, np.hstack([far[:, :2], far[:, :2] + far[:, 2:] + 1])]).astype(np.float32)
        names = np.concatenate([np.repeat(ids, 3), rng.integers(0, classes, len(far))]).astype(np.int32)
        scores = np.round(rng.random(len(every)), 2).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        scored.append(Scored(every[order], scores[order], names[order], (460, 460)))
    return scored, truths


def judged_by_pycocotools(scored: list[Scored], truths: list[Truth], names: tuple[str, ...]) -> Any:
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = coco_dataset([""] * len(truths), [one.image_hw for one in scored], truths, names)
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(coco_results(scored)), "bbox")
        judge.evaluate()
        judge.accumulate()
    return judge


@pytest.mark.parametrize("seed", range(4))
def test_every_figure_and_every_match_is_that_of_pycocotools(seed: int) -> None:
    scored, truths = random_case(seed)
    ours, judge = evaluate(scored, truths, NAMES), judged_by_pycocotools(scored, truths, NAMES)
    np.testing.assert_allclose(ours.precision, judge.eval["precision"][..., -1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.recall, judge.eval["recall"], rtol=0, atol=1e-9)
    right = {
        (cell["image_id"] - 1, detection): (truth, bool(ignored))
        for cell in judge.evalImgs
        if cell is not None and cell["aRng"] == judge.params.areaRng[0]
        for detection, truth, ignored in zip(
            cell["dtIds"], cell["dtMatches"][0].tolist(), cell["dtIgnore"][0].tolist(), strict=True
        )
    }
    starts = np.cumsum([0, *map(len, scored)])
    first = np.cumsum([0, *(len(one.class_ids) for one in truths)])
    for image, match in enumerate(ours.matches()):
        for row, found_object in enumerate(match.finds.tolist()):
            theirs = right.get((image, int(starts[image]) + row + 1))
            expected = -2 if theirs is None or theirs[1] else int(theirs[0]) - 1 - int(first[image])
            assert found_object == (expected if theirs is None or theirs[0] or theirs[1] else -1)
            if found_object >= 0:
                assert match.found_by[found_object] == row
        assert match.counts.tolist() == (~np.asarray(truths[image].crowd)).tolist()
        assert {row for row in match.found_by.tolist() if row >= 0} == set(np.flatnonzero(match.finds >= 0).tolist())
