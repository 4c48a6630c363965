"""What a checkpoint says about how an image becomes its network's input: `settled_transform`.

Only what a file really says counts. A module of torchvision's ResNet does not say it: its weights may be version 1 or
2, or trained by somebody with a transform of their own. Files that torchvision publishes are known by their SHA-256,
whose first eight digits are in their names.

Sources: the transforms that YOLOv5 7.0 and Ultralytics 8.0 to 8.4 save with a classification model; timm's
``pretrained_cfg``; the names of torchvision's published files and the presets in their documentation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.fields import is_int, is_number
from yoloship.checkpoint.records import Module, Opaque, Tensor
from yoloship.errors import InputError
from yoloship.transforms import TRANSFORMS, Transform, transform_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.checkpoint import Checkpoint, Value
    from yoloship.graph.config import GraphConfig
    from yoloship.graph.module_view import ModuleView

OPEN: Final = "none"
"""Leaves the transform open."""
CLASSIFY: Final = "classify"
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})")
_V1: Final = "torchvision-v1"
_V2: Final = "torchvision-v2"
_PUBLISHED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("f37072fd", "b627a593", "0676ba61", "63fe2227", "394f9c45", "7cdf4587"), _V1),
        **dict.fromkeys(("8ba56ff5", "95faca4d", "32ee1156"), _V1),
        **dict.fromkeys(("11ad3fa6", "cd907fc2", "f82ba261", "1a0047aa", "110c445d", "173b62eb"), _V2),
        **dict.fromkeys(("9ba9bcbe", "d733dc28"), _V2),
    }
)  # fmt: skip
"""The first eight digits of the SHA-256 of torchvision's ResNet files → the transform of their documentation."""


def settled_transform(
    config: GraphConfig, checkpoint: Checkpoint, root: ModuleView, *, task: str, channels: int
) -> GraphConfig:
    """The configuration with the transform as a record; None if it stays open, and for other tasks.

    Args:
        config: A transform in it was chosen by the caller.
        checkpoint: The network's file.
        root: The network.
        task: The task of its head.
        channels: Channels of its input.

    Raises:
        InputError: a transform is given for another task, or does not fit, or none is given and none is known.
    """
    known = _saved(root)
    if task != CLASSIFY:
        if config.transform is not None:
            raise InputError(
                "is for classification models; images of others are letterboxed", subject="transform", expected="none",
                got=str(config.transform)[:60],
            )  # fmt: skip
        return config
    given = config.transform
    if given == OPEN:
        if config.input_form == "image":
            raise InputError(
                "cannot be left open, because the graph normalises images of this input form", subject="transform",
                expected=f"one of {', '.join(TRANSFORMS)}", got=OPEN,
            )  # fmt: skip
        return replace(config, transform=None)
    if isinstance(given, str):
        given = transform_of(given, config.settled_hw or (224, 224))
    transform = given or known or _by_origin(checkpoint, root)
    if transform is None:
        raise InputError(
            f"does not say how images become its input{_why(root)}", subject=checkpoint.name,
            expected=f"the transform of its training (--transform): {', '.join(TRANSFORMS)}",
            hint="torchvision-v1 resizes to 256 and torchvision-v2 to 232 before the crop; timm takes parameters: "
            "timm:crop_pct=0.95,interpolation=bicubic",
        )  # fmt: skip
    transform = transform.at(config.settled_hw or transform.crop)
    transform.check_channels(channels)
    return replace(config, transform=transform)


def trained_side(checkpoint: Checkpoint, root: ModuleView) -> int | None:
    """The input side that the training used, in pixels, as far as a classification checkpoint says it."""
    options = checkpoint.metadata.get("train_args")
    for side in (checkpoint.metadata.get("imgsz"), options.get("imgsz") if isinstance(options, dict) else None):
        if is_int(side, 1, 8192):
            return side
    known = _saved(root)
    return known.crop[0] if known is not None and known.crop[0] == known.crop[1] else None


def _why(root: ModuleView) -> str:
    saved = root.optional_value("transforms")
    return "" if saved is None else ", except in transforms that are not understood"


def _by_origin(checkpoint: Checkpoint, root: ModuleView) -> Transform | None:
    """The transform of the library that wrote the file, if it has only one."""
    path = root.class_path
    if path.startswith("ultralytics."):
        found = _VERSION.match(str(checkpoint.metadata.get("version")))
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        return transform_of("ultralytics") if version >= (8, 1) else None  # 8.0 changed its own in between
    if path.endswith("models.yolo.ClassificationModel"):
        return transform_of("yolov5")
    for name in ("pretrained_cfg", "default_cfg"):
        configuration = root.optional_value(name)
        if path.startswith("timm.") and isinstance(configuration, dict):
            return _of_timm(configuration)
    published = _PUBLISHED.get(checkpoint.sha256[:8]) if path.startswith("torchvision.") else None
    return None if published is None else transform_of(published)


def _of_timm(configuration: Mapping[Value, Value]) -> Transform | None:
    """Timm's own description of its weights; None if it is for another way to cut."""
    size, crop_pct = configuration.get("input_size"), configuration.get("crop_pct")
    mean, std = _floats(configuration.get("mean")), _floats(configuration.get("std"))
    interpolation = configuration.get("interpolation")
    if (
        not isinstance(size, tuple | list)
        or len(size) != 3
        or not is_int(size[1], 1, 8192)
        or size[1] != size[2]
        or not is_number(crop_pct, 0.01, 1)
        or interpolation not in {"bilinear", "bicubic"}
        or configuration.get("crop_mode", "center") != "center"
        or mean is None
        or std is None
    ):
        return None
    text = f"timm:crop_pct={crop_pct!r},interpolation={interpolation}"
    return replace(transform_of(text, (size[1], size[1])), mean=mean, std=std)


def _saved(root: ModuleView) -> Transform | None:
    """The transforms that a training saved with its model; None if there are none, or if they are not understood."""
    saved = root.optional_value("transforms")
    if not isinstance(saved, Opaque) or saved.class_path.rpartition(".")[2] != "Compose":
        return None
    steps = _state(saved).get("transforms")
    if not isinstance(steps, list):
        return None
    names = tuple(_name(step) for step in steps)
    states = [_state(step) for step in steps]
    if names == ("augment.CenterCrop", "augment.ToTensor", "transforms.Normalize"):
        sides = (states[0].get("h"), states[0].get("w"))
        return _made("square", None, sides, "opencv-linear", states[2])
    if names == ("transforms.Resize", "transforms.CenterCrop", "transforms.ToTensor", "transforms.Normalize"):
        return _resized(states)
    return None


def _resized(states: Sequence[Mapping[str, Value]]) -> Transform | None:
    size, crop = states[0].get("size"), states[1].get("size")
    if isinstance(size, list | tuple) and len(size) == 1:
        size = size[0]
    way = states[0].get("interpolation")
    words = way.arguments if isinstance(way, Opaque) else ("bilinear",)
    sides = tuple(crop) if isinstance(crop, list | tuple) else (crop, crop)
    if states[0].get("max_size") is not None or words not in {("bilinear",), ("bicubic",)}:
        return None
    if isinstance(size, list | tuple):
        return _made("stretch", None, sides, words[0], states[3]) if tuple(size) == sides else None
    return _made("crop", size, sides, words[0], states[3])


def _made(kind: Any, resize: Any, crop: Any, interpolation: Any, normalise: Mapping[str, Value]) -> Transform | None:
    mean, std = _floats(normalise.get("mean")), _floats(normalise.get("std"))
    if mean is None or std is None:
        return None
    try:
        return Transform(kind, resize, tuple(crop), interpolation, mean, std)
    except InputError:
        return None


def _name(step: Value) -> str:
    """The last two parts of a step's class path; YOLOv5's and Ultralytics' modules count as one."""
    path = step.class_path if isinstance(step, Opaque | Module) else ""
    module, _, name = path.rpartition(".")
    ours = module == "utils.augmentations" or module.endswith((".utils.augmentations", "data.augment"))
    return f"{'augment' if ours else module.rpartition('.')[2]}.{name}"


def _state(step: Value) -> Mapping[str, Value]:
    if isinstance(step, Module):
        return step.attributes
    state = step.arguments[-1] if isinstance(step, Opaque) and step.arguments else None
    return {key: value for key, value in state.items() if isinstance(key, str)} if isinstance(state, dict) else {}


def _floats(value: Value) -> tuple[float, ...] | None:
    """Plain numbers, or those of a tensor rounded from float32: 0.485 rather than 0.48500001430511475."""
    if isinstance(value, Tensor) and len(value.shape) == 1 and value.size <= 16:
        value = [float(f"{one:.7g}") for one in value.float64().tolist()]
    if not isinstance(value, list | tuple) or not all(is_number(one, -1e6, 1e6) for one in value):
        return None
    return tuple(float(one) for one in value if isinstance(one, int | float))
