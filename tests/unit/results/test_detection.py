from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from yoloship.results.detection import Detection


def thing(**extras: Any) -> Detection:
    return Detection((1.0, 2.0, 4.0, 8.0), 0.5, 0, "thing", **extras)


def test_a_box_alone_has_no_extras() -> None:
    plain = thing()
    assert (plain.keypoints, plain.box_xywhr, plain.corners_xy) == (None, None, None)
    assert plain.to_dict() == {"class_id": 0, "class_name": "thing", "score": 0.5, "box_xyxy": [1, 2, 4, 8]}
    assert plain.area_px == 18


@pytest.mark.parametrize("points", [((1.0, 2.0), (3.0, 4.0)), ((1.0, 2.0, 0.25), (3.0, 4.0, 1.0))])
def test_keypoints_are_lists_in_its_plain_data(points: tuple[tuple[float, ...], ...]) -> None:
    data = thing(keypoints=points).to_dict()
    assert data["keypoints"] == [list(point) for point in points]
    assert "box_xywhr" not in data
    assert json.loads(json.dumps(data)) == data


def test_an_oriented_box_has_its_corners_beside_it() -> None:
    oriented = thing(box_xywhr=(10.0, 20.0, 8.0, 4.0, 0.0))
    assert np.array_equal(oriented.corners_xy or (), [(14, 22), (14, 18), (6, 18), (6, 22)])
    data = oriented.to_dict()
    assert data["box_xywhr"] == [10, 20, 8, 4, 0]
    assert data["corners_xy"] == [[14, 22], [14, 18], [6, 18], [6, 22]]
    assert json.loads(json.dumps(data)) == data
