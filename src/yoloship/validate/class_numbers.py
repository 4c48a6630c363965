"""The figures of each class, from the curves and the evaluator's precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.evaluate.evaluator import ALL, countable
from yoloship.validate.outcomes import f1_of, precision_and_recall
from yoloship.validate.record import ClassFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.evaluate.coco import OverlapKind, Truth
    from yoloship.evaluate.evaluator import Evaluation
    from yoloship.validate.outcomes import Outcomes


def class_figures(
    outcomes: Outcomes,
    found: Evaluation,
    truths: Sequence[Truth],
    class_names: Sequence[str],
    overlap: OverlapKind,
    confidence: float,
) -> tuple[ClassFigures, ...]:
    """Those of each class that has objects, by class id.

    Args:
        outcomes: All detections.
        found: What the evaluator found out.
        truths: What is in each image.
        class_names: By class id.
        overlap: What decides whether an object is found.
        confidence: Where precision and recall are read.
    """
    images = np.zeros(len(class_names), np.int64)
    for truth in truths:
        images[np.unique(np.asarray(truth.class_ids, np.int64)[countable(truth, overlap)])] += 1
    figures = []
    for class_id in np.flatnonzero(outcomes.labels).tolist():
        precision, recall = precision_and_recall(outcomes, class_id, np.array([confidence]))
        by_iou = found.precision[:, :, class_id, ALL].mean(axis=1)
        figures.append(
            ClassFigures(
                class_id,
                class_names[class_id],
                int(images[class_id]),
                int(outcomes.labels[class_id]),
                None if np.isnan(precision[0]) else float(precision[0]),
                float(recall[0]),
                float(f1_of(precision, recall)[0]),
                float(by_iou[0]),
                float(by_iou.mean()),
                tuple(by_iou.tolist()),
            )
        )
    return tuple(figures)
