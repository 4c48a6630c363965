"""The tasks of a model, one file each. `TASKS` names them, and `info_of` finds out which of them a model has."""

from __future__ import annotations

from yoloship.tasks.task import (
    TASKS,
    all_forms,
    form_of,
    info_of,
    refuse_other_results,
    refuse_other_task,
    suppressing_forms,
    task_of,
)

__all__ = [
    "TASKS",
    "all_forms",
    "form_of",
    "info_of",
    "refuse_other_results",
    "refuse_other_task",
    "suppressing_forms",
    "task_of",
]
