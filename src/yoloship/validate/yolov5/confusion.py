"""The confusion matrix of YOLOv5's validation, with its two faults.

An image without labels is not entered, so what is found there is missing from the matrix. And what is found wrongly in
an image is entered only if something is found rightly there. Both are kept: the matrix is the official one. The figures
of precision do not have these faults.

Unlike the matching for precision, a label keeps the detection that overlaps it most, whatever its score and its class.
Of exact ties the later row wins; the official code leaves that to an unstable sort.

Source: the official runs in bench/results/val-yolov5-2026-11-28.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.validate.yolov5.matching import best_labels, ious

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


MIN_SCORE: Final = np.float32(0.25)
MIN_IOU: Final = np.float32(0.45)


def enter(
    matrix: npt.NDArray[np.int64],
    found: tuple[Floats, Floats, npt.NDArray[np.integer]],
    labels_xyxy: Floats,
    label_ids: npt.NDArray[np.integer],
) -> None:
    """Add an image to a matrix.

    Args:
        matrix: (C + 1, C + 1) int64: [predicted, true], the last of both for background; it is changed.
        found: The boxes (n, 4) float32, the scores (n,) float32 and the class ids (n,) of all detections; read only.
        labels_xyxy: (m, 4) float32, in the same unit; read only.
        label_ids: (m,) integer; read only.
    """
    background = len(matrix) - 1
    if not len(label_ids):
        return
    boxes, scores, class_ids = found
    sure = scores > MIN_SCORE
    boxes, class_ids = boxes[sure], class_ids[sure]
    pairs = _pairs(boxes, labels_xyxy) if len(boxes) else {}
    for label, true in enumerate(label_ids.tolist()):
        matrix[class_ids[pairs[label]] if label in pairs else background, true] += 1
    if pairs:
        taken = set(pairs.values())
        for place, predicted in enumerate(class_ids.tolist()):
            if place not in taken:
                matrix[predicted, background] += 1


def _pairs(boxes_xyxy: Floats, labels_xyxy: Floats) -> dict[int, int]:
    """For each label that was found, its detection."""
    shares = ious(labels_xyxy, boxes_xyxy)
    chosen = best_labels(shares)
    overlap = shares[chosen, np.arange(len(boxes_xyxy))]
    pairs: dict[int, int] = {}
    for place in np.argsort(overlap, kind="stable").tolist():  # a later one that overlaps more, or as much, takes over
        if overlap[place] > MIN_IOU:
            pairs[int(chosen[place])] = place
    return pairs
