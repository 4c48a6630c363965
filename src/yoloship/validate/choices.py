"""How a model is validated: `ValOptions`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.model import ModelInfo


SCORE_THRESHOLD: Final = 0.001
"""Average precision is over all scores. This is the threshold of the field's own validations."""
_IOU_THRESHOLDS: Final[Mapping[str, float]] = MappingProxyType({"yolov5": 0.6})
_IOU_THRESHOLD: Final = 0.7


@dataclass(frozen=True, slots=True)
class ValOptions:
    """What to keep of the answers, and where precision and recall are read.

    Attributes:
        score_threshold: Detections at or below it are dropped, in [0, 1]; None takes 0.001, or the threshold of NMS
            inside the graph.
        iou_threshold: A box is dropped if its IoU with a better box of its class is above it, in [0, 1]; None takes
            the default of the model's own validation: 0.6 for YOLOv5, 0.7 for Ultralytics' models.
        max_detections: Keep at most this many for each image; None takes 300.
        single_class: Whether all classes count as one.
        confidence: The score from which precision, recall, the confusion matrix and the drawn images count, in [0, 1];
            None takes the one with the best mean F1.
        worst: How many of the images with the most errors to keep for a report.

    Raises:
        InputError: a value is outside its range.
    """

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    single_class: bool = False
    confidence: float | None = None
    worst: int = 12

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise InputError("out of range", subject="confidence", expected="0 to 1", got=f"{self.confidence}")
        if not 0 <= self.worst <= 100:
            raise InputError("out of range", subject="worst", expected="0 to 100", got=f"{self.worst}")
        if self.score_threshold is not None or self.iou_threshold is not None or self.max_detections is not None:
            self.detect(None)

    def detect(self, info: ModelInfo | None) -> DetectOptions:
        """Which detections to keep of a model.

        Args:
            info: The model's record; None for a model without one, to check the values.

        Raises:
            InputError: a value is outside its range.
        """
        given = {
            name: value
            for name in ("score_threshold", "iou_threshold", "max_detections")
            if (value := getattr(self, name)) is not None
        }
        if info is None:
            return DetectOptions(**given)
        own = DetectOptions.of(info)
        if info.nms is not None or info.transform is not None:
            # What is in the graph is fixed, and a classifier has no boxes: the detector refuses what contradicts it.
            return replace(own, **given)
        usual: dict[str, Any] = {"score_threshold": SCORE_THRESHOLD}
        if info.head != "one2one":
            usual["iou_threshold"] = _IOU_THRESHOLDS.get(info.family, _IOU_THRESHOLD)
            usual["class_agnostic"] = self.single_class
        return replace(own, **{**usual, **given})
