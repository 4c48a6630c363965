"""Detections with the ids of their tracks."""

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
from yoloship.results.drawing import UNSURE, class_color
from yoloship.results.masks import Masks

HW = (120, 200)
IDS = [7, -1, 2]


def tracked(ids: list[int] | None = None) -> Detections:
    boxes = np.array([[10, 30, 60, 110], [70, 30, 120, 110], [130, 30, 180, 110]], np.float32)
    scores = np.array([0.9, 0.5, 0.25], np.float32)
    chosen = None if ids == [] else np.array(ids or IDS, np.int32)
    return Detections(boxes, scores, np.array([0, 1, 0], np.int32), ("person", "car"), HW, track_ids=chosen)


def test_each_object_has_its_own_id() -> None:
    assert [one.track_id for one in tracked()] == IDS
    assert [tracked()[row].track_id for row in range(3)] == IDS
    assert [one.track_id for one in tracked([])] == [None, None, None]


def test_choosing_merging_and_pickling_carry_the_ids_along() -> None:
    found = tracked()
    assert pickle.loads(pickle.dumps(found)) == found
    assert Detections.merge([found[2:], found[:2]]) == found
    part = found.filter(classes=["person"])
    assert part.track_ids is not None
    assert part.track_ids.tolist() == [7, 2]
    assert found[::-1] == found[[2, 1, 0]]


def test_the_ids_are_read_only_and_a_difference_in_them_is_a_difference() -> None:
    found = tracked()
    assert found.track_ids is not None
    assert not found.track_ids.flags.writeable
    assert found != tracked([7, -1, 3])
    assert found != tracked([])
    assert found.task == "detect"


@pytest.mark.parametrize(
    "ids", [np.array([1, 2], np.int32), np.array([1, 2, 3]), np.array([[1, 2, 3]], np.int32), [1, 2, 3]]
)
def test_ids_of_another_type_or_number_are_refused(ids: Any) -> None:
    with pytest.raises(InputError, match=r"Detections\.track_ids: wrong array: expected int32\(3,\), got "):
        replace(tracked(), track_ids=ids)


def test_results_without_objects_may_be_tracked() -> None:
    nothing = replace(Detections.empty(HW), track_ids=np.empty(0, np.int32))
    assert list(nothing) == []
    assert nothing.to_dict()["detections"] == []


def test_merging_refuses_one_id_twice_but_not_two_unconfirmed() -> None:
    with pytest.raises(InputError, match="several results have an object of the same id: got id 2; merge first"):
        Detections.merge([tracked(), tracked([1, 2, 3])])
    assert len(Detections.merge([tracked(), tracked([1, -1, 3])])) == 6
    with pytest.raises(InputError, match="or only some of them are tracked"):
        Detections.merge([tracked(), tracked([])])


def test_plain_data_and_the_table_have_the_ids() -> None:
    assert [one["track_id"] for one in tracked().to_dict()["detections"]] == IDS
    assert all("track_id" not in one for one in tracked([]).to_dict()["detections"])
    assert [row[-1] for row in tracked().table()] == ["id", "#7", "–", "#2"]
    assert {len(row) for row in tracked().table()} == {7}


def test_supervision_gets_the_ids_as_its_tracker_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **fields: given.append(fields)))
    tracked().to_supervision()
    tracked([]).to_supervision()
    assert given[0]["tracker_id"].tolist() == IDS
    assert given[1]["tracker_id"] is None


def labels_of(found: Detections, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[str]:
    drawn: list[Any] = []
    monkeypatch.setattr("yoloship.results.drawing.draw_boxes", lambda canvas, *given: drawn.append(given))
    found.draw(np.full((*HW, 3), 128, np.uint8), **options)
    return list(drawn[0][2])


def test_labels_name_the_id_of_confirmed_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels_of(tracked(), monkeypatch) == ["person #7 0.90", "car 0.50", "person #2 0.25"]
    assert labels_of(tracked(), monkeypatch, hide_scores=True) == ["person #7", "car", "person #2"]
    assert labels_of(tracked(), monkeypatch, hide_labels=True) == ["", "", ""]


def has_color(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((image == np.array(color, np.uint8)).all(axis=2).any())


def test_colours_go_by_id_and_unconfirmed_objects_are_grey() -> None:
    image = np.full((*HW, 3), 255, np.uint8)
    drawn = tracked().draw(image, hide_labels=True)
    assert all(has_color(drawn, color) for color in (class_color(7), class_color(2), UNSURE))
    assert not has_color(drawn, class_color(0))
    assert class_color(-1) == UNSURE


def test_a_mask_has_the_colour_of_its_id() -> None:
    inside = np.zeros((3, *HW), np.bool_)
    for mask, left in zip(inside, (10, 70, 130), strict=True):
        mask[40:100, left + 10 : left + 40] = True
    image = np.full((*HW, 3), 255, np.uint8)
    masks = Masks.from_array(inside)
    by_id = replace(tracked(), masks=masks).draw(image, hide_labels=True)
    by_class = replace(tracked([]), masks=masks).draw(image, hide_labels=True)
    assert (by_id[70, 35] != by_class[70, 35]).any()
    assert len(set(by_id[70, 90].tolist())) == 1, "grey"
