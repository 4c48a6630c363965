"""What kind of model a session holds: from our own record, or from the form that the field's exports share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.errors import SessionError
from yoloship.model import METADATA_KEY, ModelInfo, checked_class_names
from yoloship.pipeline.names import parse_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.runtime import Session
    from yoloship.tensors import TensorSpec

STANDARD_FORM: Final = "one input (B, 3, H, W) float32 and an output (B, N, 5 + classes), as YOLOv5 exports have"
_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16), (4, 8, 16, 32, 64))
"""Level sets seen in the field, the usual ones first."""
_MAX_ANCHORS: Final = 9
_MAX_INPUT: Final = 1 << 28
"""Numbers in one feed, 1 GiB: more is no model that anybody runs, and must not be allocated to find out."""
ANCHOR_FREE: Final = "ultralytics"
"""The family of engines whose metadata names an anchor-free model; see `yoloship.engine.plan`."""
_ZERO_PX: Final = 1e-3
_PROBE_CELLS: Final = 2
"""Side, in cells of the coarsest level, of the picture that a model of dynamic size is tried on."""


def recognise(session: Session, subject: str, class_names: Sequence[str] | None = None) -> ModelInfo:
    """Say what the pipeline must know about a model.

    A file of ours carries it. A foreign one is run once on a grey picture: its numbers show whether it is what
    it seems.

    Args:
        session: Open.
        subject: The file's name, for messages.
        class_names: In place of those in the file, which are not read then.

    Raises:
        InputError: the file's own record is damaged, or `class_names` does not fit its classes.
        SessionError: the model has another form than any that the pipeline knows, or one whose boxes are broken.
    """
    record = session.metadata.get(METADATA_KEY)
    if record is None:
        return _foreign(session, subject, class_names)
    info = ModelInfo.from_json(record, subject=subject)
    _check_record(session, info, subject)
    return info if class_names is None else info.with_class_names(class_names, subject=subject)


def _check_record(session: Session, info: ModelInfo, subject: str) -> None:
    """Refuse a record that contradicts the graph beside it."""
    if info.task != "detect":
        raise SessionError(
            f"a model for the task {info.task!r} cannot be run here yet", subject=subject, expected="detect"
        )
    if not info.class_names or not info.strides:
        raise SessionError("the model's record names no classes or no strides", subject=subject)
    batch: int | str = "batch" if info.batch is None else info.batch
    height, width = (name if side is None else side for name, side in zip("hw", info.input_hw, strict=True))
    shape = (batch, height, width, 3) if info.input_form == "image" else (batch, 3, height, width)
    dtype = "uint8" if info.input_form == "image" else "float32"
    spec = session.inputs[0] if len(session.inputs) == 1 else None
    if spec is None or spec.dtype != dtype or not _same_shape(spec.shape, shape):
        raise SessionError(
            "the model's record contradicts its graph",
            subject=subject,
            expected=f"one input {dtype}({', '.join(map(str, shape))})",
            got="; ".join(map(str, session.inputs)),
            hint="export it again with yoloship",
        )
    count = {"heads": len(info.strides), "raw": 1, "compact": 3, "nms": 5}.get(info.output_form)
    if count is not None and len(session.outputs) != count:
        raise SessionError(
            f"the model's record says {info.output_form!r}", subject=subject, expected=f"{count} outputs",
            got=str(len(session.outputs)), hint="export it again with yoloship",
        )  # fmt: skip
    if info.output_form == "raw":
        _check_raw(session.outputs[0], info, subject)


def _check_raw(spec: TensorSpec, info: ModelInfo, subject: str) -> None:
    """Refuse an output that has other columns than box, objectness and classes, as anchor-free models do."""
    columns = 5 + len(info.class_names)
    anchor_free = info.family == ANCHOR_FREE or (len(spec.shape) == 3 and spec.shape[1] == columns - 1)
    if not anchor_free and len(spec.shape) == 3 and (isinstance(spec.shape[2], str) or spec.shape[2] == columns):
        return
    if anchor_free:
        raise _anchor_free(subject, f"({', '.join(map(str, spec.shape))})")
    raise SessionError(
        "the model's record contradicts its output",
        subject=subject,
        expected=f"(B, N, {columns}) for {len(info.class_names)} classes",
        got=str(spec),
        hint="export it again with yoloship",
    )


def _same_shape(have: tuple[int | str, ...], want: tuple[int | str, ...]) -> bool:
    return len(have) == len(want) and all(
        isinstance(a, str) == isinstance(b, str) and (isinstance(a, str) or a == b)
        for a, b in zip(have, want, strict=True)
    )


def _foreign(session: Session, subject: str, class_names: Sequence[str] | None) -> ModelInfo:
    spec = _foreign_input(session, subject)
    _check_output(session, spec, subject)
    batch, _, height, width = spec.shape
    names = parse_names(session.metadata.get("names", "")) if class_names is None else None
    coarsest = _stride(session.metadata.get("stride", ""))
    probe_hw = tuple(side if isinstance(side, int) else _PROBE_CELLS * (coarsest or 64) for side in (height, width))
    probe = np.full((batch if isinstance(batch, int) else 1, 3, *probe_hw), 0.5, np.float32)
    raw: npt.NDArray[Any] = session.run({spec.name: probe})[0]
    if raw.ndim != 3 or raw.dtype.kind != "f" or raw.shape[2] < 6:
        raise _unknown(subject, f"an output {raw.dtype}{raw.shape}")
    classes = raw.shape[2] - 5
    if names is not None and len(names) != classes:
        if raw.shape[1] == 4 + len(names):
            raise _anchor_free(subject, f"(B, {raw.shape[1]}, {raw.shape[2]})")
        raise _unknown(subject, f"{len(names)} class names beside an output (B, {raw.shape[1]}, {raw.shape[2]})")
    strides = _levels(raw.shape[1], (probe_hw[0], probe_hw[1]), coarsest)
    if strides is None:
        if raw.shape[1] < raw.shape[2]:
            raise _anchor_free(subject, f"(B, {raw.shape[1]}, {raw.shape[2]})")
        raise _unknown(subject, f"{raw.shape[1]} rows, which fit no grid of a {probe_hw[0]}×{probe_hw[1]} picture")
    _check_numbers(raw, strides, (probe_hw[0], probe_hw[1]), subject)
    return ModelInfo(
        task="detect",
        family="yolov5",
        class_names=_names(names if class_names is None else class_names, classes, subject),
        strides=strides,
        anchors=(),
        input_form="float",
        output_form="raw",
        input_hw=(height if isinstance(height, int) else None, width if isinstance(width, int) else None),
        batch=batch if isinstance(batch, int) else None,
        producer=session.metadata.get("author", "")[:200],
    )


def _names(names: Sequence[str] | None, classes: int, subject: str) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(classes)))
    return checked_class_names(names, classes, subject=subject)


def _foreign_input(session: Session, subject: str) -> TensorSpec:
    specs = session.inputs
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[1] != 3 or specs[0].dtype != "float32":
        raise _unknown(subject, f"inputs {'; '.join(map(str, specs)) or 'none'}")
    fixed = [axis for axis in specs[0].shape if isinstance(axis, int)]
    if min(fixed) < 1 or math.prod(fixed) > _MAX_INPUT:
        raise _unknown(subject, f"an input {specs[0]}")
    task = session.metadata.get("task", "detect")
    if task != "detect":
        raise SessionError(
            f"a model for the task {task[:40]!r} cannot be run here yet", subject=subject, expected="detect"
        )
    return specs[0]


def _check_output(session: Session, spec: TensorSpec, subject: str) -> None:
    """Refuse by the declared shape, before anything runs."""
    first = session.outputs[0] if session.outputs else None
    if first is None or len(first.shape) != 3 or first.dtype not in {"float32", "float16"}:
        raise _unknown(subject, f"outputs {'; '.join(map(str, session.outputs)) or 'none'}")
    rows, columns = first.shape[1:]
    _, _, height, width = spec.shape
    if isinstance(rows, int) and isinstance(columns, int) and isinstance(height, int) and isinstance(width, int):
        anchor_free = {sum((height // s) * (width // s) for s in strides) for strides in _STRIDES}
        if columns in anchor_free and rows < columns:
            raise _anchor_free(subject, f"(B, {rows}, {columns})")


def _levels(rows: int, input_hw: tuple[int, int], coarsest: int | None) -> tuple[int, ...] | None:
    """The strides whose grids give this many rows."""
    for strides in _STRIDES:
        cells = sum((input_hw[0] // stride) * (input_hw[1] // stride) for stride in strides)
        fits = cells > 0 and rows % cells == 0 and rows // cells <= _MAX_ANCHORS
        if fits and coarsest in {None, strides[-1]} and not any(side % strides[-1] for side in input_hw):
            return strides
    return None


def _check_numbers(
    raw: npt.NDArray[np.floating[Any]], strides: tuple[int, ...], input_hw: tuple[int, int], subject: str
) -> None:
    """Refuse outputs that are not decoded, and a finest level whose boxes have no size."""
    scores = raw[..., 4:]
    if not (np.isfinite(scores).all() and scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise _unknown(subject, "scores outside 0 to 1")
    cells = [(input_hw[0] // stride) * (input_hw[1] // stride) for stride in strides]
    rows = raw.shape[1] * cells[0] // sum(cells)
    sizes = np.abs(raw[..., 2:4])
    if (sizes[:, :rows] < _ZERO_PX).all() or (sizes[:, -rows:] < _ZERO_PX).all():  # the oldest put the finest last
        raise SessionError(
            f"every box of the finest level (stride {strides[0]}) has zero size, so small objects are lost: "
            "it was exported with a stale anchor grid",
            subject=subject,
            hint="export it again from its .pt with 'yoloship export'",
        )


def _stride(text: str) -> int | None:
    """The largest stride from metadata such as ``32``, ``32.0`` or ``[8, 16, 32]``."""
    words = text[:200].strip().strip("[]()").replace(",", " ").split()
    values = [int(float(word)) for word in words if word.replace(".", "", 1).isdecimal() and len(word) < 12]
    usable = [value for value in values if any(value == strides[-1] for strides in _STRIDES)]
    return max(usable, default=None)


def _unknown(subject: str, got: str) -> SessionError:
    return SessionError(
        "is no detection model of a form known here",
        subject=subject,
        expected=f"{STANDARD_FORM}, or a file from 'yoloship export'",
        got=got,
    )


def _anchor_free(subject: str, got: str) -> SessionError:
    return SessionError(
        "has the output (B, 4 + classes, N) of YOLOv8 and later, which is not supported yet",
        subject=subject,
        expected=STANDARD_FORM,
        got=got,
    )
