from __future__ import annotations

import numpy as np

from yoloship.detect.slicing.cells import Cells
from yoloship.results.boxes import box_ious


def test_every_box_that_overlaps_another_is_near_it() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 900, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 300, (200, 2))], axis=1).astype(np.float32)
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
