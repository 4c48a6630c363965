"""Which shapes a model takes, and which optimization profile serves them best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.engine.config import InputProfile
    from yoloship.tensors import TensorSpec

Shapes = dict[str, tuple[int, ...]]


def check_shapes(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Refuse shapes that do not fit a model's inputs.

    Args:
        specs: The model's inputs.
        shapes: Of each input, by name.

    Returns:
        The same, in the order of the inputs, extents as plain integers.

    Raises:
        InputError: an input is missing or unknown, or a shape has another rank, another fixed extent, or one below 1,
            or two dynamic axes of one name differ.
    """
    if shapes.keys() != {spec.name for spec in specs}:
        raise InputError(
            "the shapes are not those of the model's inputs",
            expected=", ".join(spec.name for spec in specs) or "none",
            got=", ".join(map(str, shapes)) or "none",
        )
    extents: dict[str, int] = {}
    checked: Shapes = {}
    for spec in specs:
        shape = tuple(int(extent) for extent in shapes[spec.name])
        fits = len(shape) == len(spec.shape) and all(
            have >= 1 and (have == want if isinstance(want, int) else extents.setdefault(want, have) == have)
            for want, have in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InputError("wrong shape", subject=spec.name, expected=spec.shape_text, got=str(shape))
        checked[spec.name] = shape
    return checked


def choose_profile(profiles: Sequence[Sequence[InputProfile]], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The profile whose optimum is nearest to the shapes, of those that allow them; 0 where there are none.

    Args:
        profiles: Ranges of the dynamic inputs, for each profile.
        shapes: Of each input; extents are 1 or more.

    Raises:
        InputError: no profile allows them; the ranges are named.
    """
    if not profiles:
        return 0
    fitting = [number for number, profile in enumerate(profiles) if all(_allows(entry, shapes) for entry in profile)]
    if not fitting:
        raise _outside(profiles, shapes)
    return min(fitting, key=lambda number: sum(_distance(entry, shapes) for entry in profiles[number]))


def _allows(entry: InputProfile, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    shape = shapes[entry.name]
    return len(shape) == len(entry.minimum) and all(
        low <= have <= high for low, have, high in zip(entry.minimum, shape, entry.maximum, strict=True)
    )


def _distance(entry: InputProfile, shapes: Mapping[str, tuple[int, ...]]) -> float:
    return sum(abs(math.log(have / best)) for have, best in zip(shapes[entry.name], entry.optimum, strict=True))


def _outside(profiles: Sequence[Sequence[InputProfile]], shapes: Mapping[str, tuple[int, ...]]) -> InputError:
    """About the first input that no profile allows; where each has one that does, about the first input of all."""
    entries = [entry for profile in profiles for entry in profile]
    names = [name for name in shapes if any(entry.name == name for entry in entries)]
    wrong = [name for name in names if not any(_allows(entry, shapes) for entry in entries if entry.name == name)]
    name = (wrong or names)[0]
    ranges = dict.fromkeys(f"{entry.minimum} to {entry.maximum}" for entry in entries if entry.name == name)
    return InputError(
        "the shape is outside every optimization profile of the engine",
        subject=name,
        expected=" or ".join(ranges),
        got=str(shapes[name]),
        hint="build the engine for a wider range (yoloship build --batch MIN:OPT:MAX --imgsz MIN:OPT:MAX)",
    )
