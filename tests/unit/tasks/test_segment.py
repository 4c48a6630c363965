"""Segmentation as a task: what a model must have, and which objects keep a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError
from yoloship.letterbox import Letterbox
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.results.mask_rules import MASK_RULES, NEWEST_RULE
from yoloship.results.masks import Masks
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.decode import Candidates
from yoloship.tasks.segment import Segment, Segments

if TYPE_CHECKING:
    import numpy.typing as npt

HW = (64, 96)
INFO = ModelInfo(
    "segment", "yolov5", ("cat", "dog"), (8, 16, 32), (), "float", "raw", HW, 1, extra_columns=2, mask_rule="yolov5"
)
IMAGES = TensorSpec("images", "float32", (1, 3, *HW))
ROWS = TensorSpec("output0", "float32", (1, 252, 9))
PROTOTYPES = TensorSpec("output1", "float32", (1, 2, 16, 24))
SEGMENT = Segment()


def left_and_right() -> npt.NDArray[np.float32]:
    """One prototype that is positive on the left half, one on the right."""
    halves = np.full((1, 2, 16, 24), -9, np.float32)
    halves[0, 0, :, :12] = halves[0, 1, :, 12:] = 9
    return halves


def rows(*objects: tuple[float, ...]) -> npt.NDArray[np.float32]:
    table = np.zeros((1, 252, 9), np.float32)
    table[0, : len(objects)] = np.reshape(objects, (-1, 9))
    return table


TWO = rows((48, 32, 40, 40, 0.9, 1, 0, 1, 0), (48, 32, 40, 40, 0.8, 0, 1, 0, 1))
"""A cat whose mask is on the left and a dog whose mask is on the right, in one box."""


def detector(table: npt.NDArray[np.float32] = TWO, info: ModelInfo = INFO, **options: Any) -> Detector:
    session = ScriptedSession([IMAGES], [ROWS, PROTOTYPES], lambda _: [table, left_and_right()])
    return Detector(session, info, options=DetectOptions(**options))


def test_each_object_has_the_part_of_its_box_that_its_coefficients_choose() -> None:
    with detector() as model:
        found = model(np.zeros((*HW, 3), np.uint8))
    assert found.task == "segment"
    assert found.class_ids.tolist() == [0, 1]
    assert found.masks is not None
    cat, dog = found.masks.array
    y, x = np.nonzero(cat)
    assert (x.min(), x.max(), y.min(), y.max()) == (28, 47, 12, 51)
    np.testing.assert_array_equal(dog, cat[:, ::-1])


def test_masks_follow_their_objects_through_selection_and_suppression() -> None:
    four = rows(
        (20, 32, 30, 40, 0.5, 1, 0, 1, 0), (76, 32, 30, 40, 0.9, 1, 0, 0, 1), (21, 32, 30, 40, 0.7, 1, 0, 1, 0),
        (76, 32, 30, 40, 0.6, 0, 1, 0, 1),
    )  # fmt: skip
    with detector(four) as model:
        found = model(np.zeros((*HW, 3), np.uint8))
    assert found.scores.tolist() == [np.float32(0.9), np.float32(0.7), np.float32(0.6)]
    assert found.masks is not None
    sides = ["left" if mask[:, :48].any() else "right" for mask in found.masks]
    assert sides == ["right", "left", "right"]
    dogs = found.filter(classes=["dog"])
    assert dogs.masks == found.masks[2:]


@pytest.mark.parametrize("rule", MASK_RULES)
def test_an_object_without_a_pixel_of_mask_is_dropped_if_the_version_does_so(rule: str) -> None:
    empty = rows((48, 32, 40, 40, 0.9, 1, 0, -1, -1), (48, 32, 40, 40, 0.8, 0, 1, 0, 1))
    with detector(empty, replace(INFO, mask_rule=rule)) as model:
        found = model(np.zeros((*HW, 3), np.uint8))
    assert found.class_ids.tolist() == ([1] if MASK_RULES[rule].drops_empty else [0, 1])
    assert found.masks is not None
    assert len(found.masks) == len(found)


def test_masks_have_the_resolution_of_the_canvas_or_if_asked_for_that_of_the_image() -> None:
    image = np.zeros((256, 384, 3), np.uint8)
    for info in (INFO, replace(INFO, mask_rule=None)):
        with detector(info=info) as model:
            coarse = model(image)
        with detector(info=info, retina_masks=True) as model:
            fine = model(image)
        assert coarse.masks is not None
        assert fine.masks is not None
        assert (coarse.masks.native_hw, fine.masks.native_hw) == (HW, (256, 384))
        overlap = (coarse.masks.array & fine.masks.array).sum() / (coarse.masks.array | fine.masks.array).sum()
        assert 0.9 < overlap < 1


def test_nothing_found_has_no_masks_but_is_a_segmentation() -> None:
    with detector(rows()) as model:
        found = model(np.zeros((*HW, 3), np.uint8))
    assert found.task == "segment"
    assert found.masks == Masks((), HW, Letterbox.fixed(HW, HW))


def test_a_record_of_another_version_without_a_rule_gets_the_newest() -> None:
    (answer,) = SEGMENT.standard.decode([TWO, left_and_right()], replace(INFO, mask_rule=None), HW, 0.25)
    assert answer.rule is MASK_RULES[NEWEST_RULE]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((ROWS,), r"m: has no prototypes, which masks are made of: expected one more output \(B, 2, h, w\)"),
        (
            (ROWS, replace(PROTOTYPES, shape=(1, 3, 16, 24))),
            "m: has a different number of prototypes than mask coefficien",
        ),
        ((ROWS, replace(PROTOTYPES, shape=(1, 2, 16))), "m: has no prototypes"),
        ((replace(ROWS, shape=(1, 252, 7)), PROTOTYPES), r"expected \(B, N, 9\) for 2 classes"),
        ((PROTOTYPES,), "expected 1 outputs, got 0"),
    ],
)
def test_a_graph_without_fitting_prototypes_is_refused(outputs: Any, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        SEGMENT.check(outputs, INFO, "m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra_columns": 0}, "bad 'extra_columns': expected the number of mask coefficients"),
        ({"mask_rule": "yolact"}, "bad 'mask_rule': expected yolov5, ultralytics-8.2.43, .*got yolact"),
        ({"class_names": ()}, "names no classes"),
    ],
)
def test_a_record_that_says_nothing_about_masks_is_refused(change: Any, words: str) -> None:
    with pytest.raises((InputError, SessionError), match=words):
        SEGMENT.check((ROWS, PROTOTYPES), replace(INFO, **change), "m")


@pytest.mark.parametrize(
    ("prototypes", "words"),
    [
        (np.zeros((1, 3, 16, 24), np.float32), r"do not fit the mask coefficients: expected \(2, h, w\)"),
        (np.zeros((1, 2, 15, 24), np.float32), "are not whole cells of the canvas"),
        (np.zeros((1, 2, 384), np.float32), r"prototypes: the model's output is not as promised"),
        (np.zeros((2, 2, 16, 24), np.float32), r"prototypes: the model's output is not as promised"),
        (np.zeros((1, 2, 16, 24), np.int32), r"prototypes: .*expected floats"),
    ],
)
def test_prototypes_that_a_run_gives_otherwise_are_refused(prototypes: Any, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        SEGMENT.standard.decode([TWO, prototypes], INFO, HW, 0.25)


def test_outputs_in_another_order_are_found() -> None:
    info = replace(INFO, decoded_output="output0")
    outputs = (PROTOTYPES, TensorSpec("maps", "float32", (1, 3, 8)), ROWS)
    SEGMENT.check(outputs, info, "m")
    assert SEGMENT.standard.places(outputs, info) == (2, 0)


def test_a_foreign_session_with_a_record_is_recognised() -> None:
    session = ScriptedSession(
        [IMAGES], [ROWS, PROTOTYPES], lambda _: [TWO, left_and_right()], metadata={METADATA_KEY: INFO.to_json()}
    )
    with Detector(session) as model:
        assert model.info == INFO
        assert len(model(np.zeros((*HW, 3), np.uint8))) == 2


def test_the_answer_is_suppressed_once_and_remembers_which_size_was_asked_for() -> None:
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    found = Candidates(boxes, np.ones(1, np.float32), np.zeros(1, np.int32), extras=np.ones((1, 2), np.float32))
    answer = Segments(found, left_and_right()[0], MASK_RULES["yolov5"])
    kept = SEGMENT.suppress(answer, DetectOptions(retina_masks=True), None)
    assert kept.on_image
    assert not answer.on_image
