"""A dataset as it was read: `Dataset`, its `Sample`s, and the `Fault`s that were found on the way.

Nothing here knows how a dataset lies on disk. Every reader gives these records, so whoever judges a model does not ask
where the truth came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.evaluate.coco import Truth
    from yoloship.model import Task


SPLITS: Final = ("val", "test", "train")
"""The parts of a dataset. The first is the default, also of a dataset that is one part by itself."""

DatasetKind: TypeAlias = Literal["yolo", "coco", "voc", "folders"]
"""How a dataset lies on disk: YOLO label files, a COCO JSON file, Pascal VOC XML files, or a folder for each class."""

Consequence: TypeAlias = Literal["image left out", "row dropped", "object dropped", "kept"]
"""What a fault led to. Files on disk are never changed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a dataset.

    Attributes:
        path: The file that has it.
        line: Its line, from 1; None if it is about the whole file.
        problem: What is wrong, for people.
        consequence: What it led to.
    """

    path: Path
    line: int | None
    problem: str
    consequence: Consequence

    def __str__(self) -> str:
        place = str(self.path) if self.line is None else f"{self.path}, line {self.line}"
        return f"{place}: {self.problem} ({self.consequence})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "path": str(self.path), "line": self.line, "problem": self.problem, "consequence": self.consequence,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image of a dataset, and what is in it.

    Attributes:
        path: The image file.
        name: Its name in results, unique in the dataset: the path below the folder of the images, with ``/``.
        image_hw: (height, width) in pixels, turned upright as Exif says.
        truth: The objects in it; None for classification.
        class_id: Its class, for classification; None for other tasks.
        image_id: The id of the image in a COCO file; None in other datasets.
    """

    path: Path
    name: str
    image_hw: tuple[int, int]
    truth: Truth | None = None
    class_id: int | None = None
    image_id: int | str | None = None

    @property
    def object_count(self) -> int:
        """How many objects it has; 1 for classification."""
        return 1 if self.truth is None else len(self.truth.class_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The images of one split of a dataset, for one task.

    Attributes:
        name: What to call it: the path that was given, and its split.
        kind: How it lies on disk.
        task: What the truth is about, a name in `yoloship.tasks.TASKS`: that of the model that it was read for.
        class_names: By class id. Those of the dataset, or the model's if the dataset names none.
        samples: In the order of their paths.
        faults: What is wrong, in the order in which it was found.
        left_out: How many images were left out because of a fault. They are not among the samples.
        missing_labels: How many of the samples have no label file, and so count as images without objects.
        empty_labels: How many of the samples have a label file without a label.
        duplicate_rows: How many rows were dropped because they repeat another row.
        category_ids: The id of each class in a COCO file, by class id, and None for a class that the file does not
            have; None in other datasets.
    """

    name: str
    kind: DatasetKind
    task: Task
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...] = ()
    left_out: int = 0
    missing_labels: int = 0
    empty_labels: int = 0
    duplicate_rows: int = 0
    category_ids: tuple[int | str | None, ...] | None = None

    @property
    def object_count(self) -> int:
        """How many objects all samples have."""
        return sum(sample.object_count for sample in self.samples)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of numbers must know of it, besides single faults."""
        if not self.missing_labels:
            return ()
        some = f"{self.missing_labels:,} of {len(self.samples):,} images"
        return (f"{some} have no label file, and count as images without objects",)


def refuse_split(place: Path, split: str) -> None:
    """Refuse a split other than the default for a dataset that has none.

    Args:
        place: The dataset.
        split: The split that is asked for.

    Raises:
        InputError: it is not the default.
    """
    if split != SPLITS[0]:
        raise InputError(
            f"has no split {split!r}, and is used as a whole", subject=str(place),
            hint="leave the split out, or give the folder or the file of that split",
        )  # fmt: skip


def name_below(path: Path, root: Path) -> str:
    """The name of a sample: its path below a folder, with ``/``; its whole path if it is not below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
