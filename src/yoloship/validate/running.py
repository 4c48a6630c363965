"""Run a model over a dataset by the ordinary pipeline, and judge what it finds: `validate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.datasets.dataset import Fault
from yoloship.errors import InputError
from yoloship.evaluate.class_measure import ClassMeasure
from yoloship.evaluate.coco import Scored
from yoloship.evaluate.evaluator import require_evaluator
from yoloship.evaluate.measures import MEASURES
from yoloship.evaluate.reports import conditions
from yoloship.images import read_image
from yoloship.validate.choices import ValOptions
from yoloship.validate.classification import judge_classes
from yoloship.validate.naming import class_map
from yoloship.validate.objects import OVERLAPS, judge_objects, one_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Dataset, Sample
    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.validate.naming import ClassMap
    from yoloship.validate.record import Validation


BY_ACCURACY: Final = frozenset(task for task, measure in MEASURES.items() if isinstance(measure, ClassMeasure))
"""The tasks whose answer is one class for an image."""
TIMED: Final = 16
"""Images that the time of each stage is the mean of."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A validation, and what it is made from.

    Attributes:
        validation: The figures.
        samples: The images that could be read.
        scored: What was found in each; empty for classification. Class ids are those of the dataset, or 0 if all
            classes count as one.
        category_ids: `Dataset.category_ids`, unless all classes count as one.
    """

    validation: Validation
    samples: tuple[Sample, ...]
    scored: tuple[Scored, ...]
    category_ids: tuple[int | str | None, ...] | None = None


def validate(
    detector: Detector[Any],
    dataset: Dataset,
    options: ValOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Judged:
    """Judge a model by COCO's rules, or a classifier by its accuracy.

    The model runs as `predict` runs it: the same reading, the same letterbox (bilinear), the best class of each box.

    Args:
        detector: The model; it stays open.
        dataset: Read for this model.
        options: What to keep, and where to read the figures.
        on_progress: Called with the images that are done.

    Raises:
        DependencyError: the evaluator is not installed.
        InputError: the model is not of the dataset's task, has other classes, or no image can be judged.
        YoloshipError: the model failed.
    """
    chosen = options or ValOptions()
    task = detector.info.task
    if task != dataset.task:
        raise InputError("is not of the dataset's task", subject=detector.model_name, expected=dataset.task, got=task)
    overlap = OVERLAPS.get(task)
    if overlap is not None:
        require_evaluator(overlap)
    elif task not in BY_ACCURACY:
        raise InputError("cannot be validated", subject=f"task {task}", expected=", ".join([*OVERLAPS, *BY_ACCURACY]))
    else:
        _refuse_what_is_for_objects(chosen)
    names = class_map(
        detector.class_names,
        detector.class_names if chosen.single_class else dataset.class_names,
        detector.model_name,
    )
    keep = chosen.detect(detector.info)
    samples, answers, faults = _answers(detector, dataset, keep, names, on_progress)
    if not samples:
        raise InputError("has no image that can be read", subject=dataset.name)
    if on_progress is not None:
        on_progress("comparing with the truth", 0, 1)
    judge = judge_classes if overlap is None else judge_objects
    found = judge(samples, answers, dataset, chosen)
    validation = replace(
        found,
        model=Path(detector.model_name).name,
        faults=(*dataset.faults, *faults),
        left_out=dataset.left_out + len(faults),
        speed_ms=stage_times(detector, [sample.path for sample in samples]),
        settings=MappingProxyType({**settings_of(detector, keep), **found.settings}),
        versions=MappingProxyType(conditions()),
        notes=(*dataset.notes, *_notes(detector, keep, names)),
    )
    if overlap is None:
        return Judged(validation, tuple(samples), ())
    if chosen.single_class:
        return Judged(validation, tuple(samples), tuple(one_class(found) for found in answers))
    return Judged(validation, tuple(samples), tuple(answers), dataset.category_ids)


def _refuse_what_is_for_objects(options: ValOptions) -> None:
    """Refuse what would change nothing in the figures of a classification model."""
    names = ("score_threshold", "iou_threshold", "max_detections", "single_class", "confidence")
    given = [name for name in names if (value := getattr(options, name)) is not None and value is not False]
    if given:
        raise InputError("has no effect for a classification model", subject=", ".join(given), hint="leave it out")


def _answers(
    detector: Detector[Any],
    dataset: Dataset,
    keep: DetectOptions,
    names: ClassMap,
    on_progress: OnProgress | None,
) -> tuple[list[Sample], list[Any], list[Fault]]:
    """The images that could be read, what was found in each, and the images that could not be read."""
    samples: list[Sample] = []
    answers: list[Any] = []
    faults: list[Fault] = []
    total = len(dataset.samples)
    for outcome in detector.stream([sample.path for sample in dataset.samples], options=keep):
        sample = dataset.samples[outcome.index]
        if outcome.error is not None:
            faults.append(Fault(sample.path, None, outcome.error.problem, "image left out"))
        else:
            samples.append(sample)
            answers.append(_renamed(outcome.result, dataset, names))
        if on_progress is not None:
            on_progress("validating", outcome.index + 1, total)
    return samples, answers, faults


def _renamed(result: Any, dataset: Dataset, names: ClassMap) -> Any:
    """What is judged of a result, with the class ids of the dataset."""
    overlap = OVERLAPS.get(dataset.task)
    if overlap is None:
        probabilities = np.zeros(max(len(dataset.class_names), int(names.ids.max()) + 1), np.float32)
        known = names.ids >= 0
        probabilities[names.ids[known]] = result.probabilities[known]
        return probabilities
    if (names.ids < 0).any():
        result = result[names.ids[result.class_ids] >= 0]
    scored = Scored.of(result, overlap)
    return replace(scored, class_ids=names.ids[scored.class_ids])


def settings_of(detector: Detector[Any], keep: DetectOptions) -> Mapping[str, Any]:
    """What determines the numbers, by name.

    Args:
        detector: The model.
        keep: Which detections were kept.
    """
    height, width = detector.input_hw
    facts: dict[str, Any] = {
        "input": f"{height}×{width}",
        "runtime": detector.session.name,
        "precision": detector.session.precision or detector.info.precision,
        "device": detector.device,
    }
    if detector.info.task in BY_ACCURACY:
        return MappingProxyType({**facts, "preprocessing": f"transform {detector.info.transform}"})
    padding = {"square": "padded to the square", "rect": "padded to the next multiple of the stride"}
    return MappingProxyType(
        {
            **facts,
            "preprocessing": f"letterbox, bilinear (INTER_LINEAR), {padding[detector.shape_mode]}",
            "score_threshold": keep.score_threshold,
            "iou_threshold": None if detector.info.head == "one2one" else keep.iou_threshold,
            "max_detections": keep.max_detections,
            "classes_of_a_box": "the best one",
            "class_agnostic_nms": keep.class_agnostic,
        }
    )


def stage_times(detector: Detector[Any], paths: Sequence[Path]) -> Mapping[str, float]:
    """Milliseconds of each stage for one image at a time: the mean over some images, with the detector's own options.

    Args:
        detector: The model.
        paths: Images that can be read; at least one.
    """
    from time import perf_counter

    step = max(1, len(paths) // TIMED)
    some = list(paths[::step])[:TIMED]
    total: dict[str, float] = {"read": 0.0}
    warm = False
    for path in some:
        began = perf_counter()
        read_image(path)
        total["read"] += 1000 * (perf_counter() - began)
        if not warm:
            detector.profile([path])
            warm = True
        for stage, spent in detector.profile([path]).stages_ms.items():
            total[stage] = total.get(stage, 0.0) + spent
    return MappingProxyType({stage: spent / len(some) for stage, spent in total.items()})


def _notes(detector: Detector[Any], keep: DetectOptions, names: ClassMap) -> tuple[str, ...]:
    notes = [names.note] if names.note else []
    if detector.info.task not in BY_ACCURACY and keep.score_threshold > 0.01:
        where = "its graph has dropped" if detector.info.nms is not None else "score_threshold (--conf) drops"
        notes.append(
            f"{where} detections that score {keep.score_threshold:g} or less, so average precision is lower than over "
            "all scores"
        )
    return tuple(notes)
