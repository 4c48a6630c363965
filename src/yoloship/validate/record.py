"""What a validation says: `Validation`, and the figures that it holds.

Whoever computes the numbers, by whatever rules, fills in this record. Tables, reports and files are made from it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.datasets.dataset import Fault, Sample
    from yoloship.results import Result


Rules: TypeAlias = Literal["coco", "yolov5"]
"""By which rules precision is computed: those of the COCO evaluator, or of the validation in YOLOv5."""
Metric: TypeAlias = Literal["box", "mask", "keypoints", "oriented", "top1"]
"""What decides whether an answer is right: the overlap of boxes, of masks, of oriented boxes, the similarity of
keypoints, or the best class alone."""
IOU_THRESHOLDS: Final = tuple(step / 100 for step in range(50, 100, 5))
"""Over these precision is averaged: 0.50, 0.55, …, 0.95."""


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How well one class is found. Classes without labels have none.

    Attributes:
        class_id: Its id.
        name: Its name.
        images: Images that have it.
        labels: How many the truth has.
        precision: Share of its detections that are right, in [0, 1], at `Validation.confidence`; None if there are no
            detections, or what the rules take instead.
        recall: Share of its labels that are found there, in [0, 1].
        f1: The harmonic mean of both.
        ap50: Average precision at IoU 0.5, in [0, 1]; None for classification.
        ap50_95: The mean over `IOU_THRESHOLDS`; None for classification.
        ap_by_iou: For each of `IOU_THRESHOLDS`; empty for classification.
    """

    class_id: int
    name: str
    images: int
    labels: int
    precision: float | None
    recall: float
    f1: float
    ap50: float | None
    ap50_95: float | None
    ap_by_iou: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Precision and recall at IoU 0.5, for each of the classes that have labels. The arrays are read-only.

    Attributes:
        class_ids: Of the C rows.
        confidences: (1000,) float64: from 0 to 1.
        precision: (C, 1000) float64, at each confidence; NaN if there are no detections, or what the rules take
            instead.
        recall: (C, 1000) float64, at each confidence.
        f1: (C, 1000) float64, at each confidence.
        recalls: (R,) float64: from 0 to 1.
        precision_at_recall: (C, R) float64, at each recall.
    """

    class_ids: tuple[int, ...]
    confidences: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    recalls: npt.NDArray[np.float64]
    precision_at_recall: npt.NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; long."""
        arrays = {item.name: getattr(self, item.name).tolist() for item in fields(self) if item.name != "class_ids"}
        rows = [[None if value != value else value for value in row] for row in arrays["precision"]]  # noqa: PLR0124
        return {"class_ids": list(self.class_ids), **arrays, "precision": rows}


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """How well objects of a range of sizes are found.

    Attributes:
        name: Of the range: ``small``, ``medium``, ``large``.
        low_px2: The smallest area in square source pixels.
        high_px2: Areas are below this; None for no bound.
        labels: How many objects of the truth are in it.
        ap50_95: Average precision over `IOU_THRESHOLDS`, in [0, 1]; None if there are no labels.
        recall: Average recall over them, in [0, 1]; None if there are no labels.
    """

    name: str
    low_px2: float
    high_px2: float | None
    labels: int
    ap50_95: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """How often detections are right whose scores are in one range.

    Attributes:
        low: Scores are above this.
        high: Scores are at or below this.
        detections: How many there are.
        mean_score: Their mean score.
        precision: The share that is right.
    """

    low: float
    high: float
    detections: int
    mean_score: float
    precision: float


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """The twelve numbers of COCO's evaluator, in [0, 1]; None if the truth has no such object.

    With keypoints there are ten: none for small objects, nor for one and ten detections.

    Attributes:
        ap: Average precision over `IOU_THRESHOLDS`, all sizes.
        ap50: At IoU 0.5.
        ap75: At IoU 0.75.
        ap_small: Over the thresholds, of objects below 32² pixels.
        ap_medium: Of those from 32² to 96².
        ap_large: Of those above.
        ar1: Average recall with one detection for each image and class.
        ar10: With 10.
        ar: With the most that count: 100, 20 with keypoints, 300 oriented boxes.
        ar_small: With so many, of small objects.
        ar_medium: Of medium ones.
        ar_large: Of large ones.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a model found in one image.

    Attributes:
        sample: The image and its truth.
        result: `Detections` best first, or a `Classification`; boxes in source pixels.
    """

    sample: Sample
    result: Result


@dataclass(frozen=True, slots=True)
class Mark:
    """An object or a detection to draw.

    Attributes:
        kind: ``found``: a detection that is right; ``missed``: an object that nothing finds; ``invented``: a detection
            that is wrong.
        label: What to write at it.
        outline_xy: Its corners or its outline, x and y in source pixels.
    """

    kind: Literal["found", "missed", "invented"]
    label: str
    outline_xy: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class WorstImage:
    """One of the images with the most errors.

    Attributes:
        name: Its name in the dataset.
        path: Its file.
        found: Detections that are right, at `Validation.confidence`.
        missed: Objects that nothing finds.
        invented: Detections that are wrong.
        marks: What to draw.
        remark: What to say about it; for classification, what the model takes it for.
    """

    name: str
    path: Path
    found: int
    missed: int
    invented: int
    marks: tuple[Mark, ...] = ()
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON, without what is drawn."""
        counts = {"found": self.found, "missed": self.missed, "invented": self.invented}
        return {"name": self.name, **counts, **({"remark": self.remark} if self.remark else {})}


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """How good a model is on a dataset.

    Attributes:
        model: The name of the model.
        model_sha256: SHA-256 of its file, lower-case hex; empty if it is not known.
        dataset: The name of the dataset.
        task: A name in `yoloship.tasks.TASKS`.
        rules: The rules by which the numbers were computed.
        metric: What decides whether a detection is correct.
        images: How many images were evaluated.
        labels: How many objects they have.
        detections: How many objects the model found, from the lowest score on.
        precision: Mean at `confidence` over the classes that have one, in [0, 1]; for classification without a
            confidence.
        recall: Mean over the classes at `confidence`, in [0, 1]; for classification without one.
        map50: Mean average precision at IoU 0.5, in [0, 1]; None for classification.
        map50_95: Mean over `IOU_THRESHOLDS`; None for classification.
        best_confidence: The score threshold with the best mean F1; None if nothing was found.
        classes: The figures of each class that has labels, by class id.
        curves: Precision and recall by confidence; None if there are no classes with labels.
        confusion: (C + 1, C + 1) int64: [predicted, true], the last of both for background; None if there is none.
        sizes: The figures for small, medium and large objects, if they were computed.
        calibration: Scores compared with the share of correct detections, if it was computed.
        coco: COCO's twelve numbers, if its evaluator computed them.
        faults: The problems in the dataset.
        left_out: Images that were left out because of a problem.
        speed_ms: Milliseconds per image, by stage.
        settings: Everything else that determines the numbers: size, batch, thresholds.
        versions: What computed them: packages with their versions, and the processor.
        notes: What you must know to interpret the numbers.
        worst: The images with the most errors, the worst first.
        class_names: All class names, by class id; ``object`` alone if all classes count as one.
        confidence: The score threshold for precision, recall and the confusion matrix: `best_confidence`, unless you
            asked for another.
        top1: For classification, the share of images for which the most probable class is correct, in [0, 1]; else
            None.
        top5: The share for which the correct class is among the five most probable; else None.
    """

    model: str
    model_sha256: str
    dataset: str
    task: str
    rules: Rules
    metric: Metric
    images: int
    labels: int
    detections: int
    precision: float
    recall: float
    map50: float | None
    map50_95: float | None
    best_confidence: float | None
    classes: tuple[ClassFigures, ...] = ()
    curves: Curves | None = None
    confusion: npt.NDArray[np.int64] | None = None
    sizes: tuple[SizeFigures, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    coco: CocoFigures | None = None
    faults: tuple[Fault, ...] = ()
    left_out: int = 0
    speed_ms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    versions: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    worst: tuple[WorstImage, ...] = ()
    class_names: tuple[str, ...] = ()
    confidence: float | None = None
    top1: float | None = None
    top5: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON.

        For `confusion`, only the cells that are not 0 are included: predicted class, true class, and count. `curves`
            are left out, because they are long; `Curves.to_dict` returns them.
        """
        plain = {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.name not in _LONG}
        if self.confusion is not None:
            rows, columns = self.confusion.nonzero()
            counts = self.confusion[rows, columns]
            cells = zip(rows.tolist(), columns.tolist(), counts.tolist(), strict=True)
            plain["confusion"] = {"size": len(self.confusion), "cells": [list(cell) for cell in cells]}
        return plain

    def save_report(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a report: one self-contained HTML file with tables, charts and the worst images.

        Args:
            path: The file.
            overwrite: Whether a file of that name may be replaced.

        Raises:
            OutputError: it cannot be written, or exists.
        """
        from pathlib import Path

        from yoloship._util.writing import write_bytes
        from yoloship.validate.report.page import report_html

        write_bytes(Path(path), report_html([self]), overwrite=overwrite)


_LONG: Final = ("curves", "confusion")


def _plain(value: Any) -> Any:
    """A value of a field as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "__dataclass_fields__"):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return dict(value) if hasattr(value, "items") else value
