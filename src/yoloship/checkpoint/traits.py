"""What a module tree says about itself: its task, its class names, its strides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.checkpoint.names import read_names
from yoloship.checkpoint.other_heads import other_head
from yoloship.checkpoint.records import Module, Tensor
from yoloship.errors import CheckpointError
from yoloship.model import MAX_LEVELS, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.names import ClassNames
    from yoloship.checkpoint.records import Value
    from yoloship.model import Task

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
    head = read_head(module)
    problem = f"holds a {module.class_path!r}"
    for part, word in ((head, "which" if head is module else "whose last layer"), (module, "which")):
        other = other_head(part)
        if other is not None:
            raise CheckpointError(f"{problem}, {word} {other.problem}", subject=subject, hint=other.hint)
    raise CheckpointError(
        f"{problem}, which is not a YOLOv5 model",
        subject=subject,
        hint="if the model is inside it, save that alone: torch.save({'model': model}, path)",
    )


def read_class_names(module: Module, around: Sequence[Value], limits: Limits) -> ClassNames:
    """The model's class names; those that stood around it if it has none; numbered ones if nobody has any.

    Args:
        module: The whole model.
        around: Class names of its wrappers and of the file, nearest first.
        limits: Bounds on their number and length.
    """
    count = read_head(module).attributes.get("nc", module.attributes.get("nc"))
    candidates = (module.attributes.get("names"), *around)
    value = next((names for names in candidates if names is not None), None)
    return read_names(value, count if type(count) is int else None, limits)


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
