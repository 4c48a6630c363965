"""Non-maximum suppression as YOLOv5's validation does it: every class of a box counts on its own.

A box with several classes above the threshold becomes several detections, which suppress only boxes of their own
class. The official code moves each class 7,680 pixels away from the one before, in float32, and suppresses once. This
rounds the boxes of high classes to a sixteenth of a pixel, so it is done here too.

Source: the official runs in bench/results/val-yolov5-2026-11-28.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.tasks.decode import OBJECT_COLUMNS, corners
from yoloship.tasks.nms import nms

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Answers = tuple[Floats, Floats, npt.NDArray[np.int32]]


MAX_CANDIDATES: Final = 30_000
"""Of an image only this many, the best, meet in suppression."""
CLASS_OFFSET_PX: Final = np.float32(7680)


def candidates(rows: Floats, classes: int, score_threshold: float) -> Answers:
    """All pairs of a box and a class of one image that are above a threshold.

    Args:
        rows: (N, 5 + C) float32: cx, cy, w, h in model pixels, objectness and class scores in [0, 1]; read only.
        classes: C. Columns that follow are ignored.
        score_threshold: In [0, 1]. Objectness and score must both be above it.

    Returns:
        Boxes (n, 4) float32 xyxy in model pixels, scores (n,) float32 and class ids (n,) int32, by row and then by
        class; the caller owns them.
    """
    limit = np.float32(score_threshold)
    rows = rows[rows[:, 4] > limit]
    scores = rows[:, OBJECT_COLUMNS : OBJECT_COLUMNS + classes] * rows[:, 4:5]
    box, class_ids = np.nonzero(scores > limit)
    return corners(rows[:, :4])[box], scores[box, class_ids], class_ids.astype(np.int32)


def suppressed(
    found: Answers, *, iou_threshold: float, max_detections: int, per_class: bool = True
) -> npt.NDArray[np.int64]:
    """Which candidates are kept: (k,) int64 indices, best first, ties by index; the caller owns them.

    Args:
        found: As `candidates` gives it; read only.
        iou_threshold: In [0, 1]; a box goes if its IoU with a better one is above it.
        max_detections: Keep at most this many.
        per_class: Whether only boxes of one class suppress each other.
    """
    boxes, scores, class_ids = found
    best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    groups = class_ids[best] if per_class else np.zeros(len(best), np.int32)
    moved = boxes[best] + groups.astype(np.float32)[:, None] * CLASS_OFFSET_PX
    kept = nms(moved, scores[best], groups, iou_threshold=_below(iou_threshold), max_detections=max_detections)
    return best[kept]


def _below(threshold: float) -> float:
    """The largest float32 that is at most the threshold: the official code compares a float32 IoU with a float64."""
    nearest = np.float32(threshold)
    is_above = float(nearest) > threshold  # NumPy would compare two float32
    return float(np.nextafter(nearest, np.float32(0)) if is_above else nearest)
