"""Comparing two artefacts, on scripted models whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.models import STRIDES, info
from helpers.verified import HW, IMAGES, scripted
from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.matching import compare_levels
from yoloship.evaluate.reports import facts
from yoloship.evaluate.verification import Tolerances, _common_measure, verify
from yoloship.model import NmsConfig
from yoloship.tasks import form_of


def test_a_model_agrees_with_itself() -> None:
    found = verify(("a", scripted()), ("b", scripted()), IMAGES)
    assert found.passed
    assert found.agreement.share == 1
    assert found.sides[0].detections == found.sides[1].detections > 5
    assert set(found.ious) == {1.0}
    assert [level.stride for level in found.levels] == [8, 16, 32]
    assert all(level.score_max == level.box_max_px == 0 for level in found.levels)
    assert sum(level.cells for level in found.levels) == 2 * 3 * (8 * 12 + 4 * 6 + 2 * 3)


def test_both_see_the_same_colours_whatever_order_they_take_arrays_in() -> None:
    image = np.zeros((*HW, 3), np.uint8)
    image[..., 0], image[..., 2] = 3, 40  # the answer follows the first channel
    rgb = Detector(scripted().session, channels="rgb")  # type: ignore[arg-type]  # a session that takes arrays
    assert verify(("a", scripted()), ("b", rgb), [image]).agreement.share == 1


def test_cells_are_held_up_to_a_number_and_not_for_so_many_images_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = 3 * (8 * 12 + 4 * 6 + 2 * 3)
    monkeypatch.setattr("yoloship.evaluate.verification.MAX_CELLS", one + 1)
    found = verify(("a", scripted()), ("b", scripted()), [*IMAGES, *IMAGES])
    assert sum(level.cells for level in found.levels) == 2 * one
    assert found.images == 4


def test_two_output_forms_of_one_model_agree_cell_by_cell() -> None:
    found = verify(("a", scripted()), ("b", scripted(form="raw")), IMAGES)
    assert found.passed
    assert max(level.box_max_px for level in found.levels) < 1e-3


def test_a_model_that_lost_its_scores_fails_and_says_by_how_much() -> None:
    found = verify(("a", scripted()), ("b", scripted(-1.5)), IMAGES)
    assert not found.passed
    failed = {check.name for check in found.checks if not check.passed}
    assert "agreement" in failed
    assert found.agreement.first_seen < found.agreement.first_count
    text = dict(facts(found))
    agreement = found.agreement
    assert text["A's detections"].startswith(
        f"{agreement.first_count} with a score of 0.25 or more; B finds {agreement.first_seen} of them"
    )
    assert any(name == "FAIL" and "agreement" in value for name, value in facts(found))


def test_pairs_are_counted_by_who_reaches_the_threshold() -> None:
    found = verify(("a", scripted()), ("b", scripted()), IMAGES)
    pairs = replace(found, scores=((0.9, 0.8), (0.3, 0.2), (0.1, 0.25), (0.5, 0.4)), ious=(1.0, 0.9, 0.8, 0.7))
    assert dict(facts(pairs))["pairs"] == "4: 2 reach 0.25 in both, 1 in A only, 1 in B only"
    assert dict(facts(found))["pairs"] == f"{len(found.ious)}: {len(found.ious)} reach 0.25 in both"


def test_tolerances_decide() -> None:
    loose = Tolerances(agreement=0, iou=0, score=1)
    assert verify(("a", scripted()), ("b", scripted(-1.5)), IMAGES, tolerances=loose).passed
    with pytest.raises(InputError, match="iou: out of range: expected 0 to 1, got 2"):
        Tolerances(iou=2)


def test_truth_adds_precision_and_its_loss() -> None:
    right = scripted()
    truths = []
    for image in IMAGES:
        seen = right(image, options=DetectOptions(score_threshold=0.5))
        truths.append(Truth(seen.boxes_xyxy, seen.class_ids))
    found = verify(("a", right), ("b", scripted(-6)), IMAGES, truths=truths)
    first, second = (side.map50_95 for side in found.sides)
    assert first is not None
    assert second is not None
    assert first > 0.8
    lost = next(check for check in found.checks if check.name == "mAP lost")
    assert lost.value == pytest.approx(first - second)


def test_what_cannot_be_compared_is_refused() -> None:
    other = scripted(class_names=("x", "y", "z"))
    with pytest.raises(InputError, match="b: the two models have different classes"):
        verify(("a", scripted()), ("b", other), IMAGES)
    fewer = scripted(class_names=tuple(map(str, range(len(scripted().class_names) - 1))))
    with pytest.raises(InputError, match="b: the two models have different classes"):
        verify(("a", scripted()), ("b", fewer), IMAGES)
    with pytest.raises(InputError, match="no images to compare on"):
        verify(("a", scripted()), ("b", scripted()), [])


def test_a_file_without_class_names_can_be_compared_with_one_that_has_them() -> None:
    unnamed = scripted(class_names=tuple(map(str, range(len(scripted().class_names)))))
    assert verify(("a", scripted()), ("b", unnamed), IMAGES).passed


def test_cells_of_final_detections_are_unknown_and_of_other_grids_not_compared() -> None:
    final = replace(info("raw"), output_form="nms", nms=NmsConfig())
    assert form_of(final, "m").cells([], final) is None
    cells = (np.zeros((189, 4), np.float32), np.zeros(189, np.float32))
    fewer = (cells[0][:9], cells[1][:9])
    assert compare_levels([cells], [fewer], STRIDES, [HW]) == ()


def test_models_that_answer_with_different_heads_are_compared_and_the_report_says_so() -> None:
    other = scripted()
    found = verify(("a", scripted()), ("b", other), IMAGES)
    assert "two heads" not in dict(facts(found))
    first, second = found.sides
    apart = replace(found, sides=(replace(first, head="one2many"), replace(second, head="one2one")))
    assert dict(facts(apart))["two heads"] == "A answers with one2many, B with one2one; see --head"


def test_models_of_different_input_sizes_are_compared_and_the_report_says_so() -> None:
    found = verify(("a", scripted()), ("b", scripted()), IMAGES)
    first, second = found.sides
    assert first.input_hw == HW
    assert "two sizes" not in dict(facts(found))
    apart = replace(found, sides=(first, replace(second, input_hw=(640, 640))))
    assert dict(facts(apart))["two sizes"] == f"the input of A is {HW[0]}x{HW[1]}, that of B 640x640; see --imgsz"


def test_models_of_different_tasks_are_refused() -> None:
    posed = replace(info("raw"), task="pose", keypoint_shape=(2, 2))
    with pytest.raises(
        InputError, match=r"b: the two models have different tasks.*: expected a detection model, got a"
    ):
        _common_measure(("a", scripted()), ("b", stub(posed)))
    with pytest.raises(InputError, match=r"find different keypoints, .*expected \(2, 3\), got \(2, 2\)"):
        _common_measure(("a", stub(replace(posed, keypoint_shape=(2, 3)))), ("b", stub(posed)))


def stub(record: Any) -> Any:
    """What is asked of a detector before anything runs."""
    return SimpleNamespace(info=record, class_names=record.class_names)
