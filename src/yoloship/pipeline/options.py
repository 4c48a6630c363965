"""What to keep of a model's answers: `DetectOptions`."""

from __future__ import annotations

from dataclasses import dataclass

from yoloship.errors import InputError


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Thresholds and limits of a detection.

    Attributes:
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        iou_threshold: In [0, 1]; a box goes when its IoU with a better one is above it.
        max_detections: Keep at most this many a picture.
        classes: Class ids or names to keep; None keeps all.
        class_agnostic: Whether boxes of different classes suppress each other.

    Raises:
        InputError: a value is outside its range.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    classes: tuple[int | str, ...] | None = None
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:  # NaN is neither
                raise InputError("out of range", subject=name, expected="a number from 0 to 1", got=repr(value))
        count: object = self.max_detections
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError("out of range", subject="max_detections", expected="1 or more", got=repr(count))
        classes: object = self.classes
        if classes is not None:
            if not isinstance(classes, tuple | list) or any(
                isinstance(item, bool) or not isinstance(item, int | str) for item in classes
            ):
                raise InputError("wrong type", subject="classes", expected="a tuple of ids or names", got=repr(classes))
            object.__setattr__(self, "classes", tuple(classes))
