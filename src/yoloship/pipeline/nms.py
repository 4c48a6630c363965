"""Non-maximum suppression: one plain reference, and a faster twin that gives the same boxes.

Both are greedy by descending score (ties: the lower index first). A box goes when its IoU with a kept one is above the
threshold; boxes of different classes meet only where classes are ignored. All arithmetic is float32, in the order that
`_iou` writes out, so that a twin elsewhere (in a graph, in CUDA) can repeat it to the bit. What the inputs may hold:

- a candidate whose score or one of whose coordinates is NaN or infinite is never kept and suppresses nothing;
- a box whose right or bottom edge is not beyond its left or top one has no area, so its IoU with any box is 0;
- an IoU that overflows to NaN (coordinates near 1e19) suppresses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.pipeline.near_boxes import NearBoxes

if TYPE_CHECKING:
    import numpy.typing as npt

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
        group_ids: (n,) int32: boxes meet only within a group. Class ids, or zeros where classes are ignored.
        iou_threshold: In [0, 1].
        max_detections: Keep at most this many.

    Returns:
        (k,) int64 indices of the kept candidates, best first; the caller owns them.
    """
    limit = np.float32(iou_threshold)
    kept: list[int] = []
    for index in _order(boxes_xyxy, scores).tolist():
        if len(kept) == max_detections:
            break
        rivals = [other for other in kept if group_ids[other] == group_ids[index]]
        if not any(
            _iou(boxes_xyxy[other : other + 1], boxes_xyxy[index : index + 1])[0, 0] > limit for other in rivals
        ):
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
    order = _order(boxes_xyxy, scores)
    boxes, groups = boxes_xyxy[order], group_ids[order]
    limit = np.float32(iou_threshold)
    kept = np.empty(0, np.int64)
    near: NearBoxes | None = None
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        if near is None and len(kept) > _MANY:
            near = NearBoxes(boxes, groups, limit, _pair_ious)
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


def _order(boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Indices of usable candidates, best first, ties by index."""
    order = np.argsort(-scores, kind="stable")
    usable = np.isfinite(boxes_xyxy).all(axis=1) & np.isfinite(scores)
    return order[usable[order]]


def _clashes(
    first: npt.NDArray[np.float32],
    first_groups: npt.NDArray[np.int32],
    second: npt.NDArray[np.float32],
    second_groups: npt.NDArray[np.int32],
    limit: np.float32,
) -> npt.NDArray[np.bool_]:
    clashes: npt.NDArray[np.bool_] = (_iou(first, second) > limit) & (first_groups[:, None] == second_groups)
    return clashes


def _iou(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, m) float32 IoU of (n, 4) with (m, 4) boxes; 0 where neither has an area."""
    return _ious(first.T[:, :, None], second.T)


def _pair_ious(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n,) float32 IoU of (n, 4) with (n, 4) boxes, row by row; the arithmetic is that of `_iou`."""
    return _ious(first.T, second.T)


def _ious(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    zero = np.float32(0)
    x1, y1, x2, y2 = first
    u1, v1, u2, v2 = second
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        width = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), zero)
        height = np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), zero)
        overlap = width * height
        area = np.maximum(x2 - x1, zero) * np.maximum(y2 - y1, zero)
        other = np.maximum(u2 - u1, zero) * np.maximum(v2 - v1, zero)
        union = area + other - overlap
        iou: npt.NDArray[np.float32] = np.where(union > zero, overlap / union, zero)
    return iou
