from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.sources import Stream
from yoloship.tracking.shapes import Line, Placed, Point, Rule, Zone

PIXELS = Rule("pixels")
HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": "percent"}, "units: no such choice: expected fractions or pixels, got 'percent'"),
        ({"anchor": "feet"}, "anchor: no such choice: expected bottom-center or center or top-center"),
        ({"band": -1}, "band: out of range: expected a number of fractions from 0 to 0.5, got -1"),
        ({"band": 3}, "band: out of range"),
        ({"band": float("nan")}, "band: out of range"),
        ({"band": "wide"}, "band: out of range"),
        ({"min_frames": 0}, "min_frames: out of range: expected a whole number from 1 to 10000, got 0"),
        ({"min_frames": True}, "min_frames: out of range"),
    ],
)
def test_rules_out_of_range_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rule(**changes)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([(0, 0), (1, 1)], "zone 'door': has the wrong number of points: expected 3 to 200 points x, y, got 2 points"),
        ([(0.1 * i, 0) for i in range(300)], "wrong number of points"),
        ([(0, 0), (0.5, 0.5), (1, 1)], "zone 'door': the polygon has no area, so nothing can be in it"),
        ([(0, 0), (1, 1), (0, 0), (1, 1)], "the polygon has no area"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "zone 'door': the (edges of the polygon cross|polygon has no area)"),
        ([(0, 0), (1, 1), (1, 0.2), (0, 1)], "the edges of the polygon cross or touch each other"),
        ([(0, 0), (1, 1), (640, 0)], "zone 'door': is too far away: expected fractions of at most 2.*'units: pixels'"),
        ([(0, 0), (1, float("nan")), (1, 0)], "zone 'door': is not a point: expected two numbers x, y"),
        ([(0, 0), (1, 1, 1), (1, 0)], "is not a point"),
        ([(0, 0), "ab", (1, 0)], "is not a point"),
        ("abc", "wrong number of points"),
        (None, "wrong number of points"),
    ],
)
def test_polygons_that_nothing_can_be_in_are_refused(corners: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Zone("door", corners)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, 5, None])
def test_a_zone_needs_a_name(name: Any) -> None:
    with pytest.raises(InputError, match="name: a zone needs a name"):
        Zone(name, HALF)


def test_a_line_without_length_is_refused() -> None:
    with pytest.raises(InputError, match="line 'gate': has no length, so nothing can cross it"):
        Line("gate", (0.5, 0.5), (0.5, 0.5))


def test_fractions_become_pixels_of_each_image() -> None:
    placed = Placed.of(Zone("half", HALF), (100, 400))
    assert placed.points_xy.tolist() == [[0, 0], [200, 0], [200, 100], [0, 100]]
    assert placed.band_px == 1
    assert Placed.of(Zone("half", HALF, Rule(band=0.05)), (100, 400)).band_px == 5
    assert Placed.of(Zone("some", ((0, 0), (9, 0), (9, 9)), Rule("pixels", band=7)), (100, 400)).band_px == 7


def test_the_anchor_is_a_point_of_the_box() -> None:
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    for anchor, y in (("bottom-center", 60), ("center", 40), ("top-center", 20)):
        assert Rule(anchor=anchor).anchors(boxes).tolist() == [[20, y]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (((0, 50), (100, 50)), None),
        (((50, 0), (50, 80)), None),
        (((-50, 40), (150, 40)), None),
        (((0, 200), (100, 200)), "lies outside the image, so nothing will ever cross it"),
        (((200, 0), (300, 80)), "lies outside the image"),
        (((-10, 90), (-10, -90)), "lies outside the image"),
        (((0, 80), (100, 80)), "has no room in the image on its right"),
        (((100, 79.5), (0, 79.5)), "has no room in the image on its left"),
        (((0, 0.4), (100, 0.4)), "has no room in the image on its left"),
    ],
)
def test_a_line_that_can_never_count_is_known(line: tuple[Point, Point], problem: str | None) -> None:
    found = Placed.of(Line("gate", line[0], line[1], Rule("pixels", band=1)), (80, 100)).problem
    assert (found is None) == (problem is None)
    assert (problem or "") in (found or "")


def test_a_zone_that_can_never_count_is_known() -> None:
    inside, outside = ((90, 70), (200, 70), (200, 200)), ((120, 10), (200, 10), (200, 60))
    assert Placed.of(Zone("edge", inside, PIXELS), (80, 100)).problem is None
    problem = Placed.of(Zone("away", outside, PIXELS), (80, 100)).problem
    assert problem == "lies outside the image, so nothing will ever be in it"


def test_a_shape_may_be_for_some_streams_only() -> None:
    door, rtsp = Stream("videos/door.mp4"), Stream("rtsp://camera/1")
    assert Rule().is_for(door)
    assert Rule().is_for(None)
    assert Rule(streams=("door.mp4",)).is_for(door)
    assert Rule(streams=("videos/door.mp4", "x")).is_for(door)
    assert Rule(streams=("rtsp://camera/1",)).is_for(rtsp)
    assert not Rule(streams=("door.mp4",)).is_for(rtsp)
    assert not Rule(streams=("door.mp4",)).is_for(None)
