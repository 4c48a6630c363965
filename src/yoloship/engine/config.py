"""The configuration of an engine's build, `BuildConfig`, checked before TensorRT is used, and optimization profiles.

Precision is not part of it. Networks are strongly typed, so the ONNX graph says the precision of each operator. This is
the only form that TensorRT 10, TensorRT 11 and TensorRT-RTX all take.

TensorRT silently accepts a profile whose minimum is above its optimum. A build without any profile fails with a message
that does not name the input. So profiles are checked here, before TensorRT gets them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from yoloship.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.model import ModelInfo, TensorSpec


Target: TypeAlias = Literal["portable", "current", "sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]
"""``portable``: any GPU that the flavour supports. ``current``: the GPU of this machine. Others: compute
capabilities."""
TARGETS: tuple[Target, ...] = get_args(Target)

NOT_FOR_RTX: frozenset[str] = frozenset({"sm90", "sm100", "sm103"})
"""Data centre GPUs, which TensorRT-RTX does not support: 9.0 was measured, others are from NVIDIA's documentation."""

HardwareCompatibility: TypeAlias = Literal["none", "ampere_plus", "same_compute_capability"]
MAX_OPTIMIZATION_LEVEL = 5
MAX_EXTENT = 65_536
MIN_WORKSPACE_BYTES = 1 << 20
MAX_WORKSPACE_BYTES = 1 << 40
AxisRole: TypeAlias = Literal["batch", "height", "width"]
_MAX_CHANNELS = 16
"""The most channels of an image. A longer axis is a height or a width."""
_OPTIONS = {"batch": "--batch", "height": "--imgsz", "width": "--imgsz"}


@dataclass(frozen=True, slots=True)
class Range:
    """The extents that a dynamic axis may have at run time.

    Attributes:
        minimum: Smallest extent.
        optimum: The extent to tune for.
        maximum: Largest extent.
    """

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum <= MAX_EXTENT:
            raise InputError("bad range", subject=str(self), expected=f"1 ≤ minimum ≤ optimum ≤ maximum ≤ {MAX_EXTENT}")

    @classmethod
    def parse(cls, text: str, *, option: str) -> Range:
        """Read ``4`` or ``1:4:8``.

        Args:
            text: One integer, or minimum, optimum and maximum with colons between.
            option: The option that it belongs to, for messages.

        Raises:
            InputError: it is neither.
        """
        parts = text.split(":")
        if len(parts) not in {1, 3} or not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
            raise InputError("bad range", subject=option, expected="N or MIN:OPT:MAX", got=repr(text[:40]))
        numbers = [int(part) for part in parts]
        try:
            return cls(numbers[0], numbers[-2] if len(numbers) == 3 else numbers[0], numbers[-1])
        except InputError as error:
            raise InputError("bad range", subject=option, expected=error.expected, got=text) from error

    @property
    def is_single(self) -> bool:
        """Whether only one extent is allowed."""
        return self.minimum == self.maximum

    def __str__(self) -> str:
        return str(self.optimum) if self.is_single else f"{self.minimum}:{self.optimum}:{self.maximum}"


@dataclass(frozen=True, slots=True)
class InputProfile:
    """The shapes that one input may have, for inputs that batch, height and width do not describe.

    Attributes:
        name: The input.
        minimum: Its smallest shape.
        optimum: The shape to tune for.
        maximum: Its largest shape.
    """

    name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __post_init__(self) -> None:
        shapes = (self.minimum, self.optimum, self.maximum)
        ordered = len({len(shape) for shape in shapes}) == 1 and all(
            1 <= low <= best <= high for low, best, high in zip(*shapes, strict=True)
        )
        if not ordered:
            raise InputError(
                "bad profile",
                subject=self.name,
                expected="three shapes of one rank, 1 ≤ minimum ≤ optimum ≤ maximum on each axis",
                got=f"{self.minimum}, {self.optimum}, {self.maximum}",
            )


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """How to build an engine. Defaults are TensorRT's own.

    Attributes:
        batch: Range of the batch axis, for graphs with a dynamic batch.
        height: Range of the height in model pixels, for graphs with a dynamic size.
        width: Range of the width in model pixels, for graphs with a dynamic size.
        input_profiles: Whole shapes by input, for graphs that these three do not describe.
        workspace_bytes: Scratch memory that a layer may use; None lets TensorRT decide.
        targets: GPUs on which the engine should run. If empty, TensorRT-RTX builds for all GPUs that it supports, and
            TensorRT for the GPU of this machine.
        hardware_compatibility: Newer GPUs on which the engine should run too, if it is built for this machine's GPU.
        version_compatible: Whether later TensorRT versions should load it too.
        optimization_level: 0 (fast build) to 5 (fast engine).
        timing_cache: A file that carries measured timings from build to build.
    """

    batch: Range | None = None
    height: Range | None = None
    width: Range | None = None
    input_profiles: tuple[InputProfile, ...] = ()
    workspace_bytes: int | None = None
    targets: tuple[Target, ...] = ()
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    optimization_level: int | None = None
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        workspace = self.workspace_bytes
        if workspace is not None and not MIN_WORKSPACE_BYTES <= workspace <= MAX_WORKSPACE_BYTES:
            raise _bad("workspace_bytes", f"{MIN_WORKSPACE_BYTES} to {MAX_WORKSPACE_BYTES}", workspace)
        level = self.optimization_level
        if level is not None and not 0 <= level <= MAX_OPTIMIZATION_LEVEL:
            raise _bad("optimization_level", f"0 to {MAX_OPTIMIZATION_LEVEL}", level)
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            raise _bad(
                "hardware_compatibility",
                f"one of {', '.join(get_args(HardwareCompatibility))}",
                self.hardware_compatibility,
            )
        self._check_targets()
        names = [profile.name for profile in self.input_profiles]
        if len(set(names)) != len(names):
            raise _bad("input_profiles", "one for each input", ", ".join(names))

    def _check_targets(self) -> None:
        for target in self.targets:
            if target not in TARGETS:
                raise _bad("targets", f"any of {', '.join(TARGETS)}", target)
        if len(set(self.targets)) != len(self.targets):
            raise _bad("targets", "each once", ", ".join(self.targets))
        for alone in ("portable", "current"):
            if alone in self.targets and len(self.targets) > 1:
                raise _bad("targets", f"{alone!r} alone, or compute capabilities", ", ".join(self.targets))
        if self.targets and self.hardware_compatibility != "none":
            raise _bad("targets", "targets or hardware_compatibility, not both", ", ".join(self.targets))

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON, without the path of the timing cache, which does not change the result."""
        data = asdict(self)
        del data["timing_cache"]
        return data

    def to_json(self) -> str:
        """JSON on one line with sorted keys, so that equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))


def parse_target(text: str) -> Target:
    """Read a target as people write it: ``8.9``, ``89``, ``sm89`` and ``SM_89`` are the same.

    Raises:
        InputError: it is not a target.
    """
    word = text.strip().lower().replace(".", "").replace("_", "")
    if word.isdigit():
        word = f"sm{word}"
    for target in TARGETS:
        if word == target:
            return target
    hint = "TensorRT-RTX does not support it; use TensorRT there" if word in NOT_FOR_RTX else None
    raise InputError(
        "no such target", subject="target", expected=f"one of {', '.join(TARGETS)}", got=text[:40], hint=hint
    )


def _bad(option: str, expected: str, got: object) -> InputError:
    return InputError("bad build option", subject=option, expected=expected, got=str(got))


def resolve_profiles(
    inputs: tuple[TensorSpec, ...], config: BuildConfig, info: ModelInfo | None = None
) -> tuple[InputProfile, ...]:
    """Decide the shapes of every dynamic input.

    Args:
        inputs: The network's inputs, with names for dynamic axes.
        config: Ranges for batch, height and width, or whole shapes by input.
        info: What is known about the model: sizes must be multiples of its largest stride.

    Returns:
        One profile for each dynamic input, in order; empty for a static network.

    Raises:
        InputError: a dynamic axis has no range, a range contradicts a fixed axis, or a size does not fit the strides.
    """
    given = {profile.name: profile for profile in config.input_profiles}
    if unknown := sorted(given.keys() - {spec.name for spec in inputs}):
        raise InputError(
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
    """The role of each axis: an image is (B, C, H, W), or (B, H, W, C) if its values are bytes."""
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
            raise InputError(
                f"{role} is fixed in the graph",
                subject=spec.name,
                expected=str(extent),
                got=str(wanted),
                hint=f"export the graph with a dynamic {role}, or leave {_OPTIONS[role or 'batch']} out",
            )
        return Range(extent, extent, extent)
    if wanted is not None:
        return wanted
    raise InputError(
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
            raise InputError(
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
                raise InputError(
                    f"{role} is not a multiple of the model's stride",
                    subject=spec.name,
                    expected=f"a multiple of {stride}",
                    got=str(size),
                    hint=f"take {nearest}",
                )
