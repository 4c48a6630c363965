"""`Transform`: what a training library does to an image before its classification network sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from yoloship._util.fields import Items, Number, OrNull, Whole, is_int
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship._util.fields import FieldReader, Rule

Kind: TypeAlias = Literal["crop", "square", "stretch"]
"""``crop``: the shorter side is scaled to `Transform.resize`, and the centre is cut out. ``square``: the largest
centred square is cut out and scaled. ``stretch``: the image is scaled to the input's height and width."""
Interpolation: TypeAlias = Literal["bilinear", "bicubic", "opencv-linear"]
"""``bilinear`` and ``bicubic``: Pillow's filters, which widen when an image gets smaller (antialias).
``opencv-linear``: OpenCV's INTER_LINEAR, which does not."""

MAX_SIDE: Final = 8192
_MAX_CHANNELS: Final = 1024
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Of red, green and blue in [0, 1]: the mean over ImageNet that torchvision, timm and YOLOv5 subtract."""
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""The standard deviation, by which they divide."""


@dataclass(frozen=True, slots=True)
class Transform:
    """How an image becomes the input of a classification model.

    Attributes:
        kind: How the image is cut and scaled.
        resize: For the kind ``crop``: the shorter side in model pixels before the cut; None for other kinds.
        crop: (height, width) of the input in model pixels for which `resize` is meant.
        interpolation: How pixels are interpolated.
        mean: Of each channel in the network's order (RGB), for values in [0, 1]; it is subtracted.
        std: Of each channel; the difference is divided by it.

    Raises:
        InputError: a value is outside its range, or contradicts another.
    """

    kind: Kind
    resize: int | None
    crop: tuple[int, int]
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("kind", self.kind in get_args(Kind), " or ".join(get_args(Kind))),
            ("crop", _is_size(self.crop), f"(height, width), each 1 to {MAX_SIDE}"),
            ("resize", self._resize_fits(), f"1 to {MAX_SIDE} for the kind 'crop', and None for others"),
            ("interpolation", self.interpolation in get_args(Interpolation), " or ".join(get_args(Interpolation))),
            ("mean", _are_numbers(self.mean, -1e6), "a finite number for each channel"),
            ("std", _are_numbers(self.std, 1e-6), "a number above 0 for each channel"),
        ):
            if not fits:
                raise InputError(
                    "cannot have this value", subject=f"transform: {name}", expected=expected,
                    got=repr(getattr(self, name))[:60],
                )  # fmt: skip
        if len(self.mean) != len(self.std):
            raise InputError(
                "needs one value of each for each channel", subject="transform: mean, std",
                expected="as many as the model has channels", got=f"{len(self.mean)} and {len(self.std)}",
            )  # fmt: skip

    def _resize_fits(self) -> bool:
        return is_int(self.resize, 1, MAX_SIDE) if self.kind == "crop" else self.resize is None

    @property
    def normalises(self) -> bool:
        """Whether it subtracts or divides after the values are in [0, 1]."""
        return any(self.mean) or any(one != 1 for one in self.std)

    @property
    def text(self) -> str:
        """The same transform as text, for `transform_of` and an input of the size `crop`."""
        name = {"crop": "torchvision-v1", "square": "yolov5", "stretch": "stretch"}[self.kind]
        means, deviations = ("/".join(map(repr, values)) for values in (self.mean, self.std))
        cut = "" if self.resize is None else f"resize={self.resize},"
        filtered = "" if self.kind == "square" else f"interpolation={self.interpolation},"
        return f"{name}:{cut}{filtered}mean={means},std={deviations}"

    def at(self, input_hw: tuple[int, int]) -> Transform:
        """The same transform for another input size: the shorter side before the cut changes in proportion.

        Args:
            input_hw: (height, width) of the input in model pixels.

        Raises:
            InputError: the kind is ``crop``, and the other size is not square: libraries define it for squares only.
        """
        if input_hw == self.crop:
            return self
        if self.resize is None:
            return replace(self, crop=input_hw)
        if input_hw[0] != input_hw[1] or self.crop[0] != self.crop[1]:
            raise InputError(
                "the transform does not say how an image is cut for this size", subject="imgsz",
                expected=f"{self.crop[0]}x{self.crop[1]}, or another square", got=f"{input_hw[0]}x{input_hw[1]}",
                hint="give a transform with 'resize' when you export or load the model",
            )  # fmt: skip
        return replace(self, crop=input_hw, resize=max(1, input_hw[0] * self.resize // self.crop[0]))

    def check_channels(self, channels: int) -> None:
        """Refuse a transform for another number of channels.

        Raises:
            InputError: it has another number of means than the model has channels.
        """
        if len(self.mean) != channels:
            raise InputError(
                f"is for {len(self.mean)} channels, and the model has {channels}", subject="transform",
                hint="give the mean and the standard deviation of each channel: "
                "NAME:mean=" + "/".join(["0.5"] * min(channels, 3)) + ",std=" + "/".join(["0.5"] * min(channels, 3)),
            )  # fmt: skip

    @classmethod
    def read(cls, field: FieldReader, key: str) -> Transform:
        """Read a record from an untrusted JSON object.

        Raises:
            YoloshipError: it is not one; the class is that of the reader.
        """
        inner = field.nested(key, _RULES)
        found = inner.values(_RULES)
        for name in ("crop", "mean", "std"):
            found[name] = tuple(found[name])
        for name in ("mean", "std"):
            found[name] = tuple(map(float, found[name]))
        return field.checked(key, lambda: cls(**found))

    def __str__(self) -> str:
        height, width = self.crop
        cut = {
            "crop": f"shorter side to {self.resize}, centre {height}x{width}",
            "square": f"centre square to {height}x{width}",
            "stretch": f"stretched to {height}x{width}",
        }[self.kind]
        values = f", mean {_shown(self.mean)}, std {_shown(self.std)}" if self.normalises else ", values 0 to 1"
        return f"{cut}, {self.interpolation}{values}"


def _shown(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values[:4]) + ("/…" if len(values) > 4 else "")


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(is_int(side, 1, MAX_SIDE) for side in value)


def _are_numbers(values: object, low: float) -> bool:
    return (
        isinstance(values, tuple)
        and 1 <= len(values) <= _MAX_CHANNELS
        and all(isinstance(value, float) and low <= value <= 1e6 for value in values)
    )


_SIDE: Final = Whole(1, MAX_SIDE)
_RULES: Final[Mapping[str, tuple[Rule, str]]] = MappingProxyType(
    {
        "kind": (get_args(Kind), f"one of {', '.join(get_args(Kind))}"),
        "resize": (OrNull(_SIDE), f"an integer from 1 to {MAX_SIDE}, or null"),
        "crop": (Items(_SIDE, 2, least=2), "[height, width] in pixels"),
        "interpolation": (get_args(Interpolation), f"one of {', '.join(get_args(Interpolation))}"),
        "mean": (Items(Number(-1e6, 1e6), _MAX_CHANNELS, least=1), "a finite number for each channel"),
        "std": (Items(Number(1e-6, 1e6), _MAX_CHANNELS, least=1), "a number above 0 for each channel"),
    }
)
"""Field of the JSON form → what it may hold, and how a message says it."""
