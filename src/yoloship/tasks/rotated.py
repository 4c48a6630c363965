"""Suppression of oriented boxes by probabilistic IoU: one plain reference, and a faster twin that gives the same boxes.

Unlike `yoloship.tasks.nms`, it is not greedy: a box goes if its probabilistic IoU with any better box of its group is
above the threshold, also with one that has gone itself. That is how the field's tools suppress oriented boxes.

Better means a higher score, or of equal scores the lower index. A candidate with a number that is not finite is never
kept and suppresses nothing, and a probabilistic IoU of NaN suppresses nothing. All arithmetic is float32, in the order
of `yoloship.results.oriented.pair_probious`. Versions of Ultralytics before 8.4 drop a box at the threshold too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.results.oriented import moments_of, pair_probious
from yoloship.tasks.nms import best_first

if TYPE_CHECKING:
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Indices = npt.NDArray[np.int64]

_BLOCK: Final = 128
"""Candidates that are compared with all others at once."""
_PIECE: Final = 1 << 16
"""Pairs whose IoU is computed at once, so that the arrays stay in a cache."""
_USUAL_SIDE_PX: Final = (0.5, 1e5)
_USUAL_RATIO: Final = 50.0
"""Boxes with such sides lose nothing to rounding, so the distance of their centres alone can rule a pair out."""


def rotated_nms_reference(
    boxes_xywhr: Float32,
    scores: Float32,
    group_ids: npt.NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> Indices:
    """Suppress oriented boxes the plain way, one pair at a time.

    Args:
        boxes_xywhr: (n, 5) float32: centre, sides and angle in radians, in model pixels; read only.
        scores: (n,) float32; read only.
        group_ids: (n,) int32: boxes meet only within a group. Class ids, or zeros if classes are ignored.
        iou_threshold: In [0, 1], for the probabilistic IoU.
        max_detections: Keep at most this many.

    Returns:
        (k,) int64 indices of the kept candidates, best first; the caller owns them.
    """
    limit = np.float32(iou_threshold)
    order = best_first(boxes_xywhr, scores).tolist()
    moments = moments_of(boxes_xywhr)
    kept = []
    for rank, index in enumerate(order):
        better = [other for other in order[:rank] if group_ids[other] == group_ids[index]]
        if not any(pair_probious(moments[:, other], moments[:, index]) > limit for other in better):
            kept.append(index)
    return np.array(kept[:max_detections], np.int64)


def rotated_nms(
    boxes_xywhr: Float32,
    scores: Float32,
    group_ids: npt.NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> Indices:
    """Give what `rotated_nms_reference` gives, a block of candidates at a time; arguments and result are the same."""
    order = best_first(boxes_xywhr, scores)
    boxes, groups = boxes_xywhr[order], group_ids[order]
    moments = moments_of(boxes)
    limit = np.float32(iou_threshold)
    reach = _reaches(boxes, iou_threshold)
    gone = np.zeros(len(order), bool)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        later = start + 1 + np.flatnonzero(~gone[start + 1 :])
        if not len(later):
            break
        for better, worse in _near(moments, groups, reach, np.arange(start, stop), later):
            clash = pair_probious(moments[:, better], moments[:, worse]) > limit
            gone[worse[clash]] = True
        if np.count_nonzero(~gone[:stop]) >= max_detections:
            break
    return order[np.flatnonzero(~gone)[:max_detections]]


def _near(
    moments: Float32, groups: npt.NDArray[np.int32], reach: Float32, block: Indices, later: Indices
) -> list[tuple[Indices, Indices]]:
    """Pairs of a candidate of the block and a later one of its group that may clash, in pieces.

    Args:
        moments: (5, n), best first.
        groups: (n,).
        reach: As `_reaches` gave it.
        block: Consecutive candidates.
        later: The candidates after the block's first that are not gone.
    """
    one, other = block[:, None], later[None]
    with np.errstate(over="ignore", invalid="ignore"):
        dx, dy = moments[0, one] - moments[0, other], moments[1, one] - moments[1, other]
        apart = dx * dx + dy * dy > reach[one] + reach[other]
    near = ~apart & (groups[one] == groups[other]) & (one < other)
    rows, columns = np.divmod(np.flatnonzero(near), len(later))  # of two axes at once NumPy's search is far slower
    better, worse = block[rows], later[columns]
    return [(better[at : at + _PIECE], worse[at : at + _PIECE]) for at in range(0, len(better), _PIECE)]


def _reaches(boxes: Float32, iou_threshold: float) -> Float32:
    """(n,) numbers: two boxes cannot clash if the squared distance of their centres exceeds the sum of theirs.

    With d the distance of the centres and L the longer side of each box, the distance of Bhattacharyya is at least
    3d² / (L₁² + L₂²): the moments of a box are at most L²/12 in every direction. A probabilistic IoU above a threshold
    t needs a distance below −ln(1 + ε − (1 − t)²). A margin of 2 % and 0.001 is more than float32 rounds.
    """
    farthest = -math.log(1 + 1e-7 - (1 - iou_threshold) ** 2)
    longer, shorter = np.abs(boxes[:, 2:4]).max(axis=1), np.abs(boxes[:, 2:4]).min(axis=1)
    usual = (shorter > _USUAL_SIDE_PX[0]) & (longer < _USUAL_SIDE_PX[1]) & (longer < shorter * _USUAL_RATIO)
    usual &= (np.abs(boxes[:, :2]) < _USUAL_SIDE_PX[1]).all(axis=1)
    with np.errstate(over="ignore"):
        squared = longer * longer * np.float32((farthest * 1.02 + 1e-3) / 3)
    reaches: Float32 = np.where(usual, squared, np.float32(np.inf))
    return reaches
