"""Mean average precision: known cases by hand, and what cannot be judged."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from yoloship.errors import DependencyError, InputError
from yoloship.evaluate import Truth, mean_average_precision
from yoloship.evaluate.coco import OverlapKind
from yoloship.evaluate.evaluator import require_evaluator
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
