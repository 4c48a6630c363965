"""Which class of a model is which class of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yoloship.datasets.classes import misplaced_class
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """The way from a model's classes to a dataset's.

    Attributes:
        ids: (M,) int32: the dataset's class id of each class of the model; -1 if the dataset does not have it.
        note: What is to be said about it; empty if both have the same classes.
    """

    ids: npt.NDArray[np.int32]
    note: str = ""


def class_map(model_names: Sequence[str], dataset_names: Sequence[str], subject: str) -> ClassMap:
    """Find out which classes are the same: by name, or by id if the names are others but as many.

    Ids are not taken if they cannot be right: if one name stands at different ids.

    Args:
        model_names: By class id.
        dataset_names: By class id.
        subject: The model's name, for messages.

    Raises:
        InputError: they differ in number, and the dataset has a class that the model does not name; or they are as
            many, and a name of both stands at another id.
    """
    own, wanted = tuple(model_names), tuple(dataset_names)
    if own == wanted:
        return ClassMap(np.arange(len(own), dtype=np.int32))
    if len(set(own)) == len(own) and len(set(wanted)) == len(wanted) and set(wanted) <= set(own):
        places = {name: index for index, name in enumerate(wanted)}
        ids = np.array([places.get(name, -1) for name in own], np.int32)
        left = int(np.count_nonzero(ids < 0))
        more = f"; what it finds of its {left} other classes does not count" if left else ""
        return ClassMap(ids, f"classes are matched by name{more}")
    if len(own) == len(wanted):
        if (place := misplaced_class(own, wanted)) is not None:
            raise InputError(
                "has classes of the dataset at other ids, and lacks others", subject=subject,
                expected=f"class {place} {wanted[place]!r}", got=repr(own[place]),
                hint="give both the same names: those of the model can be given with --names (class_names in Python)",
            )  # fmt: skip
        place = next(index for index, (a, b) in enumerate(zip(own, wanted, strict=True)) if a != b)
        return ClassMap(
            np.arange(len(own), dtype=np.int32),
            f"classes are matched by id: class {place} is {own[place]!r} in the model and {wanted[place]!r} in the "
            "dataset",
        )
    absent = [name for name in wanted if name not in own][:3] or ["the same name twice"]
    raise InputError(
        "has different classes from the dataset",
        subject=subject,
        expected=f"the {len(wanted)} classes of the dataset, or as many",
        got=f"{len(own)} classes, without {', '.join(map(repr, absent))}",
        hint="give the model's classes their names with --names (class_names in Python), "
        "or count all as one class with --single-cls (single_class)",
    )
