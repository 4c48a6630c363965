"""Every layout that an exporter could have, fed to the recogniser: each is refused, or read rightly, never wrongly.

One scene is written in many layouts: boxes as corners or as centre and size, in pixels or normalised, transposed,
with the objectness first, last or multiplied, scores as logits, the angle first, columns in any order. If a layout is
accepted, the detector around it must find the scene's object where it is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.errors import YoloshipError
from yoloship.model import TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.foreign import cells_of
from yoloship.tasks.recognise import recognise_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from yoloship.results.detections import Detections

    Floats = npt.NDArray[np.float64]

HW = (128, 192)
STRIDES = (8, 16, 32)
CELLS, SCALES = cells_of(STRIDES, HW)
OBJECT = 150
"""The cell of the one object: its class is 1, its score 0.9."""
NAMES = ("cat", "dog", "cow")
IMAGE = np.full((*HW, 3), 90, np.uint8)
ULTRALYTICS = {"task": "detect", "names": str(dict(enumerate(NAMES))), "version": "8.3.0"}
NAMED = {"names": ULTRALYTICS["names"]}


def scene(classes: int = 3) -> tuple[Floats, Floats, Floats]:
    """Boxes (N, 4) as centre and size in pixels, objectness (N, 1) and class scores (N, C) of every cell.

    The scores are those of heads without an objectness, which are near 0 for a cell without an object.
    """
    rng = np.random.default_rng(7)
    points = (CELLS + 0.5) * SCALES
    centres = points + rng.uniform(-0.6, 0.6, points.shape) * SCALES
    sizes = rng.uniform(2.5, 5, points.shape) * SCALES
    objectness = rng.uniform(0, 0.01, (len(points), 1))
    scores = rng.uniform(0, 0.03, (len(points), classes))
    objectness[OBJECT], scores[OBJECT] = 0.95, 0.0
    scores[OBJECT, 1 % classes] = 0.9
    return np.concatenate([centres, sizes], axis=1), objectness, scores


def corners(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def of_objects(scores: Floats) -> Floats:
    """Class scores as heads with an objectness have them: those of an object if there is one, for every cell."""
    trained = np.random.default_rng(3).uniform(0.05, 0.95, scores.shape)
    trained[OBJECT] = scores[OBJECT]
    return trained


def logits(values: Floats) -> Floats:
    return np.log((values + 1e-6) / (1 - values + 1e-6))


BOXES: dict[str, Callable[[Floats], Floats]] = {
    "centre and size": lambda boxes: boxes,
    "corners": corners,
    "top left and size": lambda boxes: np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1),
    "y before x": lambda boxes: boxes[:, [1, 0, 3, 2]],
    "corners, y before x": lambda boxes: corners(boxes)[:, [1, 0, 3, 2]],
    "size before centre": lambda boxes: boxes[:, [2, 3, 0, 1]],
    "distances": lambda boxes: np.concatenate(
        [(CELLS + 0.5) * SCALES - corners(boxes)[:, :2], corners(boxes)[:, 2:] - (CELLS + 0.5) * SCALES], axis=1
    ) / SCALES,
    "offsets in cells": lambda boxes: np.concatenate(
        [boxes[:, :2] / SCALES - CELLS, boxes[:, 2:] / SCALES], axis=1
    ),
}  # fmt: skip


def normalised(way: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    return lambda boxes: way(boxes / np.array([HW[1], HW[0]] * 2))


BOXES |= {f"{name}, normalised": normalised(way) for name, way in list(BOXES.items())[:6]}
SCORES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "classes": lambda _, scores: scores,
    "class logits": lambda _, scores: logits(scores),
    "classes of 100": lambda _, scores: scores * 100,
    "objectness, classes": lambda objectness, scores: np.concatenate([objectness, of_objects(scores)], axis=1),
    "classes, objectness": lambda objectness, scores: np.concatenate([of_objects(scores), objectness], axis=1),
    "objectness, multiplied": lambda objectness, scores: np.concatenate(
        [objectness, objectness * of_objects(scores)], axis=1
    ),
    "logits of both": lambda objectness, scores: logits(np.concatenate([objectness, of_objects(scores)], axis=1)),
    "objectness of 1": lambda objectness, scores: np.concatenate([np.ones_like(objectness), scores], axis=1),
    "best class": lambda _, scores: np.stack([scores.max(axis=1), scores.argmax(axis=1)], axis=1),
    "best class, id first": lambda _, scores: np.stack([scores.argmax(axis=1), scores.max(axis=1)], axis=1),
}
RIGHT = {
    ("centre and size", "classes"), ("centre and size", "objectness, classes"), ("centre and size", "objectness of 1"),
    ("corners", "best class"),  # the form of heads without suppression
    ("centre and size", "classes, objectness"),  # with one class: the product of both is the same
}  # fmt: skip


def session(outputs: list[Floats], metadata: Mapping[str, str]) -> ScriptedSession:
    arrays = [output[None].astype(np.float32) for output in outputs]
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))],
        [TensorSpec(f"output{place}", "float32", array.shape) for place, array in enumerate(arrays)],
        lambda _: arrays,
        metadata=metadata,
    )


def found(outputs: list[Floats], metadata: Mapping[str, str], names: tuple[str, ...] | None) -> Detections | None:
    """What a detector around the model finds; None if the model is refused."""
    model = session(outputs, metadata)
    try:
        info = recognise_foreign(model, "x.onnx", None, names)
        with Detector(model, info) as detector:
            answer: Detections = detector(IMAGE)
    except YoloshipError:
        return None
    return answer


def is_right(answer: Detections, boxes: Floats, names: tuple[str, ...]) -> bool:
    """Whether the answer is the one object of the scene."""
    expected = np.clip(corners(boxes)[OBJECT], 0, [HW[1], HW[0]] * 2)
    return (
        len(answer) == 1
        and answer.class_names[answer.class_ids[0]] == names[1 % len(names)]
        and bool(np.abs(answer.boxes_xyxy[0] - expected).max() < 1)
    )


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("named", ["metadata with a task", "metadata with names", "names that were given", "no names"])
def test_rows_of_every_cell(named: str, classes: int) -> None:
    boxes, objectness, scores = scene(classes)
    names = NAMES[:classes]
    text = str(dict(enumerate(names)))
    metadata = {
        "metadata with a task": {**ULTRALYTICS, "names": text}, "metadata with names": {"names": text},
    }.get(named, {})  # fmt: skip
    given = names if named == "names that were given" else None
    shown = names if named != "no names" else tuple(map(str, range(classes)))
    accepted, wrong = set(), []
    for (box_way, to_boxes), (score_way, to_scores) in itertools.product(BOXES.items(), SCORES.items()):
        parts = [to_boxes(boxes), to_scores(objectness, scores)]
        for order, transposed in itertools.product((parts, parts[::-1]), (False, True)):
            rows = np.concatenate(order, axis=1)
            answer = found([rows.T if transposed else rows], metadata, given)
            if answer is None:
                continue
            words = f"{box_way}; {score_way}; boxes {'first' if order is parts else 'last'}; transposed {transposed}"
            accepted.add((box_way, score_way))
            if not is_right(answer, boxes, shown):
                wrong.append(words)
    assert not wrong
    assert accepted <= RIGHT
    assert ("centre and size", "classes") in accepted or named == "no names"


@pytest.mark.parametrize("order", ["angle last", "angle first", "angle behind the box"])
@pytest.mark.parametrize("box_way", BOXES)
@pytest.mark.parametrize("metadata", [{**ULTRALYTICS, "task": "obb"}, ULTRALYTICS, NAMED, {}])
def test_oriented_boxes(order: str, box_way: str, metadata: dict[str, str]) -> None:
    boxes, _, scores = scene()
    angles = np.random.default_rng(1).uniform(-0.7, 2.3, (len(boxes), 1))
    changed = BOXES[box_way](boxes)
    parts = {
        "angle last": [changed, scores, angles], "angle first": [angles, changed, scores],
        "angle behind the box": [changed, angles, scores],
    }[order]  # fmt: skip
    answer = found([np.concatenate(parts, axis=1).T], metadata, None)
    is_the_form = (order, box_way, metadata.get("task")) == ("angle last", "centre and size", "obb")
    assert (answer is not None) == is_the_form
    if answer is not None:
        assert answer.boxes_xywhr is not None
        best = answer.boxes_xywhr[0]
        np.testing.assert_allclose(best, [*boxes[OBJECT], angles[OBJECT, 0]], rtol=1e-4, atol=1e-2)


def final_rows() -> Floats:
    """(n, 6): corners, score and class id of objects of the scene, best first."""
    boxes, _, _ = scene()
    chosen = np.arange(OBJECT - 60, OBJECT + 60, 3)
    scores = np.linspace(0.24, 0.01, len(chosen))
    rows = np.concatenate([corners(boxes)[chosen], scores[:, None], (chosen % 3)[:, None]], axis=1)
    return np.concatenate([[[*corners(boxes)[OBJECT], 0.9, 1]], rows])


@pytest.mark.parametrize("scale", [1.0, 1 / 192])
def test_final_rows_with_their_columns_in_any_order(scale: float) -> None:
    boxes, _, _ = scene()
    rows = final_rows()
    rows[:, :4] *= scale
    accepted = []
    for order in itertools.permutations(range(6)):
        answer = found([rows[:, order]], {**ULTRALYTICS, "end2end": "True"}, None)
        if answer is not None:
            accepted.append(order)
    assert accepted == ([tuple(range(6))] if scale == 1 else [])
    answer = found([final_rows()], {**ULTRALYTICS, "end2end": "True"}, None)
    assert answer is not None
    assert is_right(answer, boxes, NAMES)


@pytest.mark.parametrize("way", ["centre and size", "top left and size", "y before x", "distances"])
def test_final_rows_with_other_boxes_are_refused(way: str) -> None:
    boxes, _, scores = scene()
    best = np.stack([scores.max(axis=1), scores.argmax(axis=1)], axis=1)
    rows = np.concatenate([BOXES[way](boxes), best], axis=1)[np.argsort(-best[:, 0])][:100]
    assert found([rows], {**ULTRALYTICS, "end2end": "True"}, None) is None


def list_session(rows: Floats) -> ScriptedSession:
    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW))], [TensorSpec("output", "float32", ("n", 7))],
        lambda _: [rows.astype(np.float32)], metadata=NAMED,
    )  # fmt: skip


def test_rows_of_seven_with_their_columns_in_any_order() -> None:
    six = final_rows()
    right = np.concatenate([np.zeros((len(six), 1)), six[:, :4], six[:, 5:], six[:, 4:5]], axis=1)
    accepted = []
    for order in itertools.permutations(range(7)):
        model = list_session(right[:, order])
        try:
            recognise_foreign(model, "x.onnx", None, None)
        except YoloshipError:
            continue
        accepted.append(order)
    assert accepted == [tuple(range(7))]


def detr(way: Callable[[Floats], Floats], *, size_as_hw: bool, follows: bool) -> ScriptedSession:
    boxes, _, scores = scene()
    order = np.argsort(-scores.max(axis=1))[:100]
    labels = scores.argmax(axis=1)[order][None]

    def answer(feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        asked = feeds["orig_target_sizes"][0][:: -1 if size_as_hw else 1] if follows else np.array([1, 1])
        placed = way(boxes / np.array([HW[1], HW[0]] * 2) * np.array([*asked, *asked]))[order]
        return [labels, placed[None].astype(np.float32), scores.max(axis=1)[order][None].astype(np.float32)]

    return ScriptedSession(
        [TensorSpec("images", "float32", (1, 3, *HW)), TensorSpec("orig_target_sizes", "int64", (1, 2))],
        [TensorSpec("labels", "int64", (1, 100)), TensorSpec("boxes", "float32", (1, 100, 4)),
         TensorSpec("scores", "float32", (1, 100))],
        answer, metadata=NAMED,
    )  # fmt: skip


# Boxes with y before x that follow a size with the height first are those of the transposed image: nothing shows it.
@pytest.mark.parametrize("way", [way for way in list(BOXES)[:6] if way != "corners, y before x"])
@pytest.mark.parametrize("size_as_hw", [False, True])
@pytest.mark.parametrize("follows", [False, True])
def test_sets_of_a_detr(way: str, *, size_as_hw: bool, follows: bool) -> None:
    model = detr(BOXES[way], size_as_hw=size_as_hw, follows=follows)
    try:
        info = recognise_foreign(model, "x.onnx", None, None)
    except YoloshipError:
        assert (way, size_as_hw, follows) != ("corners", False, True)
        return
    assert (way, size_as_hw, follows) == ("corners", False, True)
    with Detector(model, info) as detector:
        assert is_right(detector(IMAGE), scene()[0], NAMES)
