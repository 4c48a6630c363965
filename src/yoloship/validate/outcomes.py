"""Every detection of a dataset as right or wrong: `Outcomes`, and precision and recall at a score threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import Scored
    from yoloship.evaluate.evaluator import Match

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The detections of all images that count, the best first. The arrays are read-only.

    Attributes:
        scores: (n,) float64, descending.
        class_ids: (n,) int64.
        right: (n,) bool: whether it finds an object, at IoU 0.5.
        labels: (C,) int64: how many objects of each class there are.
    """

    scores: Floats
    class_ids: Ints
    right: npt.NDArray[np.bool_]
    labels: Ints

    @classmethod
    def of(cls, scored: Sequence[Scored], matches: Sequence[Match], labels: Ints) -> Outcomes:
        """Collect them.

        Args:
            scored: What was found in each image; at least one.
            matches: Which of it is right, in the same order.
            labels: (C,) int64: how many objects of each class count.
        """
        finds = np.concatenate([match.finds for match in matches])
        counts = finds > -2
        scores = np.concatenate([one.scores for one in scored]).astype(np.float64)[counts]
        class_ids = np.concatenate([one.class_ids for one in scored]).astype(np.int64)[counts]
        order = np.argsort(-scores, kind="stable")
        arrays = (scores[order], class_ids[order], finds[counts][order] >= 0, labels)
        for array in arrays:
            array.flags.writeable = False
        return cls(*arrays)

    def of_class(self, class_id: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The scores of one class, descending, and which of them are right."""
        own = self.class_ids == class_id
        return self.scores[own], self.right[own]


def precision_and_recall(outcomes: Outcomes, class_id: int, confidences: Floats) -> tuple[Floats, Floats]:
    """Precision and recall of the detections of a class that score a confidence or more.

    Args:
        outcomes: All detections.
        class_id: It has at least one object.
        confidences: (k,) in any order; read only.

    Returns:
        (k,) each, in [0, 1]; precision is NaN if there is no detection. The caller owns them.
    """
    scores, right = outcomes.of_class(class_id)
    counts = np.searchsorted(-scores, -confidences, side="right")
    hits = np.concatenate([[0], np.cumsum(right)])[counts]
    precision = np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
    return precision, hits / outcomes.labels[class_id]


def f1_of(precision: Floats, recall: Floats) -> Floats:
    """The harmonic mean of both; 0 if both are 0, or if there is no precision.

    Args:
        precision: In [0, 1] or NaN, of any shape; read only.
        recall: Of the same shape; read only.
    """
    precision = np.nan_to_num(precision, nan=0.0)
    total = precision + recall
    mean: Floats = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)
    return mean
