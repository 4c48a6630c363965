"""The tasks of a model, one file each, and where to add one: `TASKS`. `recognise` finds out which a model has."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from yoloship._util.tables import Table
from yoloship.errors import DependencyError, InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.model import ModelInfo
    from yoloship.tasks.task import Form, Task

TASKS: Final[Table[Task[Any, Any]]] = Table(
    "yoloship.tasks",
    "task",
    MappingProxyType(
        {
            "detect": "yoloship.tasks.detect:Detect",
            "segment": "yoloship.tasks.segment:Segment",
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
    if not isinstance(task, Detect):
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
