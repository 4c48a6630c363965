"""The tasks of a model, one file each, and where to add one: `TASKS`. `info_of` finds out which a model has."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from yoloship._util.tables import Table
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.runtime import Session
    from yoloship.tasks.task import Form, Task

TASKS: Final[Table[Task[Any, Any]]] = Table(
    "yoloship.tasks",
    "task",
    MappingProxyType(
        {
            "detect": "yoloship.tasks.detect:Detect",
            "segment": "yoloship.tasks.segment:Segment",
            "pose": "yoloship.tasks.pose:Pose",
            "obb": "yoloship.tasks.obb:Obb",
            "classify": "yoloship.tasks.classify:Classify",
        }
    ),
    base="yoloship.tasks.task:Task",
)
"""By `ModelInfo.task`. An installed package adds one by an entry point of the group ``yoloship.tasks``."""


def task_of(info: ModelInfo, subject: str) -> Task[Any, Any]:
    """The task of a model.

    Args:
        info: The model's record.
        subject: The model's name, for messages.

    Raises:
        SessionError: no such task is known here.
    """
    try:
        task = TASKS.load(info.task)
    except InputError:
        raise SessionError(
            f"a model for the task {info.task[:40]!r} cannot be run here yet",
            subject=subject,
            expected=", ".join(TASKS),
        ) from None
    return task()


def info_of(
    session: Session,
    subject: str,
    class_names: Sequence[str] | None = None,
    *,
    canvas_hw: tuple[int, int] | None = None,
) -> ModelInfo:
    """Find out what a detector must know about a model.

    A file that yoloship wrote contains a description. A foreign file is run once on a grey image, and its output shows
    what it is.

    Args:
        session: An open session of the model.
        subject: The file's name, for messages.
        class_names: Class names to use; those in the file are then not read.
        canvas_hw: (height, width) to run a model of dynamic size at; None takes 640.

    Raises:
        InputError: the description in the file is damaged, or `class_names` does not fit its classes.
        SessionError: the model has an unknown form, or its boxes are wrong.
    """
    record = session.metadata.get(METADATA_KEY)
    if record is None:
        from yoloship.tasks.recognise import recognise_foreign

        return recognise_foreign(session, subject, canvas_hw, class_names)
    info = ModelInfo.from_json(record, subject=subject)
    # Refuse a record that contradicts the graph beside it.
    task = task_of(info, subject)
    batch: int | str = "batch" if info.batch is None else info.batch
    height, width = (name if side is None else side for name, side in zip("hw", info.input_hw, strict=True))
    channels = info.channels
    shape = (batch, height, width, channels) if info.input_form == "image" else (batch, channels, height, width)
    dtypes = ("uint8",) if info.input_form == "image" else ("float32", "float16")
    spec = session.inputs[0] if len(session.inputs) == 1 else None
    want, have = (
        [None if isinstance(axis, str) else axis for axis in axes] for axes in (shape, spec.shape if spec else ())
    )
    if spec is None or spec.dtype not in dtypes or have != want:
        raise SessionError(
            "the model's record contradicts its graph",
            subject=subject,
            expected=f"one input {dtypes[0]}({', '.join(map(str, shape))})",
            got="; ".join(map(str, session.inputs)),
            hint="export it again with yoloship",
        )
    task.check(session.outputs, info, subject)
    return info if class_names is None else info.with_class_names(class_names, subject=subject)


def form_of(info: ModelInfo, subject: str) -> Form[Any]:
    """The output form of a model; the arguments and errors are those of `task_of`."""
    return task_of(info, subject).form(info.output_form, subject)


def refuse_other_task(task: Task[Any, Any], wanted: str, subject: str) -> NoReturn:
    """Refuse a model because it has another task than the caller asked for.

    Args:
        task: The model's task.
        wanted: The name of the task that was asked for.
        subject: The model's name, for messages.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"is a {task.title}", subject=subject, expected=f"a {TASKS.load(wanted).title}",
        hint="'yoloship predict' runs models of every task (in Python, leave task out)",
    )  # fmt: skip


def refuse_other_results(info: ModelInfo, subject: str, doing: str) -> None:
    """Refuse a model whose results are not boxes, for what works with boxes only.

    Args:
        info: The model's record.
        subject: The model's name, for messages.
        doing: What cannot be done with it: "compared".

    Raises:
        InputError: the model is of such a task.
        SessionError: no such task is known here.
    """
    from yoloship.tasks.detect import Detect

    task = task_of(info, subject)
    if type(task) is not Detect:  # derived tasks answer more than boxes
        raise InputError(
            f"gives {task.noun[1]}, which cannot be {doing} yet",
            subject=subject,
            expected=f"a {Detect.title}",
            got=f"a {task.title}, which is judged by {task.measure}",
        )


def suppressing_forms() -> tuple[str, ...]:
    """Names of the output forms that have suppression inside, so that thresholds can be given for them."""
    return tuple(name for name, form in all_forms().items() if form.suppresses)


def all_forms() -> Mapping[str, Form[Any]]:
    """Every output form of every task that can be loaded, by name; of two tasks' forms of one name the first."""
    forms: dict[str, Form[Any]] = {}
    for name in TASKS:
        with suppress(DependencyError):  # another package's task, which only models of that task need
            for form in TASKS.load(name)().forms:
                forms.setdefault(form.name, form)
    return forms
