"""Checks a foreign ONNX file before a runtime opens it, and explains why a runtime refuses a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import read_bounded
from yoloship.bounds import UnsizedError, check_bounds, read_outline, refuse_unbounded, takes_bytes
from yoloship.bounds.outline import is_target_size
from yoloship.errors import SessionError, YoloshipError
from yoloship.kinds import damaged_onnx, kind_of
from yoloship.tasks.probing import CROP_SIDE, usual_hw
from yoloship.tasks.recognise import DEFAULT_SIDE, MAX_CHANNELS, MAX_INPUT, OTHER_SIDE, PROBE_SIDE
from yoloship.tasks.rows import unknown_form_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.bounds.outline import Outline
    from yoloship.graph.onnx_file import Model


_NO_KERNEL: Final = "Could not find an implementation"
"""ONNX Runtime's message about an operator that it has only for other element types (1.20 to 1.32)."""


def explained(error: SessionError, model: Path | bytes, subject: str) -> SessionError:
    """A better error if a runtime refused a model because of its element type; else the same error.

    Args:
        error: The runtime's error.
        model: The file or its bytes; read only if the runtime had no kernel for it.
        subject: The file's name, for the message.
    """
    if _NO_KERNEL not in error.problem:
        return error
    from yoloship.graph.onnx_file import parse_onnx, read_file

    try:
        parsed = parse_onnx(read_file(model) if isinstance(model, Path) else model, subject)
    except YoloshipError:
        return error
    return refusal(parsed, subject) or error


def refusal(model: Model, subject: str) -> SessionError | None:
    """Why ONNX Runtime has no CPU kernels for a model, found from its element types; None if they are not the reason.

    Args:
        model: The graph.
        subject: The file's name, for the message.

    Source: measured with ONNX Runtime 1.32.0 on a processor with AVX-512 BF16: no convolution of bfloat16 is
    implemented by the CPU provider, whatever the processor has.
    """
    from yoloship.graph.body import body_precision

    if body_precision(model) != "bfloat16":
        return None
    return SessionError(
        "computes in bfloat16, for which ONNX Runtime has no kernels on a CPU",
        subject=subject,
        hint="use float32 or float16 on a CPU; 'yoloship build' builds an engine from it, and 'yoloship verify' "
        "emulates it",
    )


def companions(model: Path) -> tuple[Path, ...]:
    """The sidecar of an engine, or the files that hold the weights of an ONNX model.

    Args:
        model: A model's file. A file that cannot be read has no companions.

    Returns:
        Paths, which may not exist.
    """
    try:
        kind = kind_of(model)
        if kind == "engine":
            from yoloship.engine import sidecar_path

            return (sidecar_path(model),)
        if kind == "onnx":
            from yoloship.graph.check import external_files

            return external_files(model)
    except YoloshipError:  # the code that opens it reports what is wrong with it
        pass
    return ()


MAX_ONNX_BYTES: Final = (1 << 31) - 1
"""The largest size of a protobuf message."""
MAX_BATCH: Final = 16
"""Images that a detector gives to one run."""
_FREE_S: Final = 60.0
_SLOWEST_PER_S: Final = 5e8
"""Operations per second of a slow and busy machine."""


@dataclass(frozen=True, slots=True)
class Vetted:
    """A file that was checked and may be opened.

    Attributes:
        source: The bytes that were checked; the file itself if its weights are in other files.
        limit_s: Time limit of a run in seconds.
    """

    source: Path | bytes
    limit_s: float


def vetted(file: Path | bytes, subject: str, canvas_hw: tuple[int, int] | None) -> Vetted:
    """Refuse an ONNX file that could need unlimited memory or time.

    Args:
        file: The file, or its bytes.
        subject: The file's name, for messages.
        canvas_hw: (height, width) to run a model of dynamic size at; None takes 640.

    Raises:
        UnsizedError: its memory and time cannot be known before it runs.
        SessionError: it is not an ONNX file, does not take images or takes images of 0..255, or needs too much.
        GraphError: its weights are in other files, which are missing or outside its folder.
    """
    data = (
        file
        if isinstance(file, bytes)
        else read_bounded(file, MAX_ONNX_BYTES, error=SessionError, wanted="an ONNX model")
    )
    model = read_outline(data, subject)
    refuse_unbounded(model, subject)
    if not model.graph.node or not model.graph.output:
        raise damaged_onnx(subject, error=SessionError, got="no graph")
    work = check_bounds(model, subject, dict.fromkeys(_shapes(model, subject, canvas_hw)))
    if takes_bytes(model):
        raise unknown_form_error(
            subject,
            "a graph that scales images of 0..255 itself",
            "export it for images of 0..1, without preprocessing in the graph",
        )
    stored = [*model.graph.initializer, *(entry.t for node in model.graph.node for entry in node.attribute)]
    source: Path | bytes = data
    if any(tensor.data_location for tensor in stored) and isinstance(file, Path):
        from yoloship.graph.check import checked_external_files

        checked_external_files(file, stored)
        source = file
    return Vetted(source, _FREE_S + work / _SLOWEST_PER_S)


def _shapes(model: Outline, subject: str, canvas_hw: tuple[int, int] | None) -> Iterator[tuple[int, ...]]:
    """The input shapes that will be run: the canvas, full batches, and small images to find dynamic axes."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    inputs.sort(key=is_target_size)  # the image first
    axes = [
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None
        for value in inputs[:1]
        for axis in value.type.tensor_type.shape.dim
    ]
    sizes = inputs[1:]
    if (
        len(sizes) > 1
        or not all(map(is_target_size, sizes))
        or len(axes) != 4
        or math.prod(axis or 1 for axis in axes) > MAX_INPUT
    ):
        listed = "; ".join(f"{value.name[:40]} of {len(value.type.tensor_type.shape.dim)} axes" for value in inputs[:4])
        listed += f", {tuple('dynamic' if axis is None else axis for axis in axes)}" if len(axes) == 4 else ""
        error = unknown_form_error(subject, f"inputs {listed or 'none'}")
        raise UnsizedError(error.problem, subject=subject, expected=error.expected, got=error.got)
    last = (axes[1] is None or axes[1] > MAX_CHANNELS) and axes[3] is not None and axes[3] <= MAX_CHANNELS
    said_hw = usual_hw({entry.key: entry.value for entry in model.metadata_props if entry.key in {"imgsz", "task"}})
    canvas_hw = canvas_hw or said_hw or (DEFAULT_SIDE, DEFAULT_SIDE)
    runs = [(batch, hw) for hw in (canvas_hw, (CROP_SIDE, CROP_SIDE)) for batch in (1, MAX_BATCH)]
    runs += [(1, (side, side)) for side in (DEFAULT_SIDE, PROBE_SIDE, OTHER_SIDE)]
    for batch, (height, width) in runs:
        defaults = (batch, height, width, 3) if last else (batch, 3, height, width)
        yield tuple(default if axis is None else axis for axis, default in zip(axes, defaults, strict=True))
