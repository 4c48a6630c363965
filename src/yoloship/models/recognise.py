"""What kind of model a session holds: from our own record, or from the form that the field's exports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship.errors import SessionError
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.models.foreign import recognise_foreign
from yoloship.models.rows import anchor_free_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.model import TensorSpec
    from yoloship.runtime import Session


ANCHOR_FREE: Final = "ultralytics"
"""The family of engines whose metadata names an anchor-free model; see `yoloship.engine.file`."""


def recognise(
    session: Session,
    subject: str,
    class_names: Sequence[str] | None = None,
    *,
    canvas_hw: tuple[int, int] | None = None,
) -> ModelInfo:
    """Say what the pipeline must know about a model.

    A file of ours carries it. A foreign one is run once on a grey image: its numbers show what it is.

    Args:
        session: Open.
        subject: The file's name, for messages.
        class_names: In place of those in the file, which are not read then.
        canvas_hw: (height, width) that a model of dynamic size shall run at; None takes 640.

    Raises:
        InputError: the file's own record is damaged, or `class_names` does not fit its classes.
        SessionError: the model has another form than any that the pipeline knows, or one whose boxes are broken.
    """
    record = session.metadata.get(METADATA_KEY)
    if record is None:
        return recognise_foreign(session, subject, canvas_hw, class_names)
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
    channels = info.channels
    shape = (batch, height, width, channels) if info.input_form == "image" else (batch, channels, height, width)
    dtypes = ("uint8",) if info.input_form == "image" else ("float32", "float16")
    spec = session.inputs[0] if len(session.inputs) == 1 else None
    if spec is None or spec.dtype not in dtypes or not _same_shape(spec.shape, shape):
        raise SessionError(
            "the model's record contradicts its graph",
            subject=subject,
            expected=f"one input {dtypes[0]}({', '.join(map(str, shape))})",
            got="; ".join(map(str, session.inputs)),
            hint="export it again with yoloship",
        )
    count = {"heads": len(info.strides), "raw": 1, "compact": 3, "nms": 5}.get(info.output_form)
    if info.decoded_output is not None and info.decoded_output not in {spec.name for spec in session.outputs}:
        raise SessionError(
            "the model's record names an output that it does not have", subject=subject,
            expected=info.decoded_output[:60], got=", ".join(spec.name for spec in session.outputs)[:120],
        )  # fmt: skip
    if count is not None and info.decoded_output is None and len(session.outputs) != count:
        raise SessionError(
            f"the model's record says {info.output_form!r}", subject=subject, expected=f"{count} outputs",
            got=str(len(session.outputs)), hint="export it again with yoloship",
        )  # fmt: skip
    if info.output_form == "raw":
        _check_raw(decoded_spec(session.outputs, info), info, subject)


def _check_raw(spec: TensorSpec, info: ModelInfo, subject: str) -> None:
    """Refuse an output that has other columns than box, objectness and classes, as anchor-free models do."""
    columns = 5 + len(info.class_names)
    anchor_free = info.family == ANCHOR_FREE or (len(spec.shape) == 3 and spec.shape[1] == columns - 1)
    if not anchor_free and len(spec.shape) == 3 and (isinstance(spec.shape[2], str) or spec.shape[2] == columns):
        return
    if anchor_free:
        raise anchor_free_error(subject, f"({', '.join(map(str, spec.shape))})")
    raise SessionError(
        "the model's record contradicts its output",
        subject=subject,
        expected=f"(B, N, {columns}) for {len(info.class_names)} classes",
        got=str(spec),
        hint="export it again with yoloship",
    )


def decoded_spec(outputs: tuple[TensorSpec, ...], info: ModelInfo) -> TensorSpec:
    """The output of the form ``raw`` that holds the decoded rows."""
    return next((spec for spec in outputs if spec.name == info.decoded_output), outputs[0])


def _same_shape(have: tuple[int | str, ...], want: tuple[int | str, ...]) -> bool:
    return len(have) == len(want) and all(
        isinstance(a, str) == isinstance(b, str) and (isinstance(a, str) or a == b)
        for a, b in zip(have, want, strict=True)
    )
