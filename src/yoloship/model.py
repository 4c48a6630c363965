"""The description of a model: `TensorSpec`, `ModelInfo` and their JSON forms.

An ONNX file contains it as metadata with the key ``yoloship.model``, and an engine's sidecar file contains it too. Such
files are untrusted, so `ModelInfo.from_json` checks every field.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeGuard, get_args

from yoloship._util.fields import (
    ANY_TEXT,
    MAX_TEXT_CHARS,
    SHA256_HEX,
    FieldReader,
    Items,
    JsonForm,
    Number,
    OrNull,
    Whole,
    is_int,
    is_number,
)
from yoloship.errors import InputError
from yoloship.transforms import Transform, transform_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from yoloship._util.fields import Rule


DType: TypeAlias = Literal[
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "float8_e4m3fn"
]
"""Element types by their usual names; `bfloat16` and `float8_e4m3fn` have no NumPy type."""

DTYPES: frozenset[str] = frozenset(get_args(DType))

Axis: TypeAlias = int | str
"""A fixed extent, or the name of a dynamic one."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: The tensor's name in the model's file.
        dtype: Element type.
        shape: Extents, outermost first. A string names a dynamic axis; axes with the same name have equal extents.
    """

    name: str
    dtype: DType
    shape: tuple[Axis, ...]

    @property
    def shape_text(self) -> str:
        """The shape as text: ``(batch, 3, 640, 640)``."""
        return f"({', '.join(map(str, self.shape))})"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{self.shape_text}"

    @property
    def is_target_size(self) -> bool:
        """Whether this input is the size to which a DETR's boxes are scaled: (B, 2) int64."""
        return self.dtype == "int64" and len(self.shape) == 2 and self.shape[1] == 2


def images_first(inputs: Iterable[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The inputs of a model with the one for images first. Only a DETR has another, which is the size of its boxes."""
    return tuple(sorted(inputs, key=lambda spec: spec.is_target_size))


Task: TypeAlias = str
"""A name in `yoloship.tasks.TASKS`. Only code that runs the model checks that the name is known."""
InputForm: TypeAlias = Literal["float", "image"]
"""``float``: (B, C, H, W) float32 in [0, 1], or normalised as `ModelInfo.transform` says. ``image``: (B, H, W, C)
uint8, letterboxed or cropped; whatever is to be normalised, the graph normalises. Three channels are RGB in the first
form and BGR in the second."""
KeypointShape: TypeAlias = tuple[int, int]
"""How many keypoints an object has, and how many numbers a keypoint: x and y, or also its visibility."""
HeadChoice: TypeAlias = Literal["one2many", "one2one"]
"""Which of its two heads a network with both answers with. ``one2many``: several boxes for an object, which suppression
must thin out. ``one2one``: one box for an object, without suppression."""
Framing: TypeAlias = Literal["stretch", "top_left"]
"""How other projects place an image on the canvas: ``stretch`` scales each axis to the whole canvas; ``top_left``
scales as the letterbox does, rounds the size down, and pads on the right and below."""
Pixels: TypeAlias = Literal["bgr255"]
"""Values that other projects' networks take: BGR in 0..255, instead of RGB in 0..1."""
MAX_FINAL: Final = 300
"""Most boxes that a one-to-one head gives, as its training code has it."""
STANDARD: Final = "standard"
"""Asks for the standard output form of the model's head, which other exporters write too."""
FASTEST: Final = "fastest"
"""Asks for the output form that `yoloship.Detector` decodes fastest."""
OutputForm: TypeAlias = str
"""The name of an output form; `yoloship.tasks.task.Form` describes what a form contains."""
ClassScores: TypeAlias = Literal["logits", "probabilities"]
"""What a classification network ends in. The softmax of logits is the probabilities."""
Precision: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "float8"]
"""What the body of a network computes in. Its inputs, its outputs and decoding stay float32."""
Calibrator: TypeAlias = Literal["percentile", "entropy", "minmax"]
"""How INT8 and FP8 find the range of an activation. ``minmax``: the largest value seen. ``percentile``: all but one
value in 100,000. ``entropy``: the range whose 128 steps lose the least information (Migacz, 8-bit Inference with
TensorRT, GTC 2017)."""
Placement: TypeAlias = Literal["inputs", "inputs_and_outputs"]
"""Where INT8 and FP8 quantize. ``inputs``: before each convolution, as NVIDIA advises; between consecutive activations,
values stay in float. ``inputs_and_outputs``: also after each convolution. ONNX Runtime needs this to compute in
integers; it costs accuracy."""
OtherLayers: TypeAlias = Literal["float16", "float32"]
"""The precision of the layers in a quantized graph that are not quantized.

bfloat16 is not possible, because it would keep only 8 of the 24 binary digits of a scale."""
Anchors: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]
"""Levels, finest first; in each level, its anchors; for each anchor, (width, height) in model pixels."""

WORD: Final = re.compile("[a-z0-9][a-z0-9_-]{0,39}")
"""What the name of a task, a family or an output form looks like."""
WORD_TEXT: Final = "a word of small letters, digits, - and _"
_SURROGATES = re.compile("[\ud800-\udfff]")
"""Characters that Python uses for bytes that are not UTF-8; no file format can store them."""

METADATA_KEY = "yoloship.model"
"""The key of the JSON form in an ONNX file's metadata."""
ALIASES_KEY = "yoloship.aliases"
"""The metadata key of a JSON object: class paths in the checkpoint → the official class paths they were read as."""

SCHEMA = 1
MAX_JSON_CHARS = 4_000_000
MAX_CLASSES = 100_000
MAX_LEVELS = 16
MAX_SIDE = 65_536
MAX_CHANNELS = 1024
MAX_EXTRAS = 4096
MAX_KEYPOINTS = 1000

MAX_SUPPRESSED = 3840
"""Most candidates that NMS inside a graph can look at; TensorRT's TopK has this limit."""


@dataclass(frozen=True, slots=True)
class NmsConfig:
    """Settings of NMS that are fixed inside a graph.

    Attributes:
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        iou_threshold: In [0, 1]; a box is dropped if its IoU with a better box is above it.
        max_detections: Rows of the output, 1 to `MAX_SUPPRESSED`.
        candidates: How many of the best candidates are looked at, at least `max_detections` and at most
            `MAX_SUPPRESSED`. Memory and time grow with its square.
        iterations: Steps of the fixed-point iteration; even, 2 to 1000. It should be at least the length of the longest
            chain of boxes that suppress one another. With fewer steps, some boxes are kept that should be dropped; no
            box is lost.
        class_agnostic: Whether boxes of different classes suppress each other.

    Raises:
        InputError: a value is outside its range.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    candidates: int = 512
    iterations: int = 16
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            if not is_number(getattr(self, name), 0, 1):
                raise self._wrong(name, "a number from 0 to 1")
        if not is_int(self.max_detections, 1, MAX_SUPPRESSED):
            raise self._wrong("max_detections", f"1 to {MAX_SUPPRESSED}")
        if not is_int(self.candidates, self.max_detections, MAX_SUPPRESSED):
            raise self._wrong("candidates", f"max_detections ({self.max_detections}) to {MAX_SUPPRESSED}")
        if not is_int(self.iterations, 2, 1000) or self.iterations % 2:
            raise self._wrong("iterations", "an even number, 2 to 1000")
        if not isinstance(self.class_agnostic, bool):
            raise self._wrong("class_agnostic", "true or false")

    def _wrong(self, name: str, expected: str) -> InputError:
        return InputError("cannot have this value", subject=name, expected=expected, got=repr(getattr(self, name))[:60])


class UsualNms(NmsConfig):
    """Settings of NMS whose IoU threshold nobody has chosen: it becomes the usual one of the model's family."""

    __slots__ = ()

    def at(self, iou_threshold: float) -> NmsConfig:
        """The same settings with this IoU threshold."""
        values = {**asdict(self), "iou_threshold": iou_threshold}
        return NmsConfig(**values)


_IOU_THRESHOLDS: Final[Mapping[str, float]] = MappingProxyType({"ultralytics": 0.7})


def usual_iou(family: str) -> float:
    """The IoU threshold at which a family's own tool suppresses by default: 0.7 for Ultralytics', 0.45 for YOLOv5's."""
    return _IOU_THRESHOLDS.get(family, 0.45)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a detector needs to know about a model, whatever kind of file contains it.

    Attributes:
        task: What the model predicts: a name in `yoloship.tasks.TASKS`.
        family: The network's architecture: a name in `yoloship.graph.families.FAMILIES`.
        class_names: Class names by class id.
        strides: Model pixels per cell of each level, finest first; in a foreign file, in the order of its rows.
        anchors: Anchor sizes in model pixels; empty if the head has none, or if a foreign graph does not contain them.
        input_form: The form of the input.
        output_form: The form of the output.
        input_hw: (height, width) of the input in model pixels; None for a dynamic axis.
        batch: Images per run; None if it is dynamic.
        precision: The arithmetic of the network's body.
        checkpoint_sha256: SHA-256 of the checkpoint's bytes, lower-case hex; None if it is not known.
        producer: The program that wrote the file, with its version.
        nms: The settings of NMS inside the graph; None if the graph has no NMS.
        channels: Channels of the input: 3 for colour images, 1 for grey images.
        decoded_output: Name of the output that holds the decoded rows; None for the first output.
        extra_columns: How many numbers each box has after its class scores: mask coefficients, keypoints or an angle.
        mask_rule: How masks are made, a name in `yoloship.results.mask_rules.MASK_RULES`; None without masks.
        framing: How an image is placed on the canvas; None for the letterbox.
        pixels: The values of a ``float`` input; None for RGB in [0, 1].
        head: The head in use, for a network that has or had two; None for any other network.
        keypoint_shape: How many keypoints an object has, and 2 or 3 numbers for each; None for models without them.
        keypoint_names: Names of the keypoints, if they are known.
        transform: How an image becomes the input of a classification model; None if the file does not state it, and for
            models of other tasks, whose images are letterboxed.
        class_scores: Whether a classification model gives logits or probabilities; None for other tasks.
        usual_hw: (height, width) of the training images in model pixels, if the checkpoint states it; None for 640.
    """

    task: Task
    family: str
    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    anchors: Anchors
    input_form: InputForm
    output_form: OutputForm
    input_hw: tuple[int | None, int | None]
    batch: int | None
    precision: Precision = "float32"
    checkpoint_sha256: str | None = None
    producer: str = ""
    nms: NmsConfig | None = None
    channels: int = 3
    decoded_output: str | None = None
    extra_columns: int = 0
    mask_rule: str | None = None
    head: HeadChoice | None = None
    keypoint_shape: KeypointShape | None = None
    keypoint_names: tuple[str, ...] = ()
    framing: Framing | None = None
    pixels: Pixels | None = None
    transform: Transform | None = None
    class_scores: ClassScores | None = None
    usual_hw: tuple[int, int] | None = None

    @property
    def size_multiple(self) -> int:
        """The input's height and width must be multiples of this, in pixels."""
        return size_multiple(self.strides)

    def with_class_names(self, class_names: Sequence[str], *, subject: str) -> ModelInfo:
        """The same model with other class names.

        Args:
            class_names: One name for each class, by class id.
            subject: The model's name, for messages.

        Raises:
            InputError: a name is not usable, or the number of names is not the number of classes.
        """
        return replace(self, class_names=checked_class_names(class_names, len(self.class_names), subject=subject))

    def with_transform(self, transform: Transform | str, *, subject: str) -> ModelInfo:
        """The same classification model with another transform.

        Args:
            transform: A record, or the name of a transform (`yoloship.transforms.transform_of`).
            subject: The model's name, for messages.

        Raises:
            InputError: it is a model of another task, the transform does not fit its input, or the values are
                normalised inside the graph in another way.
        """
        if self.class_scores is None:
            raise InputError(
                "is for classification models; images of others are letterboxed", subject="transform",
                expected=f"none for {subject}", got=str(transform)[:60],
            )  # fmt: skip
        height, width = self.input_hw
        if isinstance(transform, str):
            is_open = height is None or width is None
            transform = transform_of(transform) if is_open else transform_of(transform, (height or 0, width or 0))
        transform.check_channels(self.channels)
        if self.input_form == "image" and (
            self.transform is None or (self.transform.mean, self.transform.std) != (transform.mean, transform.std)
        ):
            raise InputError(
                "the graph normalises images itself, with other values", subject=subject,
                expected=str(self.transform), got=str(transform), hint="export it again with this transform",
            )  # fmt: skip
        return replace(self, transform=transform)

    def to_json(self) -> str:
        """One line of JSON with sorted keys, so that equal descriptions give equal bytes."""
        data = {"schema": SCHEMA, **asdict(self)}
        for name in _ADDED_LATER:  # earlier versions do not know these fields
            if not data[name]:
                del data[name]
        return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, subject: str = METADATA_KEY) -> ModelInfo:
        """Read a description from untrusted text.

        Args:
            text: JSON as `to_json` writes it.
            subject: The file it came from, for messages.

        Raises:
            InputError: the text is not a valid description; the message names the wrong field.
        """
        read = FieldReader.parse(text, _FORM, subject=subject)
        read = replace(read, data={**_IF_ABSENT, **read.data})
        found = read.values(_RULES)
        for key in ("class_names", "strides", "input_hw", "keypoint_names"):
            found[key] = tuple(found[key])
        found["keypoint_shape"] = found["keypoint_shape"] and tuple(found["keypoint_shape"])
        found["usual_hw"] = found["usual_hw"] and tuple(found["usual_hw"])
        found["anchors"] = tuple(
            tuple((float(width), float(height)) for width, height in level) for level in found["anchors"]
        )
        return cls(
            **found,
            nms=None if read.data.get("nms") is None else _nms(read),
            transform=None if read.data.get("transform") is None else Transform.read(read, "transform"),
        )


_FORM: Final = JsonForm(
    "model record",
    InputError,
    SCHEMA,
    frozenset(field.name for field in fields(ModelInfo)),
    MAX_JSON_CHARS,
    "export it again with this version",
)
_ADDED_LATER: Final = (
    "decoded_output", "extra_columns", "mask_rule", "head", "keypoint_shape", "keypoint_names", "framing", "pixels",
    "transform", "class_scores", "usual_hw",
)  # fmt: skip
"""Fields that are left out of the JSON form if they have their default."""
_IF_ABSENT: Final[Mapping[str, object]] = MappingProxyType({"channels": 3, "extra_columns": 0, "keypoint_names": []})
_SIDE: Final = Whole(1, MAX_SIDE)
_TEXT_EXPECTED: Final = f"a string of at most {MAX_TEXT_CHARS} characters"
_RULES: Final[Mapping[str, tuple[Rule, str]]] = MappingProxyType(
    {
        "task": (WORD, WORD_TEXT),
        "family": (WORD, WORD_TEXT),
        "class_names": (Items(ANY_TEXT, MAX_CLASSES), f"at most {MAX_CLASSES} strings"),
        "strides": (Items(_SIDE, MAX_LEVELS), f"at most {MAX_LEVELS} positive integers"),
        "anchors": (
            Items(Items(Items(Number(0.0, 1e9), 2, least=2), 64, least=1), MAX_LEVELS),
            "levels of (width, height) pairs, finite and not negative",
        ),
        "input_form": (get_args(InputForm), f"one of {', '.join(get_args(InputForm))}"),
        "output_form": (WORD, WORD_TEXT),
        "input_hw": (Items(OrNull(_SIDE), 2, least=2), "[height, width] in pixels, null where dynamic"),
        "batch": (OrNull(_SIDE), f"an integer from 1 to {MAX_SIDE}"),
        "precision": (get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
        "checkpoint_sha256": (OrNull(SHA256_HEX), "64 lower-case hex digits"),
        "producer": (ANY_TEXT, _TEXT_EXPECTED),
        "channels": (Whole(1, MAX_CHANNELS), f"an integer from 1 to {MAX_CHANNELS}"),
        "decoded_output": (OrNull(ANY_TEXT), _TEXT_EXPECTED),
        "extra_columns": (Whole(0, MAX_EXTRAS), f"an integer from 0 to {MAX_EXTRAS}"),
        "mask_rule": (OrNull(ANY_TEXT), _TEXT_EXPECTED),
        "keypoint_shape": (
            OrNull(Items(Whole(1, MAX_KEYPOINTS), 2, least=2)),
            f"[1 to {MAX_KEYPOINTS} keypoints, 2 or 3 numbers]",
        ),
        "keypoint_names": (Items(ANY_TEXT, MAX_KEYPOINTS), f"at most {MAX_KEYPOINTS} strings"),
        "framing": (OrNull(get_args(Framing)), f"one of {', '.join(get_args(Framing))}"),
        "pixels": (OrNull(get_args(Pixels)), f"one of {', '.join(get_args(Pixels))}"),
        "usual_hw": (OrNull(Items(_SIDE, 2, least=2)), "[height, width] in pixels"),
        "head": (OrNull(get_args(HeadChoice)), f"one of {', '.join(get_args(HeadChoice))}"),
        "class_scores": (OrNull(get_args(ClassScores)), f"one of {', '.join(get_args(ClassScores))}"),
    }
)
"""Field of the JSON form → what it may hold, and how a message says it. `NmsConfig` and
`Transform` check the fields ``nms`` and ``transform``."""


def size_multiple(strides: Iterable[int]) -> int:
    """The number of pixels that the input's height and width must be multiples of.

    It is at least 32, because a network whose largest output stride is 16 still reduces images by 32 inside. A network
    without levels ends in one vector, and takes any size.

    Args:
        strides: The strides of the levels, in pixels.
    """
    levels = tuple(strides)
    return max(32, *levels) if levels else 1


def _nms(read: FieldReader) -> NmsConfig:
    settings = read.nested("nms", [field.name for field in fields(NmsConfig)]).data
    try:
        return NmsConfig(**settings)
    except InputError as error:
        raise read.wrong("nms", f"{error.subject}: {error.expected}") from error


def checked_class_names(class_names: Sequence[str], classes: int | None, *, subject: str) -> tuple[str, ...]:
    """Check class names that a caller gives to replace those in a file.

    Args:
        class_names: Class names by class id.
        classes: How many classes the model has; None if that is not known yet.
        subject: The model's name, for messages.

    Raises:
        InputError: a name is not text or is empty, or the number of names is not the number of classes.
    """
    names = () if isinstance(class_names, str) else tuple(class_names)
    if not 1 <= len(names) <= MAX_CLASSES or not all(is_name(name) for name in names):
        raise InputError(
            "not usable as class names",
            subject="class_names",
            expected="a sequence of valid texts of at most 1000 characters, none of them empty",
            got=repr(class_names)[:60],
        )
    if classes is not None and len(names) != classes:
        raise InputError(
            "needs one class name for each class", subject=subject, expected=str(classes), got=str(len(names))
        )
    return names


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value can be the name of a class or of a keypoint: a text that files can store, and not only spaces."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_TEXT_CHARS
        and value.strip() != ""
        and not _SURROGATES.search(value)
    )
