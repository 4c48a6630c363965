"""Detections with masks: as plain data, one by one, drawn, and for supervision."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yoloship.results.detections import Detections
from yoloship.results.masks import Masks

HW = (100, 200)


def segmented() -> Detections:
    y, x = np.mgrid[: HW[0], : HW[1]]
    masks = np.array([(abs(x - 30) <= 15) & (abs(y - 50) <= 20), (x - 120) ** 2 + (y - 50) ** 2 <= 400])
    boxes = np.array([[15, 30, 46, 71], [100, 30, 141, 71]], np.float32)
    scores, ids = np.array([0.9, 0.5], np.float32), np.array([0, 1], np.int32)
    return Detections(boxes, scores, ids, ("cat", "dog"), HW, masks=Masks.from_array(masks))


def test_one_object_has_its_own_mask() -> None:
    found = segmented()
    assert found.masks is not None
    for index, one in enumerate(found):
        assert one == found[index - 2]
        assert one.masks == found.masks[index : index + 1]
        assert one.mask is not None
        np.testing.assert_array_equal(one.mask, found.masks[index])
    plain = Detections(found.boxes_xyxy, found.scores, found.class_ids, found.class_names, HW)
    assert plain[0].masks is None
    assert plain[0].mask is None


def test_plain_data_has_outlines_of_tenths_of_a_pixel() -> None:
    found = segmented()
    first, second = json.loads(json.dumps(found.to_dict()))["detections"]
    assert sorted(first["polygons"][0][::2]) == [15.0, 15.0, 45.0, 45.0]
    assert sorted(first["polygons"][0][1::2]) == [30.0, 30.0, 70.0, 70.0]
    assert len(second["polygons"]) == 1
    assert all(round(value, 1) == value for value in second["polygons"][0])


def test_drawing_tints_the_objects() -> None:
    image = np.full((*HW, 3), 128, np.uint8)
    drawn = segmented().draw(image, hide_labels=True)
    assert (drawn[45:55, 25:35] != 128).any(axis=2).all()
    assert (drawn[45:55, 115:125] != 128).any(axis=2).all()
    assert (drawn[:, 60:90] == 128).all()


def test_supervision_gets_whole_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **fields: given.append(fields)))
    found = segmented()
    found.to_supervision()
    assert found.masks is not None
    np.testing.assert_array_equal(given[0]["mask"], found.masks.array)
    assert given[0]["mask"].dtype == bool
