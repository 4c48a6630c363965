"""Optimization profiles: from "batch 1:4:8" to three shapes for each dynamic input.

TensorRT takes a profile whose minimum is above its optimum without a word, and a build without any profile fails with
a sentence that does not name the input. So all of it is settled here, before TensorRT is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from yoloship.engine.config import BuildConfig, InputProfile, Range
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from yoloship.model import ModelInfo
    from yoloship.tensors import TensorSpec

AxisRole: TypeAlias = Literal["batch", "height", "width"]
_MAX_CHANNELS = 16
"""Of an image; longer axes are heights and widths."""
_OPTIONS = {"batch": "--batch", "height": "--imgsz", "width": "--imgsz"}


def resolve_profiles(
    inputs: tuple[TensorSpec, ...], config: BuildConfig, info: ModelInfo | None = None
) -> tuple[InputProfile, ...]:
    """Decide the shapes of every dynamic input.

    Args:
        inputs: The network's, with names for dynamic axes.
        config: Ranges for batch, height and width, or whole shapes by input.
        info: What is known about the model: sizes must be multiples of its largest stride.

    Returns:
        One profile for each dynamic input, in their order; none for a static network.

    Raises:
        EngineError: a dynamic axis has no range, a fixed one has another, or a size does not fit the strides.
    """
    given = {profile.name: profile for profile in config.input_profiles}
    if unknown := sorted(given.keys() - {spec.name for spec in inputs}):
        raise EngineError(
            "profile for an input that the network does not have",
            subject=unknown[0],
            expected=f"one of {', '.join(spec.name for spec in inputs)}",
        )
    profiles = []
    for spec in inputs:
        roles = _roles(spec, info)
        _check_strides(spec, roles, config, info)
        if spec.name in given:
            profiles.append(_matching(given[spec.name], spec))
            continue
        ranges = tuple(_range(spec, axis, roles[axis], config) for axis in range(len(spec.shape)))
        if any(isinstance(extent, str) for extent in spec.shape):
            profiles.append(
                InputProfile(
                    spec.name,
                    tuple(r.minimum for r in ranges),
                    tuple(r.optimum for r in ranges),
                    tuple(r.maximum for r in ranges),
                )
            )
    return tuple(profiles)


def _roles(spec: TensorSpec, info: ModelInfo | None) -> tuple[AxisRole | None, ...]:
    """What each axis is: an image is (B, C, H, W), or (B, H, W, C) if it comes as bytes."""
    if len(spec.shape) != 4:
        return ("batch", *([None] * (len(spec.shape) - 1))) if spec.shape else ()
    first, last = (isinstance(extent, int) and extent <= _MAX_CHANNELS for extent in (spec.shape[1], spec.shape[3]))
    if (last and not first) or (info is not None and info.input_form == "image"):
        return ("batch", "height", "width", None)
    return ("batch", None, "height", "width")


def _range(spec: TensorSpec, axis: int, role: AxisRole | None, config: BuildConfig) -> Range:
    extent = spec.shape[axis]
    wanted: Range | None = getattr(config, role) if role else None
    if isinstance(extent, int):
        if wanted is not None and (not wanted.is_single or wanted.minimum != extent):
            raise EngineError(
                f"{role} is fixed in the graph",
                subject=spec.name,
                expected=str(extent),
                got=str(wanted),
                hint=f"export the graph with a dynamic {role}, or leave {_OPTIONS[role or 'batch']} out",
            )
        return Range(extent, extent, extent)
    if wanted is not None:
        return wanted
    raise EngineError(
        f"axis {axis} ({extent}) is dynamic and nothing says how large it may be",
        subject=f"input {spec}",
        hint=f"give {_OPTIONS[role]} MIN:OPT:MAX" if role else "give a whole shape for it (BuildConfig.input_profiles)",
    )


def _matching(profile: InputProfile, spec: TensorSpec) -> InputProfile:
    for shape in (profile.minimum, profile.optimum, profile.maximum):
        fits = len(shape) == len(spec.shape) and all(
            isinstance(have, str) or have == want for have, want in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise EngineError(
                "profile does not fit the input", subject=spec.name, expected=spec.shape_text, got=str(shape)
            )
    return profile


def _check_strides(
    spec: TensorSpec, roles: tuple[AxisRole | None, ...], config: BuildConfig, info: ModelInfo | None
) -> None:
    if info is None or not info.strides or len(spec.shape) != 4:
        return
    stride = info.size_multiple
    for extent, role in zip(spec.shape, roles, strict=True):
        if role not in {"height", "width"}:
            continue
        wanted: Range | None = getattr(config, role)
        sizes = {extent} if isinstance(extent, int) else set()
        if wanted is not None:
            sizes |= {wanted.minimum, wanted.optimum, wanted.maximum}
        for size in sorted(sizes):
            if size % stride:
                nearest = f"{size // stride * stride} or {(size // stride + 1) * stride}"
                raise EngineError(
                    f"{role} is not a multiple of the model's stride",
                    subject=spec.name,
                    expected=f"a multiple of {stride}",
                    got=str(size),
                    hint=f"take {nearest}",
                )
