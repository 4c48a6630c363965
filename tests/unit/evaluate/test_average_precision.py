"""Mean average precision: known cases by hand, and what cannot be judged."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yoloship.errors import DependencyError, InputError
from yoloship.evaluate import Truth, mean_average_precision
from yoloship.evaluate.average_precision import evaluate, require_evaluator
from yoloship.evaluate.coco import OverlapKind, Scored, coco_dataset, coco_results
from yoloship.results.detections import Detections

NAMES = ("cat", "dog", "owl")


def found(boxes: list[list[float]], scores: list[float], class_ids: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
        NAMES,
        (100, 100),
    )


def truth(boxes: list[list[float]], class_ids: list[int]) -> Truth:
    return Truth(np.array(boxes, float).reshape(-1, 4), np.array(class_ids, int))


BOX, OTHER = [10.0, 10, 30, 30], [50.0, 50, 90, 80]


def test_the_truth_itself_scores_one() -> None:
    record = mean_average_precision([found([BOX, OTHER], [0.9, 0.8], [0, 1])], [truth([BOX, OTHER], [0, 1])], NAMES)
    assert (record.map50_95, record.map50, record.map75) == pytest.approx((1, 1, 1))
    assert (record.images, record.objects) == (1, 2)
    assert record.evaluator.startswith("hotcoco ")


def test_a_class_without_objects_counts_for_nothing() -> None:
    record = mean_average_precision([found([BOX, OTHER], [0.9, 0.8], [0, 2])], [truth([BOX], [0])], NAMES)
    cat, dog, owl = record.classes
    assert cat.objects == 1
    assert (cat.ap50_95, cat.ap50) == pytest.approx((1, 1))
    assert (dog.objects, dog.ap50_95) == (0, None)
    assert (owl.objects, owl.ap50) == (0, None)
    assert record.map50_95 == pytest.approx(1)


def test_an_overlap_of_three_quarters_counts_up_to_that_threshold() -> None:
    """IoU 0.78: a hit at 0.50 to 0.75, which are six thresholds of ten."""
    record = mean_average_precision([found([[0, 0, 100, 78]], [0.9], [0])], [truth([[0, 0, 100, 100]], [0])], NAMES)
    assert record.map50_95 == pytest.approx(0.6)
    assert record.map50 == pytest.approx(1)
    assert record.map75 == pytest.approx(1)


def test_half_of_the_objects_found_is_half_of_the_recalls() -> None:
    record = mean_average_precision([found([BOX], [0.9], [0])], [truth([BOX, OTHER], [0, 0])], NAMES)
    assert record.map50 == pytest.approx(51 / 101)  # COCO asks at 101 recalls from 0 to 1


def test_a_better_false_alarm_halves_the_precision() -> None:
    record = mean_average_precision([found([OTHER, BOX], [0.9, 0.8], [0, 0])], [truth([BOX], [0])], NAMES)
    assert record.map50 == pytest.approx(0.5)


def test_the_right_box_in_another_image_or_of_another_class_is_no_hit() -> None:
    empty = truth([], [])
    elsewhere = mean_average_precision([found([], [], []), found([BOX], [0.9], [0])], [truth([BOX], [0]), empty], NAMES)
    assert elsewhere.map50 == 0
    assert mean_average_precision([found([BOX], [0.9], [1])], [truth([BOX], [0])], NAMES).map50 == 0


def test_nothing_found_scores_zero() -> None:
    record = mean_average_precision([found([], [], [])], [truth([BOX], [0])], NAMES)
    assert (record.map50_95, record.map50) == (0, 0)


def test_the_evaluators_own_lines_do_not_reach_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    mean_average_precision([found([BOX], [0.9], [0])], [truth([BOX], [0])], NAMES)
    assert capsys.readouterr().out == ""


def test_the_record_is_plain_data() -> None:
    json.dumps(mean_average_precision([found([BOX], [0.5], [1])], [truth([BOX], [1])], NAMES).to_dict())


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="detections and truths differ in number: got 1 and 0"):
        mean_average_precision([found([BOX], [0.9], [0])], [], NAMES)
    with pytest.raises(InputError, match="no image has an object"):
        mean_average_precision([found([BOX], [0.9], [0])], [truth([], [])], NAMES)
    with pytest.raises(InputError, match="class 3: has no name: expected 0 to 2"):
        mean_average_precision([found([BOX], [0.9], [0])], [truth([BOX], [3])], NAMES)
    labelled = replace(truth([BOX], [3]), source="labels/a.txt")
    with pytest.raises(InputError, match=r"labels/a\.txt: class 3: has no name: expected 0 to 2"):
        mean_average_precision([found([BOX], [0.9], [0])], [labelled], NAMES)
    with pytest.raises(InputError, match="class 7: has no name"):
        mean_average_precision([found([BOX], [0.9], [7])], [truth([BOX], [0])], NAMES)


@pytest.mark.parametrize(("overlap", "module"), [("boxes", "hotcoco"), ("oriented", "pycocotools.coco")])
def test_without_the_evaluator_the_command_that_installs_it_is_named(
    overlap: OverlapKind, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(DependencyError, match=rf"{package}: is not installed; pip install 'yoloship\[eval\]'"):
        require_evaluator(overlap)
    with pytest.raises(DependencyError, match=package):
        mean_average_precision([found([BOX], [0.9], [0])], [truth([BOX], [0])], NAMES, overlap)


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
