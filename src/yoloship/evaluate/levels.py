"""How far two models' answers lie apart cell by cell, before any threshold: by level of the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.pipeline.decode import heads_to_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.model import ModelInfo

    Floats = npt.NDArray[np.float32]
    Cells = tuple[Floats, Floats]

RELEVANT_SCORE: Final = 0.05
"""Boxes are compared where one of the models gives at least this score; elsewhere they are noise."""


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """Differences on one level, over all pictures.

    Attributes:
        stride: Model pixels per cell.
        cells: Compared in all.
        score_max: Largest difference of a cell's score.
        score_mean: Mean difference.
        relevant: Cells whose boxes were compared.
        box_max_px: Largest difference of a box's side in model pixels; 0 where none was relevant.
        box_mean_px: Mean difference.
    """

    stride: int
    cells: int
    score_max: float
    score_mean: float
    relevant: int
    box_max_px: float
    box_mean_px: float


def cells_of(outputs: Sequence[npt.NDArray[np.generic]], info: ModelInfo) -> Cells | None:
    """Every cell's box and score out of a model's outputs.

    Args:
        outputs: As the session gave them, in the form that `info` names.
        info: The model.

    Returns:
        Boxes (N, 4) in model pixels, xyxy, and scores (N,) of the first picture, in the order of the raw form; None
        where the graph gives final detections only.
    """
    if info.output_form == "nms":
        return None
    arrays = [np.asarray(array, np.float32)[:1] for array in outputs]
    if info.output_form == "compact":
        return arrays[0][0], arrays[1][0]
    raw = heads_to_raw(arrays, info.strides, info.anchors)[0] if info.output_form == "heads" else arrays[0][0]
    half = raw[:, 2:4] * np.float32(0.5)
    boxes = np.concatenate([raw[:, :2] - half, raw[:, :2] + half], axis=1)
    return boxes, raw[:, 4] * raw[:, 5:].max(axis=1)


def compare_levels(
    first: Sequence[Cells], second: Sequence[Cells], strides: Sequence[int], input_hws: Sequence[tuple[int, int]]
) -> tuple[LevelDifference, ...]:
    """Compare two models' cells.

    Args:
        first: Of one model, picture by picture; see `cells_of`.
        second: Of the other, for the same canvases.
        strides: Of the levels, finest first.
        input_hws: (height, width) of each canvas in model pixels.

    Returns:
        A record for each level; none where the numbers of cells differ or fit no whole number of anchors a cell.
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
