from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.results.drawing import class_color
from yoloship.tracking.counting import LineCount, ZoneCount
from yoloship.tracking.scene import Scene
from yoloship.tracking.scene_drawing import FIRST_COLOR, draw_scene
from yoloship.tracking.shapes import Line, Placed, Point, Rule, Zone

Image = npt.NDArray[np.uint8]
HW = (300, 400)
PIXELS = Rule("pixels")


def zone(*corners: Point) -> Scene:
    placed = Placed.of(Zone("queue", corners, PIXELS), HW)
    return Scene({"queue": (placed, ZoneCount({4: "person"}, None, 1, 0, None, None))}, {}, HW)


def line(start: Point, end: Point) -> Scene:
    placed = Placed.of(Line("door", start, end, PIXELS), HW)
    return Scene({}, {"door": (placed, LineCount({"person": 3}, {}))}, HW)


def drawn(scene: Scene, value: int = 128) -> tuple[Image, npt.NDArray[np.bool_]]:
    image = np.full((*HW, 3), value, np.uint8)
    canvas = draw_scene(image.copy(), scene)
    return canvas, np.asarray((canvas != image).any(axis=2))


def test_a_zone_is_tinted_inside_and_only_there() -> None:
    canvas, marks = drawn(zone((100, 100), (200, 100), (200, 250), (100, 250)))
    assert marks[130:240, 110:190].all()
    assert not marks[130:220, 210:].any()
    assert not marks[260:].any()
    tint = np.rint(128 * 0.78 + np.array(class_color(FIRST_COLOR)) * 0.22)
    np.testing.assert_allclose(canvas[200, 150], tint, atol=1)


def test_a_line_is_drawn_with_an_arrow_to_its_right() -> None:
    color = np.array(class_color(FIRST_COLOR))
    canvas, _ = drawn(line((50, 150), (350, 150)))
    is_line = (canvas == color).all(axis=2)
    assert is_line[150, 60:150].all()
    below, above = is_line[156:175, 180:220].sum(), is_line[125:144, 180:220].sum()
    assert below > 20
    assert above == 0
    back, _ = drawn(line((350, 150), (50, 150)))
    assert (back == color).all(axis=2)[125:144, 180:220].sum() > 20


@pytest.mark.parametrize("value", [0, 255])
def test_it_shows_on_dark_and_light(value: int) -> None:
    canvas, marks = drawn(line((50, 150), (350, 250)), value)
    assert np.abs(canvas[marks].astype(int) - value).max() > 90


@pytest.mark.parametrize(
    "scene",
    [
        zone((-1e6, -1e6), (1e6, -1e6), (1e6, 1e6)),
        zone((-500, -500), (-400, -500), (-400, -400)),
        zone((900, 10), (990, 10), (990, 90)),
        line((-1e6, 1e6), (1e6, -1e6)),
        line((700, 700), (800, 900)),
    ],
)
def test_shapes_far_away_are_no_trouble(scene: Scene) -> None:
    canvas, _ = drawn(scene)
    assert canvas.shape == (*HW, 3)


def test_labels_are_drawn_also_on_small_images() -> None:
    scene = line((2, 5), (8, 5))
    canvas = draw_scene(np.zeros((10, 10, 3), np.uint8), scene)
    assert canvas.any()
