"""Joins the parts of an object that lies whole in no tile: `joined`.

Two boxes of a class are of one object if one is cut at an edge of its tile and the other goes on beyond that edge, and
if they are the same box in the stretch that both tiles show: there their IoU is at least a threshold. Their object is
then the smallest box around both, and so on from tile to tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.results.boxes import pair_ious

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.detect.slicing.cells import Cells

    Float32 = npt.NDArray[np.float32]
    Flags = npt.NDArray[np.bool_]


def joined(
    rows: Sequence[int], cells: Cells, boxes: Float32, cut_at: Flags, limits: Float32, threshold: np.float32
) -> list[list[int]]:
    """Which boxes are of one object.

    Args:
        rows: Those to look at, best first; none is kept in `cells` yet.
        cells: Finds the boxes near another.
        boxes: (n, 4) float32: all boxes, in pixels of the image.
        cut_at: (n, 4): whether each is cut at the left, top, right or bottom edge of its tile.
        limits: (n, 4) float32: these edges, in pixels of the image.
        threshold: The IoU from which on two boxes are the same in the stretch that both tiles show.

    Returns:
        Each of `rows` once, with the others of its object. The best of an object comes first, and so do the objects
        with the best ones.
    """
    lead = {row: row for row in rows}

    def lead_of(row: int) -> int:
        while lead[row] != row:
            lead[row] = lead[lead[row]]
            row = lead[row]
        return row

    place = {row: number for number, row in enumerate(rows)}
    for row in rows:
        if cut_at[row].any():
            near = cells.of(row)
            continues = _continues(near, row, boxes, cut_at, limits, threshold)
            for other in near[continues].tolist():
                first, second = sorted((lead_of(other), lead_of(row)), key=place.__getitem__)
                lead[second] = first
            cells.add(row)
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(lead_of(row), []).append(row)
    return list(groups.values())


def _continues(
    near: npt.NDArray[np.int64], row: int, boxes: Float32, cut_at: Flags, limits: Float32, threshold: np.float32
) -> Flags:
    """Whether each of some boxes is of the object of another, of which both show a part."""
    box, others, mine, theirs = boxes[row], boxes[near], limits[row], limits[near]
    they_go_on = np.concatenate([others[:, :2] < mine[:2], others[:, 2:] > mine[2:]], axis=1)
    i_go_on = np.concatenate([box[:2] < theirs[:, :2], box[2:] > theirs[:, 2:]], axis=1)
    goes_on = (cut_at[row] & they_go_on).any(axis=1) | (cut_at[near] & i_go_on).any(axis=1)
    low, high = np.maximum(theirs[:, :2], mine[:2]), np.minimum(theirs[:, 2:], mine[2:])
    both_show = np.concatenate([low, high], axis=1)
    ious = pair_ious(_inside(others, both_show).T, _inside(box, both_show).T)
    continues: Flags = goes_on & (ious >= threshold)
    return continues


def _inside(boxes: Float32, limits: Float32) -> Float32:
    """Boxes, cut to what lies inside some limits."""
    low, high = np.tile(limits[:, :2], 2), np.tile(limits[:, 2:], 2)
    inside: Float32 = np.clip(boxes, low, high)
    return inside
