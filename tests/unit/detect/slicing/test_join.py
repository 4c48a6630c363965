from __future__ import annotations

import numpy as np

from yoloship.detect.slicing.cells import Cells
from yoloship.detect.slicing.join import joined

LEFT, MIDDLE, RIGHT = (0, 0, 100, 100), (80, 0, 180, 100), (160, 0, 260, 100)
NOWHERE, AT_LEFT, AT_RIGHT = (False,) * 4, (True, False, False, False), (False, False, True, False)
BOTH = (True, False, True, False)
Row = tuple[tuple[float, ...], tuple[bool, ...], tuple[int, ...]]


def groups(*rows: Row, threshold: float = 0.5) -> list[list[int]]:
    """Boxes, best first, each with the edges that cut it and its tile."""
    boxes, cut_at, limits = (np.array(column) for column in zip(*rows, strict=True))
    boxes, limits = boxes.astype(np.float32), limits.astype(np.float32)
    cells = Cells(boxes, np.zeros(len(rows), np.int32), 100)
    return joined(range(len(rows)), cells, boxes, cut_at, limits, np.float32(threshold))


def test_two_parts_that_agree_in_the_stretch_that_both_tiles_show_are_one_object() -> None:
    assert groups(((50, 10, 100, 40), AT_RIGHT, LEFT), ((80, 12, 150, 40), AT_LEFT, MIDDLE)) == [[0, 1]]


def test_parts_that_differ_there_are_two_objects() -> None:
    assert groups(((50, 10, 100, 40), AT_RIGHT, LEFT), ((80, 30, 150, 60), AT_LEFT, MIDDLE)) == [[0], [1]]


def test_the_threshold_says_how_much_they_must_agree() -> None:
    rows: tuple[Row, Row] = (((50, 10, 100, 40), AT_RIGHT, LEFT), ((80, 20, 150, 40), AT_LEFT, MIDDLE))
    assert groups(*rows, threshold=0.6) == [[0, 1]]
    assert groups(*rows, threshold=0.7) == [[0], [1]]


def test_parts_are_joined_from_tile_to_tile_and_the_best_one_comes_first() -> None:
    parts: tuple[Row, ...] = (
        ((160, 10, 220, 40), AT_LEFT, RIGHT),
        ((50, 10, 100, 40), AT_RIGHT, LEFT),
        ((5, 50, 30, 90), NOWHERE, LEFT),
        ((80, 10, 180, 40), BOTH, MIDDLE),
    )
    assert groups(*parts) == [[0, 1, 3], [2]]


def test_a_part_is_joined_with_a_box_that_no_longer_needs_to_be_cut_itself() -> None:
    """The other box begins further left than the tile of the part, and ends inside both tiles."""
    assert groups(((85, 10, 130, 40), AT_LEFT, (85, 0, 180, 100)), ((60, 10, 130, 40), AT_LEFT, (60, 0, 160, 100))) == [
        [0, 1]
    ]


def test_boxes_that_end_in_the_stretch_are_not_joined() -> None:
    """Neither goes on beyond the edge of the other's tile."""
    assert groups(((82, 10, 98, 40), AT_RIGHT, LEFT), ((82, 10, 98, 40), AT_LEFT, MIDDLE)) == [[0], [1]]
