"""Plane geometry of points, lines and polygons, for zones and counting lines. The y axis points down, as in images."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def side_distances(points_xy: Floats, start_xy: Floats, end_xy: Floats) -> Floats:
    """How far points are from the line through two others.

    Args:
        points_xy: (n, 2); read only.
        start_xy: (2,); read only.
        end_xy: (2,), not the same point; read only.

    Returns:
        (n,): positive on the right of somebody who walks from start to end, negative on the left.
    """
    way, away = end_xy - start_xy, points_xy - start_xy
    crossed: Floats = (way[0] * away[:, 1] - way[1] * away[:, 0]) / np.hypot(*way)
    return crossed


def crosses(before_xy: Floats, after_xy: Floats, start_xy: Floats, end_xy: Floats) -> bool:
    """Whether somebody who walks straight from one point to another crosses the line between two others.

    A point on the line counts as one on its right, so that two steps that meet there cross it once.
    """
    one, other = side_distances(np.stack([before_xy, after_xy]), start_xy, end_xy)
    if (one >= 0) == (other >= 0):
        return False
    place = before_xy + (after_xy - before_xy) * (one / (one - other))
    way = end_xy - start_xy
    share = float((place - start_xy) @ way / (way @ way))
    return 0 <= share <= 1


def inside_distances(points_xy: Floats, polygon_xy: Floats) -> Floats:
    """How far points are inside a polygon.

    Args:
        points_xy: (n, 2); read only.
        polygon_xy: (k, 2), the corners of a polygon that does not cross itself; read only.

    Returns:
        (n,): the distance to the nearest edge; negative outside.
    """
    start, end = polygon_xy, np.roll(polygon_xy, -1, axis=0)
    way, away = end - start, points_xy[:, None] - start
    share = np.clip((away * way).sum(axis=2) / np.maximum((way * way).sum(axis=1), 1e-300), 0, 1)
    nearest = np.hypot(*np.moveaxis(away - share[..., None] * way, 2, 0)).min(axis=1)
    below = (start[:, 1] <= points_xy[:, 1:]) != (end[:, 1] <= points_xy[:, 1:])  # the edge passes the point's height
    with np.errstate(divide="ignore", invalid="ignore"):
        passes = start[:, 0] + (points_xy[:, 1:] - start[:, 1]) * way[:, 0] / way[:, 1]
    is_inside = (below & (points_xy[:, :1] < passes)).sum(axis=1) % 2 == 1
    distances: Floats = np.where(is_inside, nearest, -nearest)
    return distances


def area(polygon_xy: Floats) -> float:
    """The area of a polygon that does not cross itself, (k, 2), whichever way round its corners go."""
    x, y = polygon_xy.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def crosses_itself(polygon_xy: Floats) -> bool:
    """Whether two edges of a polygon, (k, 2), meet elsewhere than at the corner between them."""
    count = len(polygon_xy)
    edges = [(polygon_xy[i], polygon_xy[(i + 1) % count]) for i in range(count)]
    for (i, one), (j, other) in combinations(enumerate(edges), 2):
        if j - i in {1, count - 1}:  # neighbours share a corner, and may only lie on each other
            shared, first, last = (one[1], one[0], other[1]) if j - i == 1 else (one[0], one[1], other[0])
            turn = _turn(first, shared, last)
            if turn == 0 and float((first - shared) @ (last - shared)) > 0:
                return True
        elif _meet(*one, *other):
            return True
    return False


def clipped(polygon_xy: Floats, width: float, height: float) -> Floats:
    """The part of a polygon, (k, 2), inside an image: (m, 2), which has no area if none is. The caller owns it.

    Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    corners = list(polygon_xy)
    for axis, limit, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        kept: list[Floats] = []
        for here, there in zip(corners, corners[1:] + corners[:1], strict=True):
            inside, next_inside = (sign * (point[axis] - limit) >= 0 for point in (here, there))
            if inside:
                kept.append(here)
            if inside != next_inside:
                kept.append(here + (there - here) * ((limit - here[axis]) / (there[axis] - here[axis])))
        corners = kept
    return np.array(corners, np.float64).reshape(-1, 2)


def _turn(first: Floats, second: Floats, third: Floats) -> float:
    """Above 0 if the way over three points turns right, below 0 if it turns left."""
    one, other = second - first, third - first
    return float(one[0] * other[1] - one[1] * other[0])


def _meet(a: Floats, b: Floats, c: Floats, d: Floats) -> bool:
    """Whether the lines from a to b and from c to d have a point in common."""
    turns = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((turns[0], a, b, c), (turns[1], a, b, d), (turns[2], c, d, a), (turns[3], c, d, b))
    return any(
        turn == 0 and bool(((np.minimum(one, other) <= point) & (point <= np.maximum(one, other))).all())
        for turn, one, other, point in ends
    )
