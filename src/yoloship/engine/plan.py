"""The bytes of a plan: what its header says, and the form that carries a JSON prefix.

Source of the header, measured on plans of TensorRT-RTX 1.7.1.116: bytes 0-3 ``vtrt``, uint64 little-endian at 0x10 the
file's length, bytes 0x18-0x1b the version's four numbers. Plans of TensorRT 10 begin with ``ftrt`` (seen in programs
that read them; none could be built here), so nothing but that is asked of those.
Source of the prefixed form: the field's reports of it: int32 little-endian length, so much JSON in UTF-8, the plan.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from yoloship.errors import EngineError
from yoloship.kinds import ENGINE_MAGICS, MAX_PREFIX_BYTES, RTX_MAGIC
from yoloship.model import MAX_CLASSES, MAX_SIDE, ModelInfo, Task

HEADER_BYTES = 0x1C

_MAKER = "ultralytics"
_DESCRIPTION = re.compile(r"\s*(?:Ultralytics\s+)?(\S+)(?:\s+model\b|\s*$)", re.IGNORECASE)
_ANCHOR_NAME = re.compile(r"yolov5(?:[nsmlx]6?)?(?:-(?:seg|cls))?(?:\.pt|\.yaml)?", re.IGNORECASE)

PlanForm: TypeAlias = Literal["rtx", "tensorrt", "unknown"]


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What the first bytes of a plan say.

    Attributes:
        form: Whose magic number it begins with.
        version: ``1.7.1.116``; None where the form does not tell.
    """

    form: PlanForm
    version: str | None


def read_header(plan: memoryview, *, subject: str, plan_bytes: int | None = None) -> PlanHeader:
    """Read a plan's header.

    Args:
        plan: The plan, or its beginning; read only.
        subject: The file, for messages.
        plan_bytes: Length of the whole plan; None if `plan` is all of it.

    Raises:
        EngineError: it is too short, or truncated, or something follows it.
    """
    whole_bytes = len(plan) if plan_bytes is None else plan_bytes
    if whole_bytes < HEADER_BYTES:
        raise EngineError(
            "is not a TensorRT engine",
            subject=subject,
            expected=f"at least {HEADER_BYTES} bytes",
            got=f"{whole_bytes} bytes",
        )
    magic = bytes(plan[:4])
    if magic != RTX_MAGIC:
        return PlanHeader("tensorrt" if magic in ENGINE_MAGICS else "unknown", None)
    (length,) = struct.unpack_from("<Q", plan, 0x10)
    if length != whole_bytes:
        raise EngineError(
            "is truncated" if whole_bytes < length else "has something behind its end",
            subject=subject,
            expected=f"{length} bytes, as its header says",
            got=f"{whole_bytes} bytes",
            hint="copy it again, or build it again",
        )
    return PlanHeader("rtx", ".".join(map(str, plan[0x18:0x1C])))


def split_prefix(data: memoryview, *, subject: str) -> tuple[dict[str, Any] | None, memoryview]:
    """Separate the JSON that some exporters put in front of a plan.

    Args:
        data: The whole file; read only.
        subject: The file, for messages.

    Returns:
        The JSON object and the plan behind it; None and everything where there is no such prefix.

    Raises:
        EngineError: it begins like a prefix whose JSON cannot be read.
    """
    if len(data) < 5 or bytes(data[:4]) in ENGINE_MAGICS or data[4] != ord("{"):
        return None, data
    (length,) = struct.unpack_from("<i", data, 0)
    if not 2 <= length <= min(MAX_PREFIX_BYTES, len(data) - 4):
        raise EngineError(
            "begins with a length and JSON, but the length cannot be",
            subject=subject,
            expected=f"2 to {min(MAX_PREFIX_BYTES, len(data) - 4)} bytes of JSON",
            got=str(length),
            hint="the file is damaged or truncated",
        )
    try:
        metadata = json.loads(bytes(data[4 : 4 + length]).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EngineError("its JSON prefix cannot be read", subject=subject, got=str(error)[:80]) from error
    if not isinstance(metadata, dict):
        raise EngineError("its JSON prefix is not an object", subject=subject)
    return metadata, data[4 + length :]


def prefix_info(metadata: dict[str, Any], *, subject: str) -> ModelInfo:
    """What a JSON prefix says about the model.

    Args:
        metadata: As `split_prefix` returned it; untrusted.
        subject: The file, for messages.

    Raises:
        EngineError: a field is missing or cannot be.
    """
    read = _Prefix(metadata, subject)
    dynamic = bool(read.arguments().get("dynamic", False))
    height, width = read.size()
    return ModelInfo(
        task=read.task(),
        family=_family(metadata.get("description")),
        class_names=read.names(),
        strides=read.strides(),
        anchors=(),
        input_form="float",
        output_form="raw",
        input_hw=(None, None) if dynamic else (height, width),
        batch=None if dynamic else read.integer("batch", 1, MAX_SIDE, default=1),
        producer=f"{_MAKER} {read.version()}".strip(),
    )


def _family(description: object) -> str:
    """Whose head an engine has, by its description.

    YOLOv5's anchors belong to models named ``yolov5n`` to ``yolov5x6``, and to engines that carry no description. A
    name that ends in ``u``, such as ``YOLOv5su``, is the anchor-free retraining, whose output has another form.

    Source: descriptions in published files: ``Ultralytics NAME model trained on DATA``, ``Ultralytics NAME model
    untrained``, and without the first word.
    """
    if description is None:
        return "yolov5"
    match = _DESCRIPTION.match(description[:200]) if isinstance(description, str) else None
    return "yolov5" if match and _ANCHOR_NAME.fullmatch(match[1]) else _MAKER


class _Prefix:
    """Takes fields out of the prefix, checking each."""

    def __init__(self, metadata: dict[str, Any], subject: str) -> None:
        self._metadata = metadata
        self._subject = subject

    def wrong(self, key: str, expected: str) -> EngineError:
        return EngineError(
            f"JSON prefix: bad {key!r}",
            subject=self._subject,
            expected=expected,
            got=ascii(self._metadata.get(key))[:60],
        )

    def integer(self, key: str, low: int, high: int, *, default: int) -> int:
        value = self._metadata.get(key, default)
        if not _is_int(value, low, high):
            raise self.wrong(key, f"an integer from {low} to {high}")
        return int(value)

    def arguments(self) -> dict[str, Any]:
        value = self._metadata.get("args", {})
        return value if isinstance(value, dict) else {}

    def version(self) -> str:
        value = self._metadata.get("version", "")
        return value[:64] if isinstance(value, str) and value.isprintable() else ""

    def task(self) -> Task:
        value = self._metadata.get("task", "detect")
        for task in get_args(Task):
            if value == task:
                return task  # type: ignore[no-any-return]
        raise self.wrong("task", f"one of {', '.join(get_args(Task))}")

    def names(self) -> tuple[str, ...]:
        value = self._metadata.get("names")
        if isinstance(value, dict):
            value = [value.get(str(index)) for index in range(len(value))]
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= MAX_CLASSES
            or not all(isinstance(name, str) and len(name) <= 1000 for name in value)
        ):
            raise self.wrong("names", "class names by id, from 0 on without a gap")
        return tuple(value)

    def strides(self) -> tuple[int, ...]:
        stride = self.integer("stride", 1, 1024, default=32)
        return tuple(step for step in (8, 16, 32, 64) if step <= stride) if stride in {32, 64} else (stride,)

    def size(self) -> tuple[int, int]:
        value = self._metadata.get("imgsz", [640, 640])
        if _is_int(value, 1, MAX_SIDE):
            return value, value
        if not isinstance(value, list) or len(value) != 2 or not all(_is_int(side, 1, MAX_SIDE) for side in value):
            raise self.wrong("imgsz", "[height, width] in pixels")
        return value[0], value[1]


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
