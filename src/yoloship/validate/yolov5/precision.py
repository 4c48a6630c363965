"""Average precision, and precision and recall at the best score threshold, by the formulas of YOLOv5's validation.

They differ from COCO's. The curve of precision over recall ends in the point (1, 0), its maximum from the right is
interpolated linearly at 101 recalls, and the area below it is that of trapezoids. A class without labels does not
count, however many detections it has.

Precision, recall and F1 are read at one score threshold for all classes: where the mean F1 over the classes, smoothed
over 101 of 1,000 thresholds, is highest.

Source: the official runs in bench/results/val-yolov5-2026-11-28.md, whose numbers these formulas give to 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]


POINTS: Final = 1000
"""Score thresholds, and recalls, of a curve."""
_RECALLS: Final = 101
_SMOOTHED: Final = 101
_EPSILON: Final = 1e-16


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """All detections and labels of a dataset, as far as precision needs them. The holder owns the arrays.

    Attributes:
        correct: (n, 10) bool: whether each detection is right at each IoU.
        scores: (n,) float32.
        class_ids: (n,) integer.
        label_ids: (m,) integer: the class of each label.
    """

    correct: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.integer]
    label_ids: npt.NDArray[np.integer]

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """Those of several images."""
        if not parts:
            none = np.zeros(0, np.int64)
            return cls(np.zeros((0, 10), bool), np.zeros(0, np.float32), none, none)
        return cls(
            np.concatenate([part.correct for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.class_ids for part in parts]),
            np.concatenate([part.label_ids for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Precisions:
    """Figures of the C classes that have labels. The holder owns the arrays.

    Attributes:
        class_ids: (C,) int64, ascending.
        labels: (C,) int64: how many each class has.
        ap: (C, 10) float64: average precision at each IoU.
        precision: (C, 1000) float64: at each score threshold, at IoU 0.5.
        recall: (C, 1000) float64.
        f1: (C, 1000) float64.
        precision_at_recall: (C, 1000) float64: over recall from 0 to 1.
        best: The place of the best score threshold among the 1,000; None if nothing was found.
    """

    class_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    ap: Doubles
    precision: Doubles
    recall: Doubles
    f1: Doubles
    precision_at_recall: Doubles
    best: int | None


def precisions(judged: Judged) -> Precisions:
    """Compute the figures of each class.

    If no detection is right at any IoU, everything is 0, and there is no best threshold.

    Args:
        judged: Detections in any order; those of equal scores keep theirs. Read only.
    """
    class_ids, labels = np.unique(judged.label_ids.astype(np.int64), return_counts=True)
    classes, ious = len(class_ids), judged.correct.shape[1]
    ap, at_recall = np.zeros((classes, ious)), np.zeros((classes, POINTS))
    precision, recall = np.zeros((classes, POINTS)), np.zeros((classes, POINTS))
    if not judged.correct.any():
        return Precisions(class_ids, labels, ap, precision, recall, np.zeros((classes, POINTS)), at_recall, None)
    order = np.argsort(-judged.scores, kind="stable")
    correct, scores, found_ids = judged.correct[order], judged.scores[order], judged.class_ids[order]
    points = np.linspace(0, 1, POINTS)
    for place, (class_id, count) in enumerate(zip(class_ids, labels, strict=True)):
        own = found_ids == class_id
        if not own.any():
            continue
        right = correct[own].cumsum(axis=0)
        wrong = (~correct[own]).cumsum(axis=0)
        recalls, shares = right / (count + _EPSILON), right / (right + wrong)
        falling = -scores[own]
        recall[place] = np.interp(-points, falling, recalls[:, 0], left=0)
        precision[place] = np.interp(-points, falling, shares[:, 0], left=1)
        for column in range(ious):
            ap[place, column], curve = _area(recalls[:, column], shares[:, column])
            if column == 0:
                at_recall[place] = np.interp(points, *curve)
    f1 = 2 * precision * recall / (precision + recall + _EPSILON)
    best = int(_smoothed(f1.mean(axis=0)).argmax())
    return Precisions(class_ids, labels, ap, precision, recall, f1, at_recall, best)


def _area(recall: Doubles, precision: Doubles) -> tuple[float, tuple[Doubles, Doubles]]:
    """The area below the curve, and the curve."""
    x = np.concatenate([[0.0], recall, [1.0]])
    y = np.concatenate([[1.0], precision, [0.0]])
    y = np.maximum.accumulate(y[::-1])[::-1]
    at = np.linspace(0, 1, _RECALLS)
    heights = np.interp(at, x, y)
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(at)).sum()), (x, y)


def _smoothed(values: Doubles) -> Doubles:
    """The mean over a window of `_SMOOTHED` points; the first and the last value go on beyond the ends."""
    half = _SMOOTHED // 2
    longer = np.concatenate([np.full(half, values[0]), values, np.full(half, values[-1])])
    return np.convolve(longer, np.full(_SMOOTHED, 1 / _SMOOTHED), "valid")
