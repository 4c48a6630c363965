from __future__ import annotations

import numpy as np

from yoloship.detect.slicing.cells import Cells
from yoloship.results.boxes import box_ious


def test_every_box_that_overlaps_another_is_near_it() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 900, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 300, (200, 2)) ** 1.2], axis=1).astype(np.float32)
    groups = rng.integers(0, 3, 200).astype(np.int32)
    cells = Cells(boxes, groups, 64)
    for row in range(200):
        cells.add(row)
    overlaps = (box_ious(boxes, boxes) > 0) & (groups[:, None] == groups)
    for row in range(200):
        near = cells.of(row)
        assert set(np.flatnonzero(overlaps[row]).tolist()) <= set(near.tolist())
        assert (groups[near] == groups[row]).all()
        assert near.tolist() == sorted(set(near.tolist()))


def test_nothing_is_near_in_an_empty_grid() -> None:
    cells = Cells(np.array([[0, 0, 10, 10]], np.float32), np.zeros(1, np.int32), 8)
    assert cells.of(0).tolist() == []


def test_a_box_of_any_size_takes_little_memory_and_time() -> None:
    """One over a million cells, and one that is not finite."""
    boxes = np.array([[0, 0, 60_000, 60_000], [5, 5, 9, 9], [0, np.nan, 50, 50], [np.inf, 0, 1, 2]], np.float32)
    cells = Cells(boxes, np.zeros(4, np.int32), 32)
    for row in range(4):
        cells.add(row)
    assert 0 in cells.of(1).tolist()
    assert {0, 1} <= set(cells.of(0).tolist())
    assert len(cells._of_cell) < 64
