"""Which detections of one model are those of another, and how far two models' answers lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.evaluate.overlaps import overlaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.results.detections import Detections

    Floats = npt.NDArray[np.float32]
    Cells = tuple[Floats, Floats]


MATCH_IOU: Final = 0.5
"""Overlap from which two detections are one object; see `yoloship.evaluate.overlaps`."""
AGREEMENT_IOUS: Final = tuple(step / 100 for step in range(50, 100, 5))
"""Overlaps that COCO averages over (Lin et al., Microsoft COCO, 2014, and its evaluator's parameters)."""
LOWERED_SHARE: Final = 0.6
"""A detection counts as seen by the other model if that gives it at least this share of the threshold: which side of a
threshold a score falls on, when it lies at it, says nothing about a model."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Pairs of detections, the best overlap first.

    Attributes:
        pairs: (k, 2) int64: places in the first and in the second.
        ious: (k,) float64.
    """

    pairs: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]


def match(first: Detections, second: Detections, min_iou: float = MATCH_IOU) -> Matches:
    """Pair detections of one image, greedily by overlap.

    Args:
        first: Of one model.
        second: Of another.
        min_iou: Pairs that overlap less are none. What overlaps is what the task is about: boxes, masks, keypoints.
    """
    ious = overlaps(first, second)
    ious[first.class_ids[:, None] != second.class_ids[None, :]] = -1.0
    pairs, values = [], []
    order = np.argsort(-ious, axis=None, kind="stable")
    free_first, free_second = np.ones(len(first), bool), np.ones(len(second), bool)
    for flat in order.tolist():
        row, column = divmod(flat, len(second))
        if ious[row, column] < min_iou:
            break
        if free_first[row] and free_second[column]:
            free_first[row] = free_second[column] = False
            pairs.append((row, column))
            values.append(ious[row, column])
    return Matches(np.array(pairs, np.int64).reshape(-1, 2), np.array(values, np.float64))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many detections of either model the other has too.

    Attributes:
        first_count: Detections of the first at or above the threshold.
        second_count: Detections of the second at or above the threshold.
        first_seen: Of the first's, those that the second sees.
        second_seen: Of the second's, those that the first sees.
    """

    first_count: int
    second_count: int
    first_seen: int
    second_seen: int

    @property
    def share(self) -> float:
        """Of all detections of both, those that the other sees too; 1 if there are none."""
        total = self.first_count + self.second_count
        return (self.first_seen + self.second_seen) / total if total else 1.0


def agreement_over_ious(first: Sequence[Detections], second: Sequence[Detections], score_threshold: float) -> float:
    """`Agreement.share`, but in the mean over the overlaps of `AGREEMENT_IOUS` from which two are one object.

    Boxes, masks or keypoints that fit less tightly than they did lower it, even if they are still found. It is the F1
    score of either model against the other, averaged as COCO averages precision. It is not a precision, because there
    is no ground truth.

    Args:
        first: Of one model, image by image, found with `LOWERED_SHARE` of the threshold.
        second: Of another, the same images and threshold.
        score_threshold: Detections at or above it are to be seen by the other, be it more faintly.

    Returns:
        In [0, 1]; 1 if there are no detections.
    """
    total, seen = 0, np.zeros(len(AGREEMENT_IOUS))
    for one, other in zip(first, second, strict=True):
        for strong, all_of_other in ((one, other), (other, one)):
            above = strong.filter(min_score=score_threshold)
            total += len(above)
            # the best overlaps pair first, so a higher limit only cuts the list of pairs short
            seen += (match(above, all_of_other).ious[:, None] >= AGREEMENT_IOUS).sum(axis=0)
    return float(seen.mean() / total) if total else 1.0


def agree(first: Sequence[Detections], second: Sequence[Detections], score_threshold: float) -> Agreement:
    """Count what two models see alike.

    Args:
        first: Of one model, image by image, found with `LOWERED_SHARE` of the threshold.
        second: Of another, the same images and threshold.
        score_threshold: Detections at or above it are to be seen by the other, be it more faintly.
    """
    counts = [0, 0, 0, 0]
    for one, other in zip(first, second, strict=True):
        for side, (strong, all_of_other) in enumerate(((one, other), (other, one))):
            above = strong.filter(min_score=score_threshold)
            counts[side] += len(above)
            counts[2 + side] += len(match(above, all_of_other).pairs)
    return Agreement(*counts)


RELEVANT_SCORE: Final = 0.05
"""Boxes are compared if one of the models gives at least this score; all others are noise."""


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """Differences on one level, over all images.

    Attributes:
        stride: Model pixels per cell.
        cells: Compared in all.
        score_max: Largest difference of a cell's score.
        score_mean: Mean difference.
        relevant: Cells whose boxes were compared.
        box_max_px: Largest difference of a box's side in model pixels; 0 if none was relevant.
        box_mean_px: Mean difference.
    """

    stride: int
    cells: int
    score_max: float
    score_mean: float
    relevant: int
    box_max_px: float
    box_mean_px: float


def compare_levels(
    first: Sequence[Cells], second: Sequence[Cells], strides: Sequence[int], input_hws: Sequence[tuple[int, int]]
) -> tuple[LevelDifference, ...]:
    """Compare two models' cells.

    Args:
        first: Of one model, image by image; see `yoloship.tasks.task.Form.cells`.
        second: Of the other, for the same canvases.
        strides: Of the levels, finest first.
        input_hws: (height, width) of each canvas in model pixels.

    Returns:
        A record for each level. None if the numbers of cells differ, or are not a multiple of the grids' cells.
    """
    gathered: list[list[tuple[Floats, Floats, npt.NDArray[np.bool_]]]] = [[] for _ in strides]
    for (boxes, scores), (other_boxes, other_scores), (height, width) in zip(first, second, input_hws, strict=True):
        cells = [(height // stride) * (width // stride) for stride in strides]
        if len(scores) != len(other_scores) or len(scores) % sum(cells):
            return ()
        start, anchors = 0, len(scores) // sum(cells)
        for level, count in enumerate(cells):
            rows = slice(start, start + count * anchors)
            start = rows.stop
            relevant = np.maximum(scores[rows], other_scores[rows]) >= RELEVANT_SCORE
            box = np.abs(boxes[rows] - other_boxes[rows])[relevant].ravel()
            gathered[level].append((np.abs(scores[rows] - other_scores[rows]), box, relevant))
    return tuple(_summary(stride, parts) for stride, parts in zip(strides, gathered, strict=True) if parts)


def _summary(stride: int, parts: list[tuple[Floats, Floats, npt.NDArray[np.bool_]]]) -> LevelDifference:
    scores = np.concatenate([score for score, _, _ in parts])
    boxes = np.concatenate([box for _, box, _ in parts])
    return LevelDifference(
        stride=stride,
        cells=len(scores),
        score_max=float(scores.max()),
        score_mean=float(scores.mean()),
        relevant=int(sum(mask.sum() for _, _, mask in parts)),
        box_max_px=float(boxes.max(initial=0.0)),
        box_mean_px=float(boxes.mean()) if len(boxes) else 0.0,
    )
