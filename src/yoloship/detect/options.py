"""Which detections to keep: `DetectOptions`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import InputError
from yoloship.model import MAX_FINAL, usual_iou

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from yoloship.model import ModelInfo, NmsConfig


OPTION_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "score_threshold": "--conf",
        "iou_threshold": "--iou",
        "max_detections": "--max-det",
        "classes": "--classes",
        "class_agnostic": "--agnostic-nms",
    }
)
MASK_OPTION_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"retina_masks": "--retina-masks", "mask_rule": "--mask-rule"}
)
"""The options of `DetectOptions`, each with its name on the command line."""


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Which detections to keep: thresholds, limits and classes.

    Attributes:
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        iou_threshold: In [0, 1]; a box is dropped if its IoU with a better box is above it. A detector without options
            takes the default of the model's own tool: 0.45 for YOLOv5, 0.7 for Ultralytics' models.
        max_detections: Keep at most this many for each image.
        classes: Ids or names of the classes to keep; None keeps all.
        class_agnostic: Whether boxes of different classes suppress each other.
        retina_masks: Whether masks are computed at the resolution of the source image: finer edges, but slower. By
            default they have the resolution of the network's input, as in the official tools.
        mask_rule: How masks are made, a name in `yoloship.results.mask_rules.MASK_RULES`; None takes the rule of the
            version that wrote the checkpoint.

    Raises:
        InputError: a value is outside its range.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    classes: tuple[int | str, ...] | None = None
    class_agnostic: bool = False
    retina_masks: bool = False
    mask_rule: str | None = None

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            value: Any = getattr(self, name)
            is_number: bool = isinstance(value, Real) and not isinstance(value, bool)
            if not (is_number and 0 <= value <= 1):  # NaN fails too
                raise InputError("out of range", subject=name, expected="a number from 0 to 1", got=repr(value))
            object.__setattr__(self, name, float(value))
        count: object = self.max_detections
        if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
            raise InputError("out of range", subject="max_detections", expected="1 or more", got=repr(count))
        object.__setattr__(self, "max_detections", int(count))
        if self.mask_rule is not None:
            from yoloship.results.mask_rules import MASK_RULES

            if self.mask_rule not in MASK_RULES:
                expected = f"one of {', '.join(MASK_RULES)}"
                raise InputError("no such rule", subject="mask_rule", expected=expected, got=repr(self.mask_rule)[:60])
        if self.classes is not None:
            object.__setattr__(self, "classes", _classes(self.classes))

    @staticmethod
    def changes(options: object, **given: Any) -> dict[str, Any]:
        """The options that are given one by one, beside those that are given as a whole.

        Args:
            options: The options that are given as a whole, or None.
            **given: A value for each option; None if it is not given.

        Raises:
            InputError: an option is given in both ways, or `options` is not a `DetectOptions`.
        """
        if not isinstance(options, DetectOptions | None):
            raise InputError(
                "wrong type",
                subject="options",
                expected="a DetectOptions",
                got=type(options).__name__,
                hint="give DetectOptions(score_threshold=0.3) or the like",
            )
        changes = {name: value for name, value in given.items() if value is not None}
        if changes and options is not None:
            raise InputError(
                "is given twice, alone and inside options", subject=", ".join(changes),
                hint="set it inside options, or leave options out",
            )  # fmt: skip
        return changes

    @classmethod
    def of(cls, info: ModelInfo) -> DetectOptions:
        """Default options: the settings of NMS inside the graph, or without it those of the model's own tool."""
        nms = info.nms
        if nms is None:
            return cls(iou_threshold=usual_iou(info.family)) if info.strides else cls()  # without levels, no boxes
        return cls(nms.score_threshold, nms.iou_threshold, nms.max_detections, None, nms.class_agnostic)

    def class_ids(self, names: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """(n,) int32: the ids of `classes`, which are not None.

        Args:
            names: Class names by class id.

        Raises:
            InputError: the model has no such class.
        """
        import numpy as np

        from yoloship.results.class_ids import class_ids_of

        return np.array(class_ids_of(self.classes or (), names), np.int32)

    def check_final(self, subject: str, given: Collection[str] = ()) -> None:
        """Refuse options that a head without suppression cannot satisfy.

        Args:
            subject: The model's name, for messages.
            given: Names of the options that the caller gave one by one.

        Raises:
            InputError: an option is about suppression, or asks for more boxes than the head gives.
        """
        for name, option, holds in (
            ("iou_threshold", "--iou", "iou_threshold" not in given),
            ("class_agnostic", "--agnostic-nms", not self.class_agnostic),
        ):
            if not holds:
                raise InputError(
                    f"{name} ({option}) has no effect, because the head 'one2one' needs no NMS", subject=subject,
                    hint="leave it out, or take the head 'one2many' if the checkpoint has it",
                )  # fmt: skip
        if self.max_detections > MAX_FINAL:
            raise InputError(
                f"max_detections (--max-det) cannot be above {MAX_FINAL}, because the head 'one2one' gives no more",
                subject=subject, expected=f"{MAX_FINAL} or less", got=str(self.max_detections),
            )  # fmt: skip

    def check_against(self, nms: NmsConfig, subject: str) -> None:
        """Refuse options that a graph with NMS inside cannot satisfy.

        Args:
            nms: The settings of NMS in the graph.
            subject: The model's name, for messages.

        Raises:
            InputError: an option asks for boxes that the graph has dropped, or for other NMS settings.
        """
        least, most = f"{nms.score_threshold:g}", str(nms.max_detections)
        for name, option, holds, problem, expected in (
            (
                "score_threshold", "--conf", self.score_threshold >= nms.score_threshold,
                f"cannot be below {least}, because this graph has dropped what scores less", f"{least} or more",
            ),
            (
                "iou_threshold", "--iou", self.iou_threshold == nms.iou_threshold,
                f"is fixed at {nms.iou_threshold:g} inside this graph", f"{nms.iou_threshold:g}",
            ),
            (
                "max_detections", "--max-det", self.max_detections <= nms.max_detections,
                f"cannot be above {most}, because this graph gives no more", f"{most} or less",
            ),
            (
                "class_agnostic", "--agnostic-nms", self.class_agnostic == nms.class_agnostic,
                f"is fixed at {nms.class_agnostic} inside this graph", f"{nms.class_agnostic}",
            ),
            (
                "classes", "--classes", self.classes is None or not nms.class_agnostic,
                "cannot be chosen, because boxes of all classes have suppressed each other inside this graph", "None",
            ),
        ):  # fmt: skip
            if not holds:
                raise InputError(
                    f"{name} ({option}) {problem}",
                    subject=subject,
                    expected=expected,
                    got=f"{getattr(self, name)}",
                    hint="leave it out, or export the model with another output form",
                )


def _classes(classes: object) -> tuple[int | str, ...]:
    """Check ids and names, and make ids plain integers."""
    items: list[Any] = (
        list(classes) if isinstance(classes, Iterable) and not isinstance(classes, str | bytes) else [None]
    )
    if not all(isinstance(item, str | Integral) and not isinstance(item, bool) for item in items):
        raise InputError("wrong type", subject="classes", expected="a tuple of ids or names", got=repr(classes)[:60])
    return tuple(item if isinstance(item, str) else int(item) for item in items)


def whole_numbers(values: Any, subject: str, count: int | None = None) -> tuple[int, ...]:
    """Check whole numbers of 1 or more, whose number is `count`.

    Raises:
        InputError: the values are something else.
    """
    numbers: tuple[Any, ...] = tuple(values) if isinstance(values, Iterable) else ()
    are_right = all(not isinstance(one, bool) and isinstance(one, Integral) and int(one) >= 1 for one in numbers)
    if not are_right or not numbers or (count is not None and len(numbers) != count):
        expected = f"{'' if count is None else f'{count} '}whole numbers of 1 or more"
        raise InputError("out of range", subject=subject, expected=expected, got=repr(values)[:60])
    return tuple(int(one) for one in numbers)


def class_words(values: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names and ids from the values of ``--classes``. A value that is a class name is not split at its commas.

    Args:
        values: As given on the command line: ``person,car,2``.
        names: The model's class names.
    """
    words: list[str] = []
    for value in values:
        words += [value] if value in names else [part.strip() for part in value.split(",") if part.strip()]
    return tuple(words)
