"""What a module tree says about itself: its task, its head, its class names, its strides.

A checkpoint whose class names cannot be used is still a good network. So reading class names raises nothing. The
checkpoint keeps the reason, which becomes an error if somebody needs the names and gives no others.

Only class paths and a few numbers of the head are read. What they mean is known from the documentation of the projects
and from published checkpoints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from yoloship._util.fields import MAX_TEXT_CHARS
from yoloship._util.tables import Table
from yoloship._util.text import counted, shortened
from yoloship.checkpoint.records import Module, Tensor
from yoloship.errors import CheckpointError
from yoloship.model import MAX_LEVELS, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from yoloship.checkpoint.limits import Limits
    from yoloship.checkpoint.records import Value
    from yoloship.model import Task


_BRACKETS = {"{": "}", "[": "]", "(": ")"}
_BARE = r"[^\s,'\":{}\[\]()][^,'\":{}\[\]()]*"
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_SPACE = re.compile(r"\s*")
_KEY = re.compile(rf"({_QUOTED}|\d{{1,9}})\s*:", re.DOTALL)
_NAME = re.compile(rf"({_QUOTED}|{_BARE})", re.DOTALL)
"""Parts of a text. Each is matched where the last one ended, so that no text causes backtracking."""
_ITS_OWN_EXPORT: Final = "export it with the project that trained it"
_FIXED: Final = "export it to ONNX with the project that trained it, with its classes set"
_ULTRALYTICS: Final = "of Ultralytics' package (YOLOv8 and later), which this version does not write"
_FACE_NUMBERS, _ANGLES = 10, 180
"""Extra numbers for each box: two coordinates of five landmarks, or one score for each degree of an oriented box."""
_TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        **dict.fromkeys(("SegmentationModel", "Segment", "Segment26"), "segment"),
        **dict.fromkeys(("PoseModel", "Pose", "Pose26"), "pose"),
        **dict.fromkeys(("OBBModel", "OBB", "OBB26"), "obb"),
        **dict.fromkeys(("ClassificationModel", "Classify", "ResNet"), "classify"),
        **dict.fromkeys(("DetectionModel", "YOLOv10DetectionModel", "Model", "Detect", "v10Detect"), "detect"),
    }
)
"""The task by the class name of a model or of its last layer. If both are known, the earlier entry counts."""
IMAGENET_CLASSES: Final = 1000
_LINEAR: Final = frozenset({"Linear", "NonDynamicallyQuantizableLinear"})
_WITHOUT_LEVELS: Final = frozenset({"classify"})
"""Tasks whose networks end in one map. Their heads have no strides."""
_INSTALLED: Final[Table[Any]] = Table("yoloship.families", "family", MappingProxyType({}))
"""The entry points of families in installed packages. Our own families have the names above."""


class ClassNames(NamedTuple):
    """Class names by class id, or the reason why there are none."""

    names: tuple[str, ...] = ()
    problem: str | None = None


class _UnusableError(Exception):
    """Why a value is not a list of class names."""


def read_names(value: Value, classes: int | None, limits: Limits) -> ClassNames:
    """Read class names in any form that files have.

    Args:
        value: A list, a tuple or an array of names; a table from id to name, with numbers or texts of digits as ids; a
            table from name to id; one of these written as text; names separated by commas or lines. None if the file
            has no names: classes are then numbered.
        classes: How many classes the network has; None if it does not say.
        limits: Bounds on their number and length.

    Returns:
        The names, or why they cannot be used.
    """
    try:
        if value is None:
            return ClassNames(_numbered(classes, limits))
        return ClassNames(_checked(_listed(value, classes), classes, limits))
    except _UnusableError as reason:
        return ClassNames((), str(reason))


def _numbered(classes: int | None, limits: Limits) -> tuple[str, ...]:
    if classes is None or not 0 <= classes <= limits.class_names:
        raise _UnusableError("does not state its class names or its number of classes")
    return tuple(f"class{index}" for index in range(classes))


def _checked(names: Sequence[str], classes: int | None, limits: Limits) -> tuple[str, ...]:
    if classes is not None and len(names) != classes:
        raise _UnusableError(f"has {counted(len(names), 'class name')} for {counted(classes, 'class', 'classes')}")
    if len(names) > limits.class_names:
        raise _UnusableError(f"has more than {limits.class_names} class names")
    if sum(map(len, names)) > limits.class_name_chars:
        raise _UnusableError(f"has class names of more than {limits.class_name_chars} characters together")
    return tuple(names)


def _listed(value: Value, classes: int | None) -> list[str]:
    if isinstance(value, str):
        return _from_text(value, classes)
    if isinstance(value, dict):
        return _by_id([(key, name) for key, name in value.items()])
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise _UnusableError("has class names that are not a list of names")
    return [_name(name) for name in value]


def _by_id(pairs: Iterable[tuple[Value, Value]]) -> list[str]:
    """The names in a table from id to name, or from name to id."""
    pairs = list(pairs)
    if pairs and all(isinstance(name, str) and _id(name) is None and type(id_) is int for name, id_ in pairs):
        pairs = [(id_, name) for name, id_ in pairs]
    names: dict[int, Value] = {}
    for key, name in pairs:
        class_id = _id(key)
        if class_id is None:
            raise _UnusableError(f"has a class name whose id is {shortened(repr(key))} rather than a number")
        if class_id in names:
            raise _UnusableError(f"has two class names of the id {class_id}")
        names[class_id] = name
    if sorted(names) != list(range(len(names))):
        ids = ", ".join(map(str, sorted(names)[:8])) + (", …" if len(names) > 8 else "")
        raise _UnusableError(f"has class names of the ids {ids} rather than of 0 to {len(names) - 1}")
    return [_name(names[class_id]) for class_id in range(len(names))]


def _id(key: Value) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10:
        return int(key)
    return key if type(key) is int else None


def _name(name: Value) -> str:
    if isinstance(name, bool | int | float):  # YAML reads the names `no` and `1` as these
        return str(name)
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str) or len(name) > MAX_TEXT_CHARS:
        raise _UnusableError(f"has a class name that is not a text of at most {MAX_TEXT_CHARS} characters")
    return name


def _from_text(text: str, classes: int | None) -> list[str]:
    """Names in one text: written by ``str`` or YAML, or separated by commas or lines."""
    text = text.strip()
    if text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[:1]]):
        return _from_literal(text[1:-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(line.startswith("- ") for line in lines):
        lines = [line[2:].strip() for line in lines]
        text = "\n".join(lines)
    if text[:1] in ("'", '"') or _KEY.match(text):
        return _from_literal(", ".join(line.rstrip(",") for line in lines))
    for names in (lines, [name.strip() for name in text.strip(",").split(",")]):
        if all(names) and len(names) == classes:
            return [_name(name) for name in names]
    raise _UnusableError(
        f"has class names that are one text, {shortened(repr(text))}, and do not fit its number of classes"
    )


def _from_literal(text: str) -> list[str]:
    """Names in the text that ``str`` of a list or a table gives."""
    text = text.rstrip(", \r\n\t")
    pairs: list[tuple[str | None, str]] = []
    at = _after_space(text, 0)
    while at < len(text):
        key = _KEY.match(text, at)
        at = at if key is None else _after_space(text, key.end())
        name = _NAME.match(text, at)
        end = at if name is None else _after_space(text, name.end())
        if name is None or (end < len(text) and text[end] != ","):
            raise _UnusableError(f"has class names in a text that is not a list of names, {shortened(repr(text))}")
        pairs.append((None if key is None else _unquoted(key[1]), _unquoted(name[1].rstrip())))
        at = _after_space(text, end + 1)
    keyed = [(key, name) for key, name in pairs if key is not None]
    if keyed and len(keyed) != len(pairs):
        raise _UnusableError("has class names of which only some have an id")
    return _by_id(keyed) if keyed else [_name(name) for _, name in pairs]


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _unquoted(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    inner = re.sub(r"\\(['\"\\])", r"\1", text[1:-1])
    if inner.count("\\") != text[1:-1].count("\\\\"):
        raise _UnusableError(f"has a class name with escapes, {shortened(repr(text))}")
    return inner


@dataclass(frozen=True, slots=True)
class OtherHead:
    """A kind of model that cannot be written.

    Attributes:
        problem: What it is, to follow the name of the file or the module: "is a …".
        hint: The next step for the user.
    """

    problem: str
    hint: str


_YOLOV7: Final = OtherHead(
    "is a YOLOv7 training head with implicit or auxiliary parts",
    "re-parametrise it to a plain Detect with YOLOv7's own script first; that form can be written",
)
_YOLOV9: Final = OtherHead("is a YOLOv9 head without anchors", _ITS_OWN_EXPORT)

_BY_NAME: Mapping[str, OtherHead] = MappingProxyType(
    {
        **dict.fromkeys(("IDetect", "IAuxDetect", "IBin", "ImplicitDetect"), _YOLOV7),
        "IKeypoint": OtherHead("is a YOLOv7 head for keypoints", _ITS_OWN_EXPORT),
        **dict.fromkeys(("DDetect", "DualDDetect", "TripleDDetect", "DualDetect", "TripleDetect"), _YOLOV9),
        **dict.fromkeys(("OBB", "OBB26", "Rotated_Detect"), OtherHead("is a head for oriented boxes", _ITS_OWN_EXPORT)),
        **dict.fromkeys(("Pose", "Pose26", "Keypoint"), OtherHead("is a head for keypoints", _ITS_OWN_EXPORT)),
        "RTDETRDecoder": OtherHead("is an RT-DETR decoder", _ITS_OWN_EXPORT),
        **dict.fromkeys(("WorldDetect", "WorldModel"), OtherHead("is a YOLO-World head", _FIXED)),
        **dict.fromkeys(
            ("YOLOEDetect", "YOLOESegment", "YOLOESegment26", "LRPCHead", "YOLOEModel", "YOLOESegModel"),
            OtherHead("is a YOLOE head", _FIXED),
        ),
        **dict.fromkeys(
            ("SemanticSegment", "SemanticSegmentationModel"),
            OtherHead("is a head for semantic segmentation", _ITS_OWN_EXPORT),
        ),
        **dict.fromkeys(("Depth", "DepthModel"), OtherHead("is a head for depth", _ITS_OWN_EXPORT)),
        "RTDETRDetectionModel": OtherHead("is an RT-DETR model", _ITS_OWN_EXPORT),
    }
)
"""By class name of the last layer or of the model."""


def other_head(module: Module) -> OtherHead | None:
    """The other kind of head that a last layer is, by its name or its numbers; None if nothing shows another kind.

    Args:
        module: The last layer of a model, or the model itself if it has no list of layers.
    """
    name, path = module.class_name, module.class_path
    if path.startswith("ultralytics.nn."):
        known = _BY_NAME.get(name)
        kind = known.problem if known is not None else f"is a {name[:60]!r}"
        return OtherHead(f"{kind} {_ULTRALYTICS}", _ITS_OWN_EXPORT if known is None else known.hint)
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
    """Find a Detect module that predicts more for each box than its position, its size and its classes."""
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


def read_head(module: Module) -> Module:
    """The head of a model: its last layer, or the model itself if it has no list of layers."""
    layers = module.children.get("model")
    if layers is None or not layers.children:
        return module
    return list(layers.children.values())[-1] or module


def read_task(module: Module, subject: str) -> Task:
    """The task of a model, by the class of its last layer or of the model.

    Raises:
        CheckpointError: neither class is known here, nor in a family that an installed package adds.
    """
    classes = {module.class_name, read_head(module).class_name}
    task = next((task for name, task in _TASKS.items() if name in classes), None) or _added_task(classes)
    if task is not None:
        return task
    head = read_head(module)
    problem = f"holds a {module.class_path!r}"
    for part, word in ((head, "which" if head is module else "whose last layer"), (module, "which")):
        other = other_head(part)
        if other is not None:
            raise CheckpointError(f"{problem}, {word} {other.problem}", subject=subject, hint=other.hint)
    raise CheckpointError(
        f"{problem}, which is not a network of a known family",
        subject=subject,
        hint="if the model is inside it, save that alone: torch.save({'model': model}, path)",
    )


def _added_task(classes: set[str]) -> Task | None:
    """The task of a head in a family that an installed package adds. Called only if the head is not known here."""
    for name in _INSTALLED:
        tasks: Mapping[str, Task] = _INSTALLED.load(name)().tasks()
        found = next((task for head, task in tasks.items() if head in classes), None)
        if found is not None:
            return found
    return None


def read_class_names(module: Module, around: Sequence[Value], limits: Limits) -> ClassNames:
    """The model's class names. If it has none, those of its wrappers or of the file; else the classes are numbered.

    Args:
        module: The whole model.
        around: Class names of its wrappers and of the file, nearest first.
        limits: Bounds on their number and length.
    """
    count = _class_count(module)
    candidates = (module.attributes.get("names"), *around)
    value = next((names for names in candidates if names is not None), None)
    if value is None and count == IMAGENET_CLASSES and module.class_name == "ResNet":
        return ClassNames(imagenet_names())
    return read_names(value, count, limits)


def _class_count(module: Module) -> int | None:
    """How many classes a network has: as many as its last linear layer has outputs, or as it says."""
    head = read_head(module)
    linear = [
        weight.shape[0]
        for _, part in head.walk()
        if part.class_name in _LINEAR and (weight := part.parameters.get("weight")) is not None and weight.shape
    ]
    if linear and read_task(module, "") == "classify":
        return linear[-1]
    count = head.attributes.get("nc", module.attributes.get("nc"))
    return count if type(count) is int else None


def imagenet_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, by class id, as torchvision has them (BSD-3-Clause)."""
    return tuple(Path(__file__).with_name("imagenet.txt").read_text("utf-8").splitlines())


def read_strides(module: Module, task: Task, subject: str) -> tuple[int, ...]:
    """Model pixels per cell of each level, finest first; () for tasks without levels.

    Raises:
        CheckpointError: strides are missing, or are not whole numbers of pixels.
    """
    if task in _WITHOUT_LEVELS:
        return ()
    head = read_head(module)
    for owner in (head, module):
        value = owner.attributes.get("stride", owner.buffers.get("stride"))
        if value is not None:
            return tuple(sorted(_strides(value, subject)))
    raise CheckpointError(f"its head, a {head.class_path!r}, does not state its strides", subject=subject)


def _strides(value: Value, subject: str) -> list[int]:
    if isinstance(value, Tensor):
        value = list(value.float64().ravel().tolist()) if value.size <= MAX_LEVELS else None
    elif isinstance(value, np.ndarray):
        value = list(value.ravel().tolist()) if value.size <= MAX_LEVELS else None
    strides: list[int] = []
    for stride in value if isinstance(value, list | tuple) and 1 <= len(value) <= MAX_LEVELS else (None,):
        if not isinstance(stride, int | float) or not 1 <= stride <= MAX_SIDE or stride != int(stride):
            raise CheckpointError(
                f"strides that are not 1 to {MAX_LEVELS} whole numbers of pixels up to {MAX_SIDE}", subject=subject
            )
        strides.append(int(stride))
    return strides
