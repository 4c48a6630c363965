"""What to keep of a model's answers: `DetectOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.model import NmsConfig


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

    @classmethod
    def of(cls, nms: NmsConfig | None) -> DetectOptions:
        """What is kept where nothing is said: the defaults, or what a graph has baked in."""
        if nms is None:
            return cls()
        return cls(nms.score_threshold, nms.iou_threshold, nms.max_detections, None, nms.class_agnostic)

    def check_against(self, nms: NmsConfig, subject: str) -> None:
        """Refuse what a graph with suppression inside cannot give any more.

        Args:
            nms: What is baked into it.
            subject: The model's name, for messages.

        Raises:
            InputError: a threshold or a limit asks for boxes that it has dropped, or for another suppression.
        """
        for name, holds, expected in (
            ("score_threshold", self.score_threshold >= nms.score_threshold, f"{nms.score_threshold:g} or more"),
            ("iou_threshold", self.iou_threshold == nms.iou_threshold, f"{nms.iou_threshold:g}"),
            ("max_detections", self.max_detections <= nms.max_detections, f"{nms.max_detections} or less"),
            ("class_agnostic", self.class_agnostic == nms.class_agnostic, f"{nms.class_agnostic}"),
            ("classes", self.classes is None or not nms.class_agnostic, "None: boxes of all classes have met already"),
        ):
            if not holds:
                raise InputError(
                    f"its graph has suppressed already, with another {name}",
                    subject=subject,
                    expected=expected,
                    got=f"{getattr(self, name)}",
                    hint="ask for that, or export it with another output form",
                )
