from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from yoloship.tracking.geometry import area, clipped, crosses, crosses_itself, inside_distances, side_distances

Floats = npt.NDArray[np.float64]
SQUARE = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
ARROW = np.array([[0.0, 0], [100, 50], [0, 100], [40, 50]])


def test_the_right_of_a_line_is_positive_in_pixels() -> None:
    start, end = np.array([0.0, 10]), np.array([40.0, 10])
    points = np.array([[5.0, 13], [5, 7], [-90, 10], [500, 12]])
    assert side_distances(points, start, end).tolist() == [3, -3, 0, 2]
    assert side_distances(points, end, start).tolist() == [-3, 3, 0, -2]


@pytest.mark.parametrize(
    ("before", "after", "does"),
    [
        ((20, 0), (20, 20), True),
        ((20, 20), (20, 0), True),
        ((20, 0), (20, 9.9), False),
        ((50, 0), (50, 20), False),
        ((30, 0), (48, 20), True),
        ((30, 0), (55, 20), False),
        ((0, 10), (40, 10), False),
    ],
    ids=["down", "up", "not far enough", "past the end", "slanted", "slanted past the end", "along"],
)
def test_a_step_crosses_a_line_between_its_ends(
    before: tuple[float, float], after: tuple[float, float], does: bool
) -> None:
    assert crosses(np.array(before), np.array(after), np.array([0.0, 10]), np.array([40.0, 10])) is does


def test_two_steps_that_meet_on_a_line_cross_it_once() -> None:
    line = np.array([0.0, 10]), np.array([40.0, 10])
    steps = [np.array([20.0, y]) for y in (5, 10, 15)]
    assert [crosses(steps[0], steps[1], *line), crosses(steps[1], steps[2], *line)] == [True, False]


@pytest.mark.parametrize("polygon", [SQUARE, SQUARE[::-1], ARROW, np.roll(ARROW, 2, axis=0)])
def test_distances_to_a_polygon_equal_those_of_opencv(polygon: Floats) -> None:
    points = np.random.default_rng(1).uniform(-20, 120, (200, 2))
    theirs = [cv2.pointPolygonTest(polygon.astype(np.float32), tuple(point), True) for point in points.tolist()]
    np.testing.assert_allclose(inside_distances(points, polygon), theirs, atol=1e-3)


def test_without_points_there_are_no_distances() -> None:
    assert inside_distances(np.empty((0, 2)), SQUARE).shape == (0,)
    assert side_distances(np.empty((0, 2)), SQUARE[0], SQUARE[1]).shape == (0,)


@pytest.mark.parametrize(
    ("corners", "does"),
    [
        (SQUARE.tolist(), False),
        (ARROW.tolist(), False),
        ([[0, 0], [10, 10], [10, 0], [0, 10]], True),
        ([[0, 0], [10, 0], [5, 0], [5, 9]], True),
        ([[0, 0], [10, 0], [10, 10], [5, 0], [0, 10]], True),
        ([[0, 0], [10, 0], [10, 10], [5, 1], [0, 10]], False),
        ([[0, 0], [5, 0], [10, 0], [10, 10]], False),
        ([[0, 0], [10, 0], [0, 0], [10, 10]], True),
        ([[0, 0], [4, 0], [4, 4]], False),
    ],
    ids=["square", "arrow", "bow tie", "back on itself", "touches an edge", "almost", "straight on", "twice", "three"],
)
def test_polygons_that_cross_or_touch_themselves_are_found(corners: list[list[float]], does: bool) -> None:
    assert crosses_itself(np.array(corners, float)) is does
    assert crosses_itself(np.array(corners[::-1], float)) is does


def test_the_area_does_not_depend_on_the_way_round() -> None:
    assert area(SQUARE) == area(SQUARE[::-1]) == 400
    assert area(ARROW) == pytest.approx(3000)


@pytest.mark.parametrize(
    "polygon",
    [SQUARE, SQUARE - 20, SQUARE + 90, ARROW, SQUARE * 100 - 1500, SQUARE - 30, ARROW[::-1] + np.array([60, 20])],
    ids=["inside", "corner", "outside", "arrow", "all around", "touches", "concave at the corner"],
)
def test_what_is_inside_the_image_remains(polygon: Floats) -> None:
    """Counted in cells of a quarter of a pixel."""
    x, y = np.meshgrid(np.arange(0.125, 100, 0.25), np.arange(0.125, 80, 0.25))
    cells = inside_distances(np.stack([x.ravel(), y.ravel()], axis=1), polygon) > 0
    part = clipped(polygon, 100, 80)
    assert area(part) == pytest.approx(cells.sum() / 16, abs=8)
    assert ((part >= 0) & (part <= [100, 80])).all()
