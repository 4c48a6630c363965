"""From what was seen in each image to a `Validation`, by YOLOv5's formulas: `figures_of`."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.evaluate.reports import conditions
from yoloship.validate.record import ClassFigures, Curves, Validation
from yoloship.validate.yolov5.confusion import enter
from yoloship.validate.yolov5.precision import POINTS, Judged, precisions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.datasets.dataset import Fault
    from yoloship.validate.yolov5.precision import Precisions
    from yoloship.validate.yolov5.seeing import Seen


@dataclass(frozen=True, slots=True)
class Subject:
    """What was validated on what.

    Attributes:
        model: The model's name.
        model_sha256: Of its file; empty if it is not known.
        dataset: The dataset's name.
        task: Theirs.
        class_names: By class id.
        faults: What is wrong with the dataset.
        left_out: Images that were left out because of that.
        settings: What else determines the numbers.
    """

    model: str
    model_sha256: str
    dataset: str
    task: str
    class_names: tuple[str, ...]
    faults: tuple[Fault, ...]
    left_out: int
    settings: Mapping[str, Any]


def figures_of(subject: Subject, seen: Sequence[Seen], speed_ms: Mapping[str, float]) -> Validation:
    """Compute the figures of a validation.

    Args:
        subject: What was validated.
        seen: What was found in each image, in the order in which they were looked at.
        speed_ms: Milliseconds for each image, by stage.
    """
    judged = Judged.joined([one.judged for one in seen])
    names = subject.class_names
    matrix = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    images = np.zeros(len(names), np.int64)
    for one in seen:
        label_ids = one.judged.label_ids
        enter(matrix, (one.boxes_xyxy, one.scores, one.class_ids), one.labels_xyxy, label_ids)
        images[np.unique(label_ids)] += 1
    found = precisions(judged)
    classes = tuple(_class_figures(found, place, names, images.tolist()) for place in range(len(found.class_ids)))
    at = POINTS - 1 if found.best is None else found.best
    best = None if found.best is None else found.best / (POINTS - 1)
    matrix.flags.writeable = False
    return Validation(
        model=subject.model,
        model_sha256=subject.model_sha256,
        dataset=subject.dataset,
        task=subject.task,
        rules="yolov5",
        metric="box",
        images=len(seen),
        labels=len(judged.label_ids),
        detections=len(judged.scores),
        precision=_mean(found.precision[:, at]),
        recall=_mean(found.recall[:, at]),
        map50=_mean(found.ap[:, 0]),
        map50_95=_mean(found.ap),
        best_confidence=best,
        classes=classes,
        curves=_curves(found) if classes else None,
        confusion=matrix,
        faults=subject.faults,
        left_out=subject.left_out,
        speed_ms=MappingProxyType(dict(speed_ms)),
        settings=MappingProxyType(dict(subject.settings)),
        versions=MappingProxyType(conditions()),
        class_names=names,
        confidence=best,
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0


def _class_figures(found: Precisions, place: int, names: tuple[str, ...], images: list[int]) -> ClassFigures:
    class_id, at = int(found.class_ids[place]), found.best
    precision, recall, f1 = (
        0.0 if at is None else float(curve[place, at]) for curve in (found.precision, found.recall, found.f1)
    )
    ap = found.ap[place]
    return ClassFigures(
        class_id, names[class_id], images[class_id], int(found.labels[place]), precision, recall, f1, float(ap[0]),
        float(ap.mean()), tuple(ap.tolist()),
    )  # fmt: skip


def _curves(found: Precisions) -> Curves:
    points = np.linspace(0, 1, POINTS)
    arrays = [points, found.precision, found.recall, found.f1, points, found.precision_at_recall]
    for array in arrays:
        array.flags.writeable = False
    return Curves(tuple(found.class_ids.tolist()), *arrays)
