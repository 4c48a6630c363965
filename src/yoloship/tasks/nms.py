"""Non-maximum suppression: one plain reference, and a faster twin that gives the same boxes.

A box clashes only with boxes of its own group that overlap it by enough, and whose size is like its own: the IoU of two
boxes is at most the width that they share by the larger of their widths, and so for their heights. So kept boxes lie
sorted by group, by their width in steps of a quarter octave, and by their left edge; what could clash with a candidate
is then one short stretch for each step. All of that only leaves out pairs whose IoU cannot pass the limit; the IoU of
the others is computed. Heights take the place of widths if they tell boxes apart better.

Both forms are greedy by descending score; of equal scores the lower index comes first. A box goes if its IoU with a
kept one is above the threshold; boxes of different classes meet only if classes are ignored. All arithmetic is
float32, in the order of `yoloship.results.boxes.pair_ious`. What the inputs may hold:

- a candidate whose score or one of whose coordinates is NaN or infinite is never kept and suppresses nothing;
- a box whose right or bottom edge is not beyond its left or top one has no area, so its IoU with any box is 0;
- an IoU that overflows to NaN (coordinates near 1e19) suppresses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.boxes import box_ious, pair_ious

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Indices = npt.NDArray[np.int64]


MAX_PAIRS: Final = 1 << 19
"""Looked at together, which bounds the memory."""

_STEPS: Final = 4
_STEP: Final = 2.0 ** (1 / _STEPS) * (1 + 1e-6)
_MARGIN: Final = 1 - 1e-4
"""For the rounding of float32, which is below 1e-6 for sizes in `_SAFE`."""
_SAFE: Final = (2.0**-30, 2.0**40)


class NearBoxes:
    """The kept boxes among all candidates, and a way to those near another.

    Args:
        boxes_xyxy: (n, 4) float32, finite: all candidates.
        groups: (n,) int32; boxes clash only within one.
        limit: An IoU above it is a clash.
    """

    def __init__(self, boxes_xyxy: Float32, groups: npt.NDArray[np.int32], limit: np.float32) -> None:
        wide = boxes_xyxy.astype(np.float64)
        sizes = wide[:, 2:] - wide[:, :2]
        self._boxes, self._limit = boxes_xyxy, limit
        self._has_area: npt.NDArray[np.bool_] = np.asarray((sizes > 0).all(axis=1))
        real: npt.NDArray[np.float64] = sizes[self._has_area]
        axis = _sharper_axis(wide, real)
        self._low, self._high, self._size = wide[:, axis], wide[:, axis + 2], sizes[:, axis]
        is_safe = bool(len(real)) and bool((real > _SAFE[0]).all() and (real < _SAFE[1]).all())
        self._ratio = float(limit) * _MARGIN if is_safe else 0.0
        steps = np.ceil(_STEPS * np.log2(np.where(self._has_area, self._size, 1.0)))
        levels, level = np.unique(steps, return_inverse=True)
        self._most: list[float] = (np.exp2(levels / _STEPS) * (1 + 1e-9)).tolist()
        _, group = np.unique(groups, return_inverse=True)
        by_edge = np.argsort(self._low, kind="stable")
        self._edges = self._low[by_edge]
        rank = np.empty(len(wide), np.int64)
        rank[by_edge] = np.arange(len(wide))
        self._keys_of_a_level = len(wide) + 1
        self._group_start = group.astype(np.int64) * len(levels) * self._keys_of_a_level
        self._keys = self._group_start + level * self._keys_of_a_level + rank
        self._kept = np.empty(0, np.int64)
        self._kept_keys = np.empty(0, np.int64)

    def keep(self, rows: Indices) -> None:
        """Add candidates to the kept boxes."""
        rows = rows[self._has_area[rows]]  # a box without area clashes with none
        kept = np.concatenate([self._kept, rows])
        keys = self._keys[kept]
        order = np.argsort(keys, kind="stable")
        self._kept, self._kept_keys = kept[order], keys[order]

    def clash(self, rows: Indices) -> npt.NDArray[np.bool_]:
        """Whether each of some candidates clashes with a kept box."""
        gone = np.zeros(len(rows), bool)
        open_places = np.flatnonzero(self._has_area[rows])
        for level in range(len(self._most)):
            open_places = open_places[~gone[open_places]]
            places = open_places[self._alike(rows[open_places], level)]
            for of_pair, kept in self._pairs(rows[places], level):
                candidates = rows[places[of_pair]]
                near = self._overlap(candidates, kept)
                ious = pair_ious(self._boxes[kept[near]].T, self._boxes[candidates[near]].T)
                gone[places[of_pair[near][ious > self._limit]]] = True
        return gone

    def _alike(self, rows: Indices, level: int) -> npt.NDArray[np.bool_]:
        """Whether the size of each candidate is near enough to the sizes of a level."""
        most, size = self._most[level], self._size[rows]
        least = most / _STEP
        alike: npt.NDArray[np.bool_] = (most >= size * self._ratio) & (size >= least * self._ratio)
        return alike

    def _pairs(self, rows: Indices, level: int) -> Iterator[tuple[Indices, Indices]]:
        """Places among the candidates, and the kept boxes of a level that could clash with each, a piece at a time."""
        shared = self._ratio * self._size[rows]  # what they must have in common at least
        first_key = self._group_start[rows] + level * self._keys_of_a_level
        lowest = np.nextafter(self._low[rows] + shared - self._most[level], -np.inf)
        highest = np.nextafter(self._high[rows] - shared, np.inf)
        first = np.searchsorted(self._kept_keys, first_key + np.searchsorted(self._edges, lowest))
        last = np.searchsorted(self._kept_keys, first_key + np.searchsorted(self._edges, highest))
        counts = np.maximum(last - first, 0)
        ends = np.cumsum(counts)
        start = 0
        while start < len(rows):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + MAX_PAIRS, side="right")))
            piece = counts[start:stop]
            if total := int(piece.sum()):
                of_pair = np.repeat(np.arange(start, stop), piece)
                inside = np.arange(total) - np.repeat(np.cumsum(piece) - piece, piece)
                yield of_pair, self._kept[first[of_pair] + inside]
            start = stop

    def _overlap(self, candidates: Indices, kept: Indices) -> Indices:
        """The pairs whose boxes have a part in common; for all others the IoU is 0."""
        one, other = self._boxes[candidates], self._boxes[kept]
        meet = (one[:, 0] < other[:, 2]) & (other[:, 0] < one[:, 2]) & (one[:, 1] < other[:, 3])
        return np.flatnonzero(meet & (other[:, 1] < one[:, 3]))


def _sharper_axis(wide: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> int:
    """0 for x, 1 for y: along which boxes are smaller in relation to the field that they lie in."""
    if not len(sizes):
        return 0
    with np.errstate(over="ignore"):
        fields = wide[:, 2:].max(axis=0) - wide[:, :2].min(axis=0)
    return int(np.argmin(sizes.mean(axis=0) / np.maximum(fields, np.finfo(np.float64).tiny)))


_BLOCK: Final = 256
"""Candidates compared among themselves at once: 256² float32 stays in a second-level cache."""
_MANY: Final = 2048
"""Kept boxes from which on it pays to look for those near a candidate instead of comparing with all."""


def nms_reference(
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    group_ids: npt.NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> npt.NDArray[np.int64]:
    """Suppress boxes the plain way, one at a time.

    Args:
        boxes_xyxy: (n, 4) float32 in any one unit; read only.
        scores: (n,) float32; read only.
        group_ids: (n,) int32: boxes meet only within a group. Class ids, or zeros if classes are ignored.
        iou_threshold: In [0, 1].
        max_detections: Keep at most this many.

    Returns:
        (k,) int64 indices of the kept candidates, best first; the caller owns them.
    """
    limit = np.float32(iou_threshold)
    kept: list[int] = []
    for index in best_first(boxes_xyxy, scores).tolist():
        if len(kept) == max_detections:
            break
        rivals = [other for other in kept if group_ids[other] == group_ids[index]]
        if not any(pair_ious(boxes_xyxy[other], boxes_xyxy[index]) > limit for other in rivals):
            kept.append(index)
    return np.array(kept, np.int64)


def nms(
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    group_ids: npt.NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> npt.NDArray[np.int64]:
    """Give what `nms_reference` gives, a block of candidates at a time; arguments and result are the same."""
    order = best_first(boxes_xyxy, scores)
    boxes, groups = boxes_xyxy[order], group_ids[order]
    limit = np.float32(iou_threshold)
    kept = np.empty(0, np.int64)
    near: NearBoxes | None = None
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        if near is None and len(kept) > _MANY:
            near = NearBoxes(boxes, groups, limit)
            near.keep(kept)
        if near is not None:
            block = block[~near.clash(block)]
        elif len(kept):
            gone = _clashes(boxes[kept], groups[kept], boxes[block], groups[block], limit).any(axis=0)
            block = block[~gone]
        clashes = _clashes(boxes[block], groups[block], boxes[block], groups[block], limit)
        alive = np.ones(len(block), bool)
        for row in np.flatnonzero(np.triu(clashes, 1).any(axis=1)).tolist():
            if alive[row]:
                alive[row + 1 :] &= ~clashes[row, row + 1 :]
        kept = np.concatenate([kept, block[alive]])
        if near is not None:
            near.keep(block[alive])
        if len(kept) >= max_detections:
            break
    return order[kept[:max_detections]]


def best_first(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The order in which candidates are suppressed.

    Args:
        boxes: (n, 4) or (n, 5) float32; read only.
        scores: (n,) float32; read only.

    Returns:
        Indices (m,) int64 of the candidates whose numbers are all finite, best first, ties by index; the caller owns
        them.
    """
    order = np.argsort(-scores, kind="stable")
    usable = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return order[usable[order]]


def _clashes(
    first: npt.NDArray[np.float32],
    first_groups: npt.NDArray[np.int32],
    second: npt.NDArray[np.float32],
    second_groups: npt.NDArray[np.int32],
    limit: np.float32,
) -> npt.NDArray[np.bool_]:
    clashes: npt.NDArray[np.bool_] = (box_ious(first, second) > limit) & (first_groups[:, None] == second_groups)
    return clashes
