"""The images with the most errors, and what to draw on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.results.oriented import corners_of
from yoloship.validate.confusion_matrix import confused_pairs, verdict
from yoloship.validate.record import Mark, WorstImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.datasets.dataset import Sample
    from yoloship.evaluate.coco import Scored, Truth
    from yoloship.evaluate.evaluator import Match

    Outline = tuple[tuple[float, float], ...]


def worst_images(  # noqa: PLR0913, PLR0917 - what an image is judged by
    samples: Sequence[Sample],
    scored: Sequence[Scored],
    truths: Sequence[Truth],
    matches: Sequence[Match],
    class_names: Sequence[str],
    confidence: float,
    most: int,
) -> tuple[WorstImage, ...]:
    """Those with the most objects that are missed and detections that are invented, the worst first.

    Args:
        samples: All images.
        scored: What was found in each.
        truths: What is in each.
        matches: Which of it is right.
        class_names: By class id.
        confidence: Only detections with this score or more count.
        most: How many images to give at most.
    """
    ranked = []
    for place, (found, match) in enumerate(zip(scored, matches, strict=True)):
        _, wrong, missed = verdict(found, match, confidence)
        errors = len(wrong) + len(missed)
        if errors:
            ranked.append((-errors, -float(found.scores[wrong].sum()), place))
    return tuple(
        _drawn(samples[place], scored[place], truths[place], matches[place], class_names, confidence)
        for _, _, place in sorted(ranked)[:most]
    )


def _drawn(
    sample: Sample, found: Scored, truth: Truth, match: Match, class_names: Sequence[str], confidence: float
) -> WorstImage:
    right, wrong, missed = verdict(found, match, confidence)
    instead = {row: int(truth.class_ids[column]) for row, column in confused_pairs(found, truth, match, confidence)}
    seen, there = _outlines(found.boxes_xyxy, found.boxes_xywhr), _outlines(truth.boxes_xyxy, truth.boxes_xywhr)

    def said(row: int) -> str:
        return f"{class_names[found.class_ids[row]]} {found.scores[row]:.2f}"

    marks = [Mark("found", said(row), seen[row]) for row in right.tolist()]
    marks += [Mark("missed", class_names[truth.class_ids[row]], there[row]) for row in missed.tolist()]
    for row in wrong.tolist():
        is_really = f", is {class_names[instead[row]]}" if row in instead else ""
        marks.append(Mark("invented", said(row) + is_really, seen[row]))
    return WorstImage(sample.name, sample.path, len(right), len(missed), len(wrong), tuple(marks))


def _outlines(boxes_xyxy: npt.NDArray[np.floating], boxes_xywhr: npt.NDArray[np.floating] | None) -> list[Outline]:
    """The corners of each box, of the oriented one if there is one."""
    if boxes_xywhr is not None:
        corners = corners_of(np.asarray(boxes_xywhr, np.float64))
    else:
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    return [tuple((x, y) for x, y in one) for one in corners.tolist()]
