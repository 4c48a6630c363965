"""What the labels of a dataset say, for the task of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import InputError
from yoloship.evaluate.class_measure import ClassMeasure
from yoloship.evaluate.measures import MEASURES
from yoloship.evaluate.object_measures import ObjectMeasure

if TYPE_CHECKING:
    from yoloship.evaluate.coco import OverlapKind
    from yoloship.evaluate.label_lines import LabelLines
    from yoloship.model import ModelInfo


def overlap_of(info: ModelInfo) -> OverlapKind | None:
    """What decides whether an object is found; None if an image has a class and no objects.

    Raises:
        InputError: nothing is known about the labels of the model's task.
    """
    measure = MEASURES.get(info.task)
    if isinstance(measure, ClassMeasure):
        return None
    return _measure(info).overlap


def label_form(info: ModelInfo) -> LabelLines:
    """What a row of a YOLO label file holds, for a model that finds objects.

    Raises:
        InputError: nothing is known about the labels of the model's task.
    """
    return _measure(info).lines(info)


def _measure(info: ModelInfo) -> ObjectMeasure:
    measure = MEASURES.get(info.task)
    if not isinstance(measure, ObjectMeasure):
        raise InputError(f"no dataset can be read for the task {info.task[:40]!r}", subject="task")
    return measure
