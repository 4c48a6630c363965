"""The confusion matrix: what the model says, against what it is.

The diagonal has the pairs of the evaluator, so its sum is the number of true positives behind precision and recall.
Then detections and objects of different classes that are left pair up by the IoU of their boxes, the largest first,
from 0.5 on. What is left after that is invented or missed. Every image counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.evaluate.overlaps import object_ious, oriented_ious

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.evaluate.coco import Scored, Truth
    from yoloship.evaluate.evaluator import Match


LEAST_IOU: Final = 0.5


def confusion_matrix(
    scored: Sequence[Scored],
    truths: Sequence[Truth],
    matches: Sequence[Match],
    class_count: int,
    confidence: float,
) -> npt.NDArray[np.int64]:
    """Count what is taken for what.

    Args:
        scored: What was found in each image.
        truths: What is in each.
        matches: Which of it is right.
        class_count: How many classes there are.
        confidence: Only detections with this score or more count.

    Returns:
        (C + 1, C + 1) int64: [predicted, true], the last of both for background. The caller owns it.
    """
    matrix = np.zeros((class_count + 1, class_count + 1), np.int64)
    for found, truth, match in zip(scored, truths, matches, strict=True):
        confused = confused_pairs(found, truth, match, confidence)
        said, wrong, missed = verdict(found, match, confidence)
        np.add.at(matrix, (found.class_ids[said], truth.class_ids[match.finds[said]]), 1)
        rows, columns = confused.T
        np.add.at(matrix, (found.class_ids[rows], truth.class_ids[columns]), 1)
        np.add.at(matrix, (found.class_ids[np.setdiff1d(wrong, rows)], class_count), 1)
        np.add.at(matrix, (class_count, truth.class_ids[np.setdiff1d(missed, columns)]), 1)
    return matrix


def verdict(
    found: Scored, match: Match, confidence: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What is right and wrong in an image from a confidence on.

    Args:
        found: What was found.
        match: Which of it is right.
        confidence: Only detections with this score or more count.

    Returns:
        The rows of the detections that are right, of those that are wrong, and of the objects that are missed.
    """
    counts = found.scores.astype(np.float64) >= confidence  # as the curves have it
    by = match.found_by
    is_found = (by >= 0) & np.append(counts, False)[by]
    return (
        np.flatnonzero(counts & (match.finds >= 0)),
        np.flatnonzero(counts & (match.finds == -1)),
        np.flatnonzero(match.counts & ~is_found),
    )


def confused_pairs(found: Scored, truth: Truth, match: Match, confidence: float) -> npt.NDArray[np.int64]:
    """Wrong detections that lie on objects of another class that nothing finds.

    Args:
        found: What was found in an image.
        truth: What is in it.
        match: Which of it is right.
        confidence: Only detections with this score or more count.

    Returns:
        (k, 2) int64: rows of the detections and of the objects, each at most once. The caller owns it.
    """
    _, wrong, missed = verdict(found, match, confidence)
    if not len(wrong) or not len(missed):
        return np.empty((0, 2), np.int64)
    if found.boxes_xywhr is not None and truth.boxes_xywhr is not None:
        ious = oriented_ious(found.boxes_xywhr[wrong], truth.boxes_xywhr[missed])
    else:
        ious = object_ious(found.boxes_xyxy[wrong], np.asarray(truth.boxes_xyxy)[missed])
    ious[found.class_ids[wrong][:, None] == np.asarray(truth.class_ids)[missed]] = 0
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-ious, axis=None, kind="stable").tolist():
        row, column = divmod(place, len(missed))
        if ious[row, column] < LEAST_IOU:
            break
        if all(row != one and column != other for one, other in pairs):
            pairs.append((row, column))
    places = np.array(pairs, np.int64).reshape(-1, 2)
    return np.stack([wrong[places[:, 0]], missed[places[:, 1]]], axis=1)
