"""Which detections of an image find which labels, by the rules of YOLOv5's validation.

Each detection takes the label of its class that it overlaps most; it has no second choice. Of the detections that took
a label, the one with the highest score finds it, if they overlap by the threshold. So a detection of a high score that
overlaps a label less shuts out a better one: COCO's evaluator does otherwise.

The official code sorts pairs with an unstable sort, so the winner of an exact tie depends on the processor. Here the
label of the later row wins, as it mostly does there.

Source: the runs in bench/results/val-yolov5-2026-11-28.md, which tell this rule from two others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


def _thresholds() -> Floats:
    """0.50, 0.55, …, 0.95 in float32, each rounded as torch's `linspace` does it: from the nearer end."""
    step, places = np.float32(0.45) / np.float32(9), np.arange(10)
    rising = np.float32(0.5) + step * places.astype(np.float32)
    falling = np.float32(0.95) - step * (9 - places).astype(np.float32)
    chosen: Floats = np.where(places < 5, rising, falling)
    return chosen


IOUS: Final = _thresholds()
IOUS.flags.writeable = False
_EPSILON: Final = np.float32(1e-7)


def ious(labels_xyxy: Floats, boxes_xyxy: Floats) -> Floats:
    """(m, n) float32: the IoU of each label with each detection, inter / (union + 1e-7).

    Args:
        labels_xyxy: (m, 4) float32; read only.
        boxes_xyxy: (n, 4) float32 in the same unit; read only.
    """
    low = np.maximum(labels_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    high = np.minimum(labels_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    overlap = np.maximum(high - low, np.float32(0)).prod(axis=2)
    first = (labels_xyxy[:, 2:] - labels_xyxy[:, :2]).prod(axis=1)
    second = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    shares: Floats = overlap / (first[:, None] + second - overlap + _EPSILON)
    return shares


def best_labels(shares: Floats) -> npt.NDArray[np.int64]:
    """(n,) int64: the label that each detection overlaps most, of equal ones the later; m is at least 1.

    Args:
        shares: (m, n) float32; read only.
    """
    chosen: npt.NDArray[np.int64] = len(shares) - 1 - shares[::-1].argmax(axis=0)
    return chosen


def correct(
    boxes_xyxy: Floats,
    class_ids: npt.NDArray[np.integer],
    labels_xyxy: Floats,
    label_ids: npt.NDArray[np.integer],
) -> npt.NDArray[np.bool_]:
    """Which detections find a label.

    Args:
        boxes_xyxy: (n, 4) float32, source pixels, by descending score; read only.
        class_ids: (n,) integer; read only.
        labels_xyxy: (m, 4) float32, source pixels; read only.
        label_ids: (m,) integer; read only.

    Returns:
        (n, 10) bool: whether each is right at each of `IOUS`; the caller owns it.
    """
    found = np.zeros((len(boxes_xyxy), len(IOUS)), bool)
    if not len(boxes_xyxy) or not len(labels_xyxy):
        return found
    shares = np.where(label_ids[:, None] == class_ids, ious(labels_xyxy, boxes_xyxy), np.float32(-1))
    chosen = best_labels(shares)
    overlap = shares[chosen, np.arange(len(boxes_xyxy))]
    for place, least in enumerate(IOUS):
        takers = np.flatnonzero(overlap >= least)  # by descending score
        _, first = np.unique(chosen[takers], return_index=True)
        found[takers[first], place] = True
    return found
