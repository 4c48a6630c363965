"""How the classes that a dataset names become the classes of a model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from yoloship._util.text import shortened
from yoloship.errors import InputError
from yoloship.model import MAX_CLASSES, is_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.datasets.dataset import Dataset
    from yoloship.model import ModelInfo


def names_of(value: Any, subject: str) -> tuple[str, ...]:
    """The class names that stand under ``names:`` in a training's YAML file.

    Args:
        value: A list, or a mapping from ids to names; untrusted. Its keys and names are text.
        subject: The file, for messages.

    Raises:
        InputError: it is neither, or an id from 0 on is missing.
    """
    wrong = partial(
        InputError, subject=subject, expected="a list, or one name for each id from 0", hint="correct 'names:'"
    )
    if isinstance(value, dict):
        ids = [str(key) for key in value]
        if sorted(ids) != sorted(map(str, range(len(ids)))):
            raise wrong("names has ids that are not 0, 1, 2, …", got=shortened(", ".join(ids), 60))
        value = [value[str(place)] for place in range(len(ids))]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CLASSES or not all(map(is_name, value)):
        raise wrong("names is missing, or not a list of names", got=shortened(repr(value), 60))
    return tuple(value)


def ids_by_name(names: Sequence[str], info: ModelInfo, subject: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The class id of each of a dataset's classes, which have names but no ids of ours.

    If the model has all of the names, its ids are taken. If it has none of them, the classes count in their own order.

    Args:
        names: Of the classes, each once.
        info: The model.
        subject: The file, for messages.

    Returns:
        An id for each name; and the names of all classes, by id.

    Raises:
        InputError: the model has some of the names but not all, or a name stands twice.
    """
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError("has a class twice", subject=subject, got=shortened(repr(twice)))
    ids = {name: place for place, name in enumerate(info.class_names)}
    lacking = [name for name in names if name not in ids]
    if not lacking:
        return tuple(ids[name] for name in names), info.class_names
    if len(lacking) < len(names):
        raise InputError(
            "has classes that the model does not have", subject=subject,
            expected=shortened(", ".join(info.class_names)), got=shortened(", ".join(lacking)),
            hint="give the model's classes these names with --names (class_names in Python), or remove them from the "
            "dataset",
        )  # fmt: skip
    return tuple(range(len(names))), tuple(names)


def check_classes(dataset: Dataset, info: ModelInfo) -> None:
    """Refuse a dataset whose class ids do not mean what the model's mean.

    Raises:
        InputError: they differ in number, or a name of both stands at another id.
    """
    own, theirs = dataset.class_names, info.class_names
    if len(own) != len(theirs):
        raise InputError(
            "has different classes from the model", subject=dataset.name, expected=f"{len(theirs)} classes",
            got=f"{len(own)}", hint="choose the dataset that the model was trained for",
        )  # fmt: skip
    if (place := misplaced_class(own, theirs)) is not None:
        raise InputError(
            "has classes of the model in a different order", subject=dataset.name,
            expected=f"class {place} {theirs[place]!r}", got=repr(own[place]),
            hint="put its names into the model's order",
        )  # fmt: skip


def misplaced_class(own: Sequence[str], other: Sequence[str]) -> int | None:
    """Find a class that two lists of as many names have at different ids, so that ids do not mean the same in both.

    Args:
        own: By class id.
        other: By class id. Upper and lower case do not count.

    Returns:
        The first id that stands for different classes, of which one is in both lists; None if there is none.
    """
    ours, theirs = ([name.strip().casefold() for name in names] for names in (own, other))
    known, wanted = set(ours), set(theirs)
    pairs = enumerate(zip(ours, theirs, strict=True))
    return next((place for place, (a, b) in pairs if a != b and (a in wanted or b in known)), None)
