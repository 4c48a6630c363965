"""Finds boxes near another without comparing all: `Cells`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

_MANY: Final = 64
"""Cells. A box that touches more of them is near every box of its group, so that one box takes little memory, whatever
its size."""


class Cells:
    """Some of many boxes, by the cells of a grid that they touch.

    Args:
        boxes_xyxy: (n, 4) float32 in pixels: all boxes.
        group_ids: (n,) int32: boxes of different groups are never near one another.
        side_px: The side of a cell. Boxes of about this size touch few cells.
    """

    def __init__(self, boxes_xyxy: npt.NDArray[np.float32], group_ids: npt.NDArray[np.int32], side_px: int) -> None:
        with np.errstate(invalid="ignore"):  # of a box that is not finite
            self._places = np.floor(boxes_xyxy / np.float32(side_px)).astype(np.int64).tolist()
        self._groups = group_ids.tolist()
        self._of_cell: dict[tuple[int, int, int], list[int]] = {}
        self._of_group: dict[int, list[int]] = {}
        self._large: dict[int, list[int]] = {}

    def add(self, row: int) -> None:
        """Hold a box."""
        group = self._groups[row]
        self._of_group.setdefault(group, []).append(row)
        if self._is_large(row):
            self._large.setdefault(group, []).append(row)
            return
        for cell in self._cells(row):
            self._of_cell.setdefault(cell, []).append(row)

    def of(self, row: int) -> npt.NDArray[np.int64]:
        """The held boxes of its group that share a cell with a box, perhaps others too, in order of their rows."""
        group = self._groups[row]
        if self._is_large(row):
            return np.array(sorted(self._of_group.get(group, ())), np.int64)
        found = [held for cell in self._cells(row) if (held := self._of_cell.get(cell))]
        return np.array(sorted(set(self._large.get(group, ())).union(*found)), np.int64)

    def _is_large(self, row: int) -> bool:
        left, top, right, bottom = self._places[row]
        return bool((right - left + 1) * (bottom - top + 1) > _MANY)

    def _cells(self, row: int) -> Iterable[tuple[int, int, int]]:
        left, top, right, bottom = self._places[row]
        return product((self._groups[row],), range(left, right + 1), range(top, bottom + 1))
