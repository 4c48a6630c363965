"""What kind of model a session holds: from our own record, or from the form that the field's exports share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship.errors import SessionError
from yoloship.model import METADATA_KEY, ModelInfo
from yoloship.models.foreign import recognise_foreign
from yoloship.tasks import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.runtime import Session


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
    task = task_of(info, subject)
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
    task.check(session.outputs, info, subject)


def _same_shape(have: tuple[int | str, ...], want: tuple[int | str, ...]) -> bool:
    return len(have) == len(want) and all(
        isinstance(a, str) == isinstance(b, str) and (isinstance(a, str) or a == b)
        for a, b in zip(have, want, strict=True)
    )
