"""What a model is, as the files that hold it say: `TensorSpec`, `ModelInfo` and their JSON forms.

It travels inside the ONNX file (metadata key ``yoloship.model``) and in the engine's sidecar. Whoever reads it back
reads untrusted text, so `ModelInfo.from_json` checks every field.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeGuard, get_args

from yoloship._util.fields import MAX_TEXT_CHARS, FieldReader, JsonForm, is_int, is_number
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt


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
        name: As the model's file has it.
        dtype: Element type.
        shape: Extents, outermost first; a string names a dynamic one, so two axes of one name are equal.
    """

    name: str
    dtype: DType
    shape: tuple[Axis, ...]

    def check(self, array: npt.NDArray[np.generic]) -> None:
        """Refuse an array that this input cannot take.

        Args:
            array: Any shape and dtype; read only.

        Raises:
            InputError: the dtype, the rank or a fixed extent differs.
        """
        if array.dtype.name != self.dtype:
            raise InputError("wrong element type", subject=self.name, expected=self.dtype, got=array.dtype.name)
        fits = len(array.shape) == len(self.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError("wrong shape", subject=self.name, expected=self.shape_text, got=str(tuple(array.shape)))

    @property
    def shape_text(self) -> str:
        """The shape for people: ``(batch, 3, 640, 640)``."""
        return f"({', '.join(map(str, self.shape))})"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{self.shape_text}"


Task: TypeAlias = str
"""A name in `yoloship.tasks.TASKS`. Whether it is known there is asked by whoever runs the model."""
InputForm: TypeAlias = Literal["float", "image"]
"""``float``: (B, C, H, W) float32 in [0, 1]. ``image``: (B, H, W, C) uint8, letterboxed. Three channels are RGB in the
first form and BGR in the second."""
STANDARD: Final = "standard"
"""Asks for the output form of the field's own exports, whatever the head calls it."""
FASTEST: Final = "fastest"
"""Asks for the output form that a detector of ours decodes fastest."""
OutputForm: TypeAlias = str
"""The name of an output form; the forms of a task say what comes out, see `yoloship.tasks.task.Form`."""
Precision: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "float8"]
Calibrator: TypeAlias = Literal["percentile", "entropy", "minmax"]
"""How INT8 and FP8 find the range of an activation. ``minmax``: the largest value seen. ``percentile``: all but one
value in 100,000. ``entropy``: the range whose 128 steps lose least information (Migacz, 8-bit Inference with TensorRT,
GTC 2017)."""
Placement: TypeAlias = Literal["inputs", "inputs_and_outputs"]
"""Where INT8 and FP8 quantize. ``inputs``: before each convolution, as NVIDIA advises; activations that follow one
another stay in float between. ``inputs_and_outputs``: behind each as well, which is what ONNX Runtime needs to compute
in integers, and costs accuracy."""
OtherLayers: TypeAlias = Literal["float16", "float32"]
"""What the layers of a quantized graph that are not quantized compute in.

bfloat16 is not one of them: a scale would keep 8 of its 24 digits."""
Anchors: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]
"""Levels, finest first → anchors of a level → (width, height) in model pixels."""

WORD: Final = re.compile("[a-z0-9][a-z0-9_-]{0,39}")
"""What the name of a task, a family or an output form looks like."""
WORD_TEXT: Final = "a word of small letters, digits, - and _"
_SURROGATES = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are not UTF-8; no file format has a place for them."""

METADATA_KEY = "yoloship.model"
"""The key of the JSON form in an ONNX file's metadata."""
ALIASES_KEY = "yoloship.aliases"
"""The key of a JSON object: class paths of the checkpoint, each with the official one that it was read as."""

SCHEMA = 1
MAX_JSON_CHARS = 4_000_000
MAX_CLASSES = 100_000
MAX_LEVELS = 16
MAX_SIDE = 65_536
MAX_CHANNELS = 1024

MAX_SUPPRESSED = 3840
"""Candidates that suppression inside a graph can look at: TensorRT's TopK takes no more."""


@dataclass(frozen=True, slots=True)
class NmsConfig:
    """Suppression inside a graph: what is baked into it.

    Attributes:
        score_threshold: In [0, 1]; candidates at or below it are dropped.
        iou_threshold: In [0, 1]; a box goes when its IoU with a better one is above it.
        max_detections: Rows of the output, 1 to `MAX_SUPPRESSED`.
        candidates: How many of the best candidates are looked at, at least `max_detections` and at most
            `MAX_SUPPRESSED`; memory and time grow with its square.
        iterations: Steps of the fixed-point iteration, even, 2 to 1000: as many as the longest chain of boxes that
            suppress one another. With fewer, boxes that should have gone stay; none is lost.
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


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a detector must know about a model, whatever file holds it.

    Attributes:
        task: What it answers: a name in `yoloship.tasks.TASKS`.
        family: Whose network it is: a name in `yoloship.graph.families.FAMILIES`.
        class_names: By class id.
        strides: Model pixels per cell of each level, finest first; in a foreign file in the order of its rows.
        anchors: Model pixels; empty if the head has none, or if a foreign graph does not say them.
        input_form: How images go in.
        output_form: What comes out.
        input_hw: (height, width) in model pixels; None for an axis that is dynamic.
        batch: Images per run; None if it is dynamic.
        precision: The arithmetic of the network's body.
        checkpoint_sha256: Of the checkpoint's bytes, lower-case hex; None if it is not known.
        producer: Who wrote the file, with version.
        nms: What is baked into a graph that has suppression inside; None in all others.
        channels: Of the input: 3 for colour images, 1 for grey ones.
        decoded_output: Name of the output that holds the decoded rows; None for the first output.
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

    @property
    def size_multiple(self) -> int:
        """See the function of that name."""
        return size_multiple(self.strides)

    def with_class_names(self, class_names: Sequence[str], *, subject: str) -> ModelInfo:
        """The same model with other class names.

        Args:
            class_names: One for each class, by class id.
            subject: The model's name, for messages.

        Raises:
            InputError: they are not usable names, or there are more or fewer of them than classes.
        """
        return replace(self, class_names=checked_class_names(class_names, len(self.class_names), subject=subject))

    def to_json(self) -> str:
        """One line of JSON, keys sorted, so that equal records give equal bytes."""
        data = {"schema": SCHEMA, **asdict(self)}
        if self.decoded_output is None:  # earlier versions do not know this field
            del data["decoded_output"]
        return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, subject: str = METADATA_KEY) -> ModelInfo:
        """Read a record back from untrusted text.

        Args:
            text: JSON as `to_json` writes it.
            subject: The file it came from, for messages.

        Raises:
            InputError: the text is not such a record; the wrong field is named.
        """
        read = FieldReader.parse(text, _FORM, subject=subject)
        added_later = {"channels": 3, **read.data}
        read = replace(read, data=added_later)
        expected = "levels of (width, height) pairs, finite and not negative"
        levels = read.items("anchors", MAX_LEVELS, _is_level, expected)
        expected = "[height, width] in pixels, null where dynamic"
        sides = read.items("input_hw", 2, lambda side: side is None or _is_side(side), expected)
        if len(sides) != 2:
            raise read.wrong("input_hw", expected)
        return cls(
            task=read.matching("task", WORD, WORD_TEXT),
            family=read.matching("family", WORD, WORD_TEXT),
            class_names=read.items("class_names", MAX_CLASSES, _is_text, f"at most {MAX_CLASSES} strings"),
            strides=read.items("strides", MAX_LEVELS, _is_side, f"at most {MAX_LEVELS} positive integers"),
            anchors=tuple(tuple((float(width), float(height)) for width, height in level) for level in levels),
            input_form=read.choice("input_form", get_args(InputForm)),
            output_form=read.matching("output_form", WORD, WORD_TEXT),
            input_hw=sides,
            batch=read.optional("batch", lambda key: read.integer(key, 1, MAX_SIDE)),
            precision=read.choice("precision", get_args(Precision)),
            checkpoint_sha256=read.optional("checkpoint_sha256", read.sha256),
            producer=read.text("producer"),
            nms=read.optional("nms", lambda key: _nms(read, key)),
            channels=read.integer("channels", 1, MAX_CHANNELS),
            decoded_output=read.text("decoded_output") if "decoded_output" in read.data else None,
        )


_FORM: Final = JsonForm(
    "model record",
    InputError,
    SCHEMA,
    frozenset(field.name for field in fields(ModelInfo)),
    MAX_JSON_CHARS,
    "export it again with this version",
)


def size_multiple(strides: Iterable[int]) -> int:
    """What the input's height and width are multiples of, in pixels.

    At least 32, whatever the levels: a network that ends at stride 16 still goes down to 32 inside.

    Args:
        strides: Of the levels, in pixels.
    """
    return max(32, *strides)


def _nms(read: FieldReader, key: str) -> NmsConfig:
    settings = read.nested(key, [field.name for field in fields(NmsConfig)]).data
    try:
        return NmsConfig(**settings)
    except InputError as error:
        raise read.wrong(key, f"{error.subject}: {error.expected}") from error


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS


def _is_side(value: object) -> bool:
    return is_int(value, 1, MAX_SIDE)


def _is_level(value: object) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= 64:
        return False
    pairs = (pair if isinstance(pair, list) and len(pair) == 2 else (None,) for pair in value)
    return all(is_number(side, 0, 1e9) for pair in pairs for side in pair)


def checked_class_names(class_names: Sequence[str], classes: int | None, *, subject: str) -> tuple[str, ...]:
    """Class names that somebody gives in place of those in a file.

    Args:
        class_names: By class id.
        classes: How many the model has; None if that is not known yet.
        subject: The model's name, for messages.

    Raises:
        InputError: a name is not text or is empty, or there are more or fewer names than classes.
    """
    names = () if isinstance(class_names, str) else tuple(class_names)
    if not 1 <= len(names) <= MAX_CLASSES or not all(_is_name(name) for name in names):
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


def _is_name(value: object) -> bool:
    return _is_text(value) and bool(value.strip()) and not _SURROGATES.search(value)
