"""All figures of a model that finds objects, by COCO's rules, from what it found in each image."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.evaluate.evaluator import evaluate
from yoloship.evaluate.measures import MEASURES
from yoloship.evaluate.object_measures import ObjectMeasure
from yoloship.validate.calibration import calibration_bins
from yoloship.validate.class_numbers import class_figures
from yoloship.validate.coco_numbers import coco_figures, size_figures
from yoloship.validate.confidence import best_confidence, curves_of
from yoloship.validate.confusion_matrix import confusion_matrix
from yoloship.validate.outcomes import Outcomes
from yoloship.validate.record import Validation
from yoloship.validate.worst import worst_images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.datasets.dataset import Dataset, Sample
    from yoloship.evaluate.coco import OverlapKind, Scored, Truth
    from yoloship.validate.choices import ValOptions
    from yoloship.validate.record import Metric


OVERLAPS: Final[Mapping[str, OverlapKind]] = MappingProxyType(
    {task: measure.overlap for task, measure in MEASURES.items() if isinstance(measure, ObjectMeasure)}
)
"""By task: what decides whether an object is found."""
METRICS: Final[Mapping[OverlapKind, Metric]] = MappingProxyType(
    {"boxes": "box", "masks": "mask", "keypoints": "keypoints", "oriented": "oriented"}
)


ONE_CLASS: Final = ("object",)
"""The names of the classes if all count as one."""


def truth_of(sample: Sample, *, single_class: bool) -> Truth:
    """What is in an image.

    Args:
        sample: Of a dataset of objects.
        single_class: Whether all classes count as one.
    """
    truth = sample.truth
    assert truth is not None  # of such a dataset
    return replace(truth, class_ids=np.zeros_like(truth.class_ids)) if single_class else truth


def one_class(found: Scored) -> Scored:
    """The same objects, all of class 0.

    Args:
        found: What was found in an image.
    """
    return replace(found, class_ids=np.zeros_like(found.class_ids))


def judge_objects(
    samples: Sequence[Sample], scored: Sequence[Scored], dataset: Dataset, options: ValOptions
) -> Validation:
    """Compute the figures.

    Args:
        samples: The images that were seen.
        scored: What was found in each; class ids are those of the dataset.
        dataset: Where they are from.
        options: What to read the figures at.

    Returns:
        The record, in which what is known of the model is left empty.

    Raises:
        DependencyError: the evaluator is not installed.
        InputError: no image has any object.
    """
    overlap = OVERLAPS[dataset.task]
    names = ONE_CLASS if options.single_class else dataset.class_names
    truths = [truth_of(sample, single_class=options.single_class) for sample in samples]
    if options.single_class:
        scored = [one_class(found) for found in scored]
    found = evaluate(scored, truths, names, overlap)
    numbers, sizes = coco_figures(found), size_figures(found, truths, overlap)
    matches = found.matches()
    outcomes = Outcomes.of(scored, matches, found.objects)
    curves = curves_of(outcomes, found)
    best = best_confidence(curves)
    confidence = options.confidence if options.confidence is not None else best
    at = 1.0 if confidence is None else confidence
    classes = class_figures(outcomes, found, truths, names, overlap, at)
    return Validation(
        model="",
        model_sha256="",
        dataset=dataset.name,
        task=dataset.task,
        rules="coco",
        metric=METRICS[overlap],
        images=len(samples),
        labels=int(found.objects.sum()),
        detections=sum(map(len, scored)),
        precision=float(np.mean([one.precision for one in classes if one.precision is not None] or [0.0])),
        recall=float(np.mean([one.recall for one in classes])),
        map50=numbers.ap50 or 0.0,
        map50_95=numbers.ap or 0.0,
        best_confidence=best,
        class_names=tuple(names),
        classes=classes,
        curves=curves,
        confusion=confusion_matrix(scored, truths, matches, len(names), at),
        sizes=sizes,
        calibration=calibration_bins(outcomes.scores, outcomes.right),
        coco=numbers,
        confidence=confidence,
        faults=dataset.faults,
        left_out=dataset.left_out,
        worst=worst_images(samples, scored, truths, matches, names, at, options.worst),
        settings=MappingProxyType({"evaluator": found.evaluator}),
    )
