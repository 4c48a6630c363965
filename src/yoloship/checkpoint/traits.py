"""What a module tree says about itself: its task, its class names, its strides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.checkpoint.records import Module, Tensor
from yoloship.errors import CheckpointError
from yoloship.model import MAX_LEVELS, MAX_SIDE

if TYPE_CHECKING:
    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Value
    from yoloship.model import Task

_MAX_NAME_CHARS = 1000
_SEGMENT = frozenset({"SegmentationModel", "Segment"})
_CLASSIFY = frozenset({"ClassificationModel", "Classify"})
_DETECT = frozenset({"DetectionModel", "Model", "Detect"})


def read_head(module: Module) -> Module:
    """The last layer of a model: its head; the model itself where it has no layers in a row."""
    layers = module.children.get("model")
    if layers is None or not layers.children:
        return module
    return list(layers.children.values())[-1] or module


def read_task(module: Module, subject: str) -> Task:
    """By the class of the last layer, or of the model.

    Raises:
        CheckpointError: neither is one of the training repository's.
    """
    classes = {module.class_name, read_head(module).class_name}
    if classes & _SEGMENT:
        return "segment"
    if classes & _CLASSIFY:
        return "classify"
    if classes & _DETECT:
        return "detect"
    raise CheckpointError(f"holds a {module.class_path!r}, which is no YOLOv5 model", subject=subject)


def read_class_names(module: Module, subject: str, limits: Limits) -> tuple[str, ...]:
    """By class id, from a list or a table by id; ``class0``, ``class1``, … where the file has none.

    Raises:
        CheckpointError: they are no names, or the ids have gaps.
    """
    names = module.attributes.get("names")
    if isinstance(names, dict):
        ids = [key for key in names if type(key) is int]
        if len(ids) != len(names) or sorted(ids) != list(range(len(ids))):
            raise CheckpointError("class names whose ids are not 0, 1, 2, …", subject=subject)
        names = [names[index] for index in range(len(ids))]
    if names is None:
        count = read_head(module).attributes.get("nc", module.attributes.get("nc"))
        if type(count) is not int or not 0 <= count <= limits.class_names:
            raise CheckpointError("says neither its class names nor how many classes it has", subject=subject)
        return tuple(f"class{index}" for index in range(count))
    if not isinstance(names, list | tuple) or len(names) > limits.class_names:
        raise CheckpointError("class names that are no list of names", subject=subject)
    return tuple(_name(name, subject) for name in names)


def _name(value: Value, subject: str) -> str:
    if isinstance(value, bool | int | float):  # YAML reads `no` and `1` so
        return str(value)
    if not isinstance(value, str) or len(value) > _MAX_NAME_CHARS:
        raise CheckpointError(f"a class name that is no text of at most {_MAX_NAME_CHARS} characters", subject=subject)
    return value


def read_strides(module: Module, task: Task, subject: str) -> tuple[int, ...]:
    """Model pixels a cell of each level, finest first; () for a classifier.

    Raises:
        CheckpointError: there are none, or they are no whole numbers of pixels.
    """
    if task == "classify":
        return ()
    head = read_head(module)
    for owner in (head, module):
        value = owner.attributes.get("stride", owner.buffers.get("stride"))
        if value is not None:
            return tuple(sorted(_strides(value, subject)))
    raise CheckpointError(f"its head, a {head.class_path!r}, says no strides", subject=subject)


def _strides(value: Value, subject: str) -> list[int]:
    if isinstance(value, Tensor):
        value = list(value.float64().ravel().tolist()) if value.size <= MAX_LEVELS else None
    elif isinstance(value, np.ndarray):
        value = list(value.ravel().tolist()) if value.size <= MAX_LEVELS else None
    strides: list[int] = []
    for stride in value if isinstance(value, list | tuple) and 1 <= len(value) <= MAX_LEVELS else (None,):
        if not isinstance(stride, int | float) or not 1 <= stride <= MAX_SIDE or stride != int(stride):
            raise CheckpointError(
                f"strides that are not 1 to {MAX_LEVELS} whole numbers of pixels up to {MAX_SIDE}", subject=subject
            )
        strides.append(int(stride))
    return strides
