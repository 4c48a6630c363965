"""Precision, recall and F1 by confidence, and the confidence with the best mean F1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.evaluate.evaluator import ALL, AT_50
from yoloship.validate.outcomes import f1_of, precision_and_recall
from yoloship.validate.record import Curves

if TYPE_CHECKING:
    from yoloship.evaluate.evaluator import Evaluation
    from yoloship.validate.outcomes import Outcomes


STEPS: Final = 1000
"""Confidences of a curve, from 0 to 1."""


def curves_of(outcomes: Outcomes, found: Evaluation) -> Curves:
    """The curves of each class that has objects.

    Precision by recall is the evaluator's own, at its 101 recalls: the area under it is the average precision.

    Args:
        outcomes: All detections.
        found: What the evaluator found out.
    """
    class_ids = np.flatnonzero(outcomes.labels).tolist()
    confidences = np.linspace(0, 1, STEPS)
    both = [precision_and_recall(outcomes, class_id, confidences) for class_id in class_ids]
    precision, recall = (np.array(side).reshape(-1, STEPS) for side in zip(*both, strict=True))
    at_recall = found.precision[AT_50][..., ALL].T[class_ids]
    arrays = (confidences, precision, recall, f1_of(precision, recall), np.linspace(0, 1, 101), at_recall)
    for array in arrays:
        array.flags.writeable = False
    return Curves(tuple(class_ids), *arrays)


def best_confidence(curves: Curves) -> float | None:
    """The confidence with the best mean F1 over the classes, the lowest of several; None if nothing is right.

    Args:
        curves: Of at least one class.
    """
    mean = curves.f1.mean(axis=0)
    best = int(mean.argmax())
    return float(curves.confidences[best]) if mean[best] > 0 else None
