"""What a model with another head than YOLOv5's detection head is, said by name, and what can be done with it.

Only class paths and a few numbers of the head are looked at. The facts are those that the projects' documentation and
published checkpoints show.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.checkpoint.records import Module


@dataclass(frozen=True, slots=True)
class OtherHead:
    """A kind of model that cannot be written.

    Attributes:
        problem: What it is, to follow the name of the file or the module: "is a …".
        hint: The next step for the user.
    """

    problem: str
    hint: str


_ITS_OWN_EXPORT: Final = "export it with the project that trained it"
_YOLOV7: Final = OtherHead(
    "is a YOLOv7 training head with implicit or auxiliary parts",
    "re-parametrise it to a plain Detect with YOLOv7's own script first; that form can be written",
)
_YOLOV9: Final = OtherHead("is a YOLOv9 head without anchors", _ITS_OWN_EXPORT)
_ULTRALYTICS: Final = "of Ultralytics' package (YOLOv8 and later), which this version does not write yet"
_FACE_NUMBERS, _ANGLES = 10, 180
"""Two coordinates of five landmarks; one score for each degree of an oriented box."""

_BY_NAME: Mapping[str, OtherHead] = MappingProxyType(
    {
        **dict.fromkeys(("IDetect", "IAuxDetect", "IBin", "ImplicitDetect"), _YOLOV7),
        "IKeypoint": OtherHead("is a YOLOv7 head for keypoints", _ITS_OWN_EXPORT),
        **dict.fromkeys(("DDetect", "DualDDetect", "TripleDDetect", "DualDetect", "TripleDetect"), _YOLOV9),
        **dict.fromkeys(("OBB", "OBB26", "Rotated_Detect"), OtherHead("is a head for oriented boxes", _ITS_OWN_EXPORT)),
        **dict.fromkeys(("Pose", "Pose26", "Keypoint"), OtherHead("is a head for keypoints", _ITS_OWN_EXPORT)),
        "RTDETRDecoder": OtherHead("is an RT-DETR decoder", _ITS_OWN_EXPORT),
        "v10Detect": OtherHead("is a YOLOv10 head without anchors", _ITS_OWN_EXPORT),
    }
)
"""By class name of the last layer."""


def other_head(module: Module) -> OtherHead | None:
    """What a last layer is if its name or its numbers show another head; None if nothing shows it.

    Args:
        module: The last layer of a model, or the model itself if it has no layers in a row.
    """
    name, path = module.class_name, module.class_path
    if path.startswith("ultralytics.nn."):
        known = _BY_NAME.get(name)
        kind = known.problem if known is not None else f"is a {name[:60]!r}"
        return OtherHead(f"{kind} {_ULTRALYTICS}", _ITS_OWN_EXPORT)
    if path.startswith(("torchvision.", "timm.")):
        package = path.partition(".")[0]
        return OtherHead(f"is a model of {package}, which this version does not write yet", _ITS_OWN_EXPORT)
    if name in _BY_NAME:
        return _BY_NAME[name]
    if "decouple" in name.lower() or "asff" in name.lower():
        return OtherHead("is a decoupled head of a fork, which is not the official one", _ITS_OWN_EXPORT)
    if "reg_max" in module.attributes:
        return OtherHead("is a head without anchors (YOLOv8, YOLOv9 or later)", _ITS_OWN_EXPORT)
    return _by_numbers(module)


def _by_numbers(module: Module) -> OtherHead | None:
    """A Detect that predicts more for each box than its place, its size and its classes."""
    classes, numbers = module.attributes.get("nc"), module.attributes.get("no")
    if type(classes) is not int or type(numbers) is not int or classes < 1:
        return None
    extra = numbers - classes - 5
    points = module.attributes.get("nkpt")
    if extra == _FACE_NUMBERS or (type(points) is int and points > 0):
        return OtherHead(f"predicts landmarks: {extra} more numbers for each box than a detector", _ITS_OWN_EXPORT)
    if extra == _ANGLES:
        return OtherHead("predicts oriented boxes: 180 angles for each box", _ITS_OWN_EXPORT)
    if extra != 0:
        return OtherHead(
            f"predicts {numbers} numbers for each box; a detector of {classes} classes has {classes + 5}",
            _ITS_OWN_EXPORT,
        )
    return None
