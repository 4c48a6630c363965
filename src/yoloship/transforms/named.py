"""Transforms by the name of the library that trains with them, and `transform_of`, which reads one from text.

The sizes are those of the libraries' documentation: torchvision's presets of its ResNet weights (resize 256 for V1 and
232 for V2 weights), timm's evaluation transform (floor(size / crop_pct)), YOLOv5's and Ultralytics' classification.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

from yoloship._util.fields import is_number
from yoloship.errors import InputError
from yoloship.transforms.record import IMAGENET_MEAN, IMAGENET_STD, MAX_SIDE, Interpolation, Kind, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping

_USUAL_SIDE: Final = 224
_MAX_TEXT: Final = 1000
_PLAIN_MEAN: Final = (0.0, 0.0, 0.0)
_PLAIN_STD: Final = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Named:
    """A library's transform, before the size of the input is known.

    Attributes:
        kind: As in `Transform`.
        resize: The shorter side before a cut of 224 pixels; None if `crop_pct` says it, or nothing is cut.
        crop_pct: The part of the shorter side that the cut keeps.
        interpolation: As in `Transform`.
        mean: As in `Transform`.
        std: As in `Transform`.
    """

    kind: Kind
    resize: int | None
    crop_pct: float | None
    interpolation: Interpolation
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


TRANSFORMS: Final[Mapping[str, _Named]] = MappingProxyType(
    {
        "torchvision-v1": _Named("crop", 256, None, "bilinear"),
        "torchvision-v2": _Named("crop", 232, None, "bilinear"),
        "timm": _Named("crop", None, 0.875, "bicubic"),
        "yolov5": _Named("square", None, None, "opencv-linear"),
        "ultralytics": _Named("crop", None, 1.0, "bilinear", _PLAIN_MEAN, _PLAIN_STD),
    }
)
"""By the name that users give."""
_STRETCH: Final = _Named("stretch", None, None, "bilinear", _PLAIN_MEAN, _PLAIN_STD)
"""Of the name ``stretch``: trainings whose Resize has a height and a width."""

_PARAMETERS: Final = ("resize", "crop_pct", "interpolation", "mean", "std")
CHOICES: Final = ", ".join(TRANSFORMS)
_GRAMMAR: Final = (
    "parameters follow the name: timm:crop_pct=0.95,interpolation=bilinear; "
    "also resize=256 and, a value for each channel, mean=0.5/0.5/0.5 and std=0.5/0.5/0.5. The name stretch scales to "
    "the input's height and width"
)


def transform_of(text: str, input_hw: tuple[int, int] = (_USUAL_SIDE, _USUAL_SIDE)) -> Transform:
    """The transform of a name, perhaps with parameters, for an input size.

    Args:
        text: A name of `TRANSFORMS`, alone or with parameters: ``timm:crop_pct=0.95,interpolation=bicubic``. Without
            parameters timm has its own defaults, 0.875 and bicubic.
        input_hw: (height, width) of the model's input in pixels.

    Raises:
        InputError: there is no such name or parameter, a value is out of range, or the library does not define the
            transform for this size.
    """
    name, _, rest = text.partition(":")
    named = _STRETCH if name == _STRETCH.kind else TRANSFORMS.get(name)
    if named is None or len(text) > _MAX_TEXT:
        raise InputError(
            "is not a transform", subject="transform", expected=CHOICES, got=repr(text)[:60], hint=_GRAMMAR
        )
    given = _parameters(text, rest)
    fixed = {"crop": set(), "square": {"resize", "crop_pct", "interpolation"}, "stretch": {"resize", "crop_pct"}}
    if unfit := [key for key in given if key in fixed[named.kind]]:
        raise InputError(
            f"has no {unfit[0]}", subject=f"transform {name!r}", expected="mean or std", got=text[:60], hint=_GRAMMAR
        )
    if "resize" in given and "crop_pct" in given:
        raise InputError("say the same thing", subject="transform: resize, crop_pct", got=text[:60])
    return Transform(
        kind="stretch" if _stretches(name, given, input_hw) else named.kind,
        resize=None if _stretches(name, given, input_hw) else _resize(name, named, given, input_hw),
        crop=input_hw,
        interpolation=_interpolation(given.get("interpolation", named.interpolation)),
        mean=_numbers("mean", given["mean"]) if "mean" in given else named.mean,
        std=_numbers("std", given["std"]) if "std" in given else named.std,
    )


def _stretches(name: str, given: Mapping[str, str], input_hw: tuple[int, int]) -> bool:
    """Whether the library scales to exactly this size: Ultralytics does, if it is not square."""
    return name == "ultralytics" and input_hw[0] != input_hw[1] and not {"resize", "crop_pct"} & given.keys()


def _parameters(text: str, rest: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in rest.split(",") if ":" in text else ():
        key, equals, value = part.partition("=")
        if key not in _PARAMETERS or not equals or key in given:
            raise InputError(
                "is not a parameter of a transform", subject="transform", expected=", ".join(_PARAMETERS),
                got=repr(part)[:60], hint=_GRAMMAR,
            )  # fmt: skip
        given[key] = value
    return given


def _resize(name: str, named: _Named, given: Mapping[str, str], input_hw: tuple[int, int]) -> int | None:
    """The shorter side before the cut."""
    if named.kind != "crop":
        return None
    if "resize" in given:
        return int(_number("resize", given["resize"], 1, MAX_SIDE, whole=True))
    side = input_hw[0]
    if input_hw[0] != input_hw[1]:
        raise InputError(
            "is defined for square inputs only", subject=f"transform {name!r}",
            expected="a square, or the shorter side before the cut", got=f"{input_hw[0]}x{input_hw[1]}",
            hint=f"give it: {name}:resize={math.ceil(max(input_hw) * 8 / 7)}",
        )  # fmt: skip
    if "crop_pct" in given:
        return math.floor(side / _number("crop_pct", given["crop_pct"], 0.01, 1))
    return math.floor(side / named.crop_pct) if named.crop_pct else side * (named.resize or side) // _USUAL_SIDE


def _interpolation(word: str) -> Interpolation:
    for choice in get_args(Interpolation):
        if word == choice:
            found: Interpolation = choice
            return found
    raise InputError(
        "is not an interpolation", subject="transform: interpolation", expected="bilinear or bicubic", got=word[:60]
    )


def _numbers(name: str, text: str) -> tuple[float, ...]:
    return tuple(_number(name, part, 1e-6 if name == "std" else -1e6, 1e6) for part in text.split("/"))


def _number(name: str, text: str, low: float, high: float, *, whole: bool = False) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not is_number(value, low, high):
        raise InputError(
            "cannot have this value", subject=f"transform: {name}", got=repr(text)[:40],
            expected=f"a {'whole ' if whole else ''}number from {low:g} to {high:g}",
        )  # fmt: skip
    return value
