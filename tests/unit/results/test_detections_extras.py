"""Detections with keypoints, and with oriented boxes."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.results.oriented import corners_of, hulls_of

HW = (100, 200)


def posed(numbers: int = 3) -> Detections:
    boxes = np.array([[10, 10, 50, 90], [60, 10, 100, 90]], np.float32)
    points = np.random.default_rng(1).random((2, 5, numbers), np.float32)
    points[..., :2] *= 90
    return Detections(
        boxes, np.array([0.9, 0.5], np.float32), np.array([0, 1], np.int32), ("cat", "dog"), HW, keypoints=points
    )


def oriented() -> Detections:
    boxes = np.array([[60, 50, 40, 20, 0.5], [150, 50, 20, 60, -0.3]], np.float32)
    scores, ids = np.array([0.9, 0.5], np.float32), np.array([0, 1], np.int32)
    return Detections(hulls_of(boxes), scores, ids, ("ship", "plane"), HW, boxes_xywhr=boxes)


BOTH = pytest.mark.parametrize("found", [posed(3), posed(2), oriented()], ids=["pose", "points", "oriented"])


@BOTH
def test_one_object_has_its_own_extras(found: Detections) -> None:
    assert list(found) == [found[0], found[1]] == [found[-2], found[-1]]
    for index, one in enumerate(found):
        if found.keypoints is not None:
            assert one.keypoints == tuple(map(tuple, found.keypoints[index].tolist()))
        if found.boxes_xywhr is not None and found.corners_xy is not None:
            assert one.box_xywhr == tuple(found.boxes_xywhr[index].tolist())
            assert one.corners_xy == tuple(map(tuple, found.corners_xy[index].tolist()))


@BOTH
def test_choosing_merging_and_pickling_carry_them_along(found: Detections) -> None:
    assert pickle.loads(pickle.dumps(found)) == found
    assert Detections.merge([found[1:], found[:1]]) == found
    assert found.filter(min_score=0.6) == found[:1] == found[[0]]
    assert found[:1].task == found.task


def test_only_oriented_boxes_have_corners() -> None:
    found = oriented()
    assert found.boxes_xywhr is not None
    assert found.task == "obb"
    np.testing.assert_array_equal(found.corners_xy, corners_of(found.boxes_xywhr))
    assert posed().corners_xy is None
    assert posed().task == "pose"


def test_a_difference_in_an_extra_is_a_difference() -> None:
    found = posed()
    assert found.keypoints is not None
    moved = found.keypoints.copy()
    moved[1, 2, 0] += 1
    assert replace(found, keypoints=moved) != found
    assert replace(oriented(), boxes_xywhr=None) != oriented()


@pytest.mark.parametrize(
    ("extra", "shape"), [("keypoints", (1, 5, 3)), ("keypoints", (2, 5, 4)), ("boxes_xywhr", (2, 4))]
)
def test_extras_of_another_shape_are_refused(extra: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"Detections\.{extra}: wrong array: expected float32\(2, "):
        replace(posed(), **{extra: np.zeros(shape, np.float32)})  # type: ignore[arg-type]  # one of them fits


def test_they_are_drawn() -> None:
    image = np.full((*HW, 3), 128, np.uint8)
    for found in (posed(), oriented()):
        plain = Detections(found.boxes_xyxy, found.scores, found.class_ids, found.class_names, HW)
        assert (found.draw(image, hide_labels=True) != plain.draw(image, hide_labels=True)).any()
    assert (image == 128).all()


def test_plain_data_has_them() -> None:
    first, _ = posed().to_dict()["detections"]
    assert np.array(first["keypoints"]).shape == (5, 3)
    first, _ = oriented().to_dict()["detections"]
    assert np.array(first["corners_xy"]).shape == (4, 2)


def test_supervision_gets_corners_and_keypoints_where_it_looks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    stand_in = SimpleNamespace(Detections=lambda **fields: given.append(fields))
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    oriented().to_supervision()
    posed().to_supervision()
    np.testing.assert_array_equal(given[0]["data"]["xyxyxyxy"], oriented().corners_xy)
    np.testing.assert_array_equal(given[1]["data"]["keypoints"], posed().keypoints)
    assert given[1]["data"]["class_name"].tolist() == ["cat", "dog"]


def test_the_table_of_oriented_boxes_has_the_box_as_it_is_turned() -> None:
    assert oriented().table() == [
        ("class", "score", "cx", "cy", "w", "h", "angle"),
        ("ship", "0.900", "60.0", "50.0", "40.0", "20.0", "28.6°"),
        ("plane", "0.500", "150.0", "50.0", "20.0", "60.0", "-17.2°"),
    ]
    assert posed().table(1) == [
        ("class", "score", "x1", "y1", "x2", "y2"),
        ("cat", "0.900", "10.0", "10.0", "50.0", "90.0"),
    ]
