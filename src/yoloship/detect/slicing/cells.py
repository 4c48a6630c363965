"""Finds boxes near another without comparing all: `Cells`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Cells:
    """Some of many boxes, by the cells of a grid that they touch.

    Args:
        boxes_xyxy: (n, 4) float32 in pixels: all boxes.
        group_ids: (n,) int32: boxes of different groups are never near one another.
        side_px: The side of a cell. Boxes of about this size touch few cells.
    """

    def __init__(self, boxes_xyxy: npt.NDArray[np.float32], group_ids: npt.NDArray[np.int32], side_px: int) -> None:
        self._places = np.floor(boxes_xyxy / np.float32(side_px)).astype(np.int64).tolist()
        self._groups = group_ids.tolist()
        self._held: dict[tuple[int, int, int], list[int]] = {}

    def add(self, row: int) -> None:
        """Hold a box."""
        for cell in self._cells(row):
            self._held.setdefault(cell, []).append(row)

    def of(self, row: int) -> npt.NDArray[np.int64]:
        """The held boxes of its group that share a cell with a box, in the order of their rows."""
        found = [held for cell in self._cells(row) if (held := self._held.get(cell))]
        return np.array(sorted(set().union(*found)), np.int64)

    def _cells(self, row: int) -> product[tuple[int, int, int]]:
        left, top, right, bottom = self._places[row]
        return product((self._groups[row],), range(left, right + 1), range(top, bottom + 1))
