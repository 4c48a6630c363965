"""What is compared, and what is good, for each task: `MEASURES`, and `measure_of` to find a model's.

`verify` compares two models by it, and INT8 and FP8 keep their loss within a budget by it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yoloship.evaluate.class_measure import ClassMeasure
from yoloship.evaluate.object_measures import KeypointMeasure, MaskMeasure, ObjectMeasure, OrientedMeasure
from yoloship.tasks import refuse_other_results

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.evaluate.measure import Measure
    from yoloship.model import ModelInfo


BOXES: Final = ObjectMeasure()
MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "detect": BOXES,
        "segment": MaskMeasure(),
        "pose": KeypointMeasure(),
        "obb": OrientedMeasure(),
        "classify": ClassMeasure(),
    }
)
"""By `ModelInfo.task`."""


def measure_of(info: ModelInfo, subject: str) -> Measure:
    """How a model is judged.

    Args:
        info: The model's record.
        subject: The model's name, for messages.

    Raises:
        InputError: its task is that of another package, and gives more than boxes.
        SessionError: no such task is known at all.
    """
    if info.task not in MEASURES:
        refuse_other_results(info, subject, "compared")
    return MEASURES.get(info.task, BOXES)
