"""All figures of a classification model, from the probabilities that it gave each image."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.validate.calibration import calibration_bins
from yoloship.validate.record import ClassFigures, Validation, WorstImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.datasets.dataset import Dataset, Sample
    from yoloship.validate.choices import ValOptions


TOP: Final = 5


def judge_classes(
    samples: Sequence[Sample],
    probabilities: Sequence[npt.NDArray[np.float32]],
    dataset: Dataset,
    options: ValOptions,
) -> Validation:
    """Compute the figures.

    Args:
        samples: The images that were seen.
        probabilities: (C,) float32 for each, by the class ids of the dataset.
        dataset: Where they are from.
        options: How many of the worst images to keep.

    Returns:
        The record, in which what is known of the model is left empty. Of each class, precision is the share of the
        images that are said to be of it and are, and recall the share of its images that are said to be of it.

    Raises:
        InputError: there is no image.
    """
    if not samples:
        raise InputError("no image has a class, so accuracy cannot be computed")
    names = dataset.class_names
    true = np.array([sample.class_id for sample in samples], np.int64)
    table = np.array(probabilities, np.float64)
    order = np.argsort(-table, axis=1, kind="stable")
    said = order[:, 0]
    scores, right = table[np.arange(len(table)), said], said == true
    top1, top5 = float(right.mean()), float((order[:, :TOP] == true[:, None]).any(axis=1).mean())
    confusion = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    np.add.at(confusion, (said, true), 1)
    classes = _classes(confusion, names)
    worst = sorted(np.flatnonzero(~right).tolist(), key=lambda row: -scores[row])[: options.worst]
    return Validation(
        model="",
        model_sha256="",
        dataset=dataset.name,
        task=dataset.task,
        rules="coco",
        metric="top1",
        images=len(samples),
        labels=len(samples),
        detections=len(samples),
        precision=float(np.mean([one.precision or 0.0 for one in classes])),
        recall=float(np.mean([one.recall for one in classes])),
        map50=None,
        map50_95=None,
        top1=top1,
        top5=top5,
        best_confidence=None,
        class_names=tuple(names),
        classes=classes,
        confusion=confusion,
        calibration=calibration_bins(scores, right, least=0.0),
        faults=dataset.faults,
        left_out=dataset.left_out,
        worst=tuple(
            WorstImage(
                samples[row].name, samples[row].path, 0, 1, 1,
                remark=f"{names[said[row]]} {scores[row]:.2f}, is {names[true[row]]} ({table[row, true[row]]:.2f})",
            )
            for row in worst
        ),
        settings=MappingProxyType({"evaluator": "the most probable class"}),
    )  # fmt: skip


def _classes(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Of each class with images."""
    figures = []
    for class_id, name in enumerate(names):
        there, said, hits = confusion[:, class_id].sum(), confusion[class_id].sum(), confusion[class_id, class_id]
        if there:
            precision, recall = float(hits / said) if said else None, float(hits / there)
            f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
            figures.append(ClassFigures(class_id, name, int(there), int(there), precision, recall, f1, None, None, ()))
    return tuple(figures)
