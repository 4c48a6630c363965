"""The thresholds of a request, from the query of its address: `options_of`."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions

MAX_CHARS: Final = 1000


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # NaN fails too
        raise ValueError("a number from 0 to 1")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and int(text)):
        raise ValueError("a whole number of 1 or more")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError("true or false")
    return text.lower() in {"true", "1"}


def _classes(text: str) -> tuple[str, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError("class names or ids, separated by commas")
    return tuple(words)


PARAMETERS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = MappingProxyType(
    {
        "conf": ("score_threshold", _fraction),
        "iou": ("iou_threshold", _fraction),
        "max_det": ("max_detections", _count),
        "agnostic_nms": ("class_agnostic", _switch),
        "classes": ("classes", _classes),
    }
)
"""Name in the query, as on the command line → its name in `DetectOptions`, and how its text is read."""


def options_of(query: Sequence[tuple[str, str]], detector: Detector[Any]) -> DetectOptions | None:
    """Which detections a request wants to keep; None if it does not say.

    Args:
        query: Names and values.
        detector: Has the defaults, and the classes.

    Raises:
        InputError: a name is unknown or given twice, or a value is outside its range or has no effect.
    """
    changes: dict[str, Any] = {}
    for name, text in query:
        if name not in PARAMETERS:
            expected = ", ".join(PARAMETERS)
            raise InputError("there is no such parameter", subject=name[:80], expected=expected)
        option, read = PARAMETERS[name]
        if option in changes:
            raise InputError("is given twice", subject=name)
        try:
            changes[option] = read(text) if len(text) <= MAX_CHARS else read("")
        except ValueError as error:
            raise InputError("wrong value", subject=name, expected=str(error), got=repr(text[:60])) from error
    if not changes:
        return None
    if detector.info.head == "one2one":
        replace(detector.options, **changes).check_final(detector.model_name, changes)
    options = replace(detector.options, **changes)
    if options.classes is not None:
        options.class_ids(detector.class_names)
    return options
