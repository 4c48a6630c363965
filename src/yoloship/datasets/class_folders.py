"""Datasets for classification: a folder of images for each class, as torchvision's `ImageFolder` takes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship.datasets.classes import misplaced_class
from yoloship.datasets.dataset import SPLITS, Dataset, Fault, Sample, refuse_split
from yoloship.datasets.scan import scanned
from yoloship.errors import ImageError, InputError
from yoloship.evaluate.labels import class_of_folder
from yoloship.images import image_size
from yoloship.sources.finding import MAX_IMAGES, walk_folder
from yoloship.sources.recognise import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from yoloship._util.text import OnProgress
    from yoloship.model import ModelInfo


def read_class_dataset(root: Path, split: str, info: ModelInfo, on_progress: OnProgress | None = None) -> Dataset:
    """Read which class each image has.

    Args:
        root: Has a folder for each class; or a folder for each split, which has them.
        split: The folder of the split, if there is one for each.
        info: The model; folders are its classes by their names. If no folder has the name of a class, and there are as
            many as classes, they count in the order of their names.
        on_progress: Called now and then.

    Raises:
        InputError: a folder is not a class of the model, or there are no images.
    """
    folder = root / split if (root / split).is_dir() else root
    if folder == root:
        refuse_split(root, split)
    ids = class_of_folder(folder, info.class_names)
    images: list[tuple[Path, int]] = []
    faults = _renamed(folder, ids, info)
    for name in sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        if name not in ids:
            splits = folder == root and name in SPLITS
            raise InputError(
                "is not a class of the model", subject=str(folder / name),
                expected=", ".join(info.class_names[:6]) + (", …" if len(info.class_names) > 6 else ""),
                hint=f"there is no folder '{split}' beside it; choose another split" if splits else None,
            )  # fmt: skip
        images += [(path, ids[name]) for path in _images(folder / name)]
        if len(images) > MAX_IMAGES:
            raise InputError("has too many images", subject=str(folder), expected=f"at most {MAX_IMAGES:,}")
    if not images:
        raise InputError(
            "has no images", subject=str(folder), expected="a folder of images for each class: CLASS/1.jpg"
        )
    samples: list[Sample] = []
    for (path, class_id), size in zip(images, scanned(images, _size, on_progress), strict=True):
        if isinstance(size, ImageError):
            faults.append(Fault(path, None, size.problem, "image left out"))
        else:
            samples.append(Sample(path, path.relative_to(folder).as_posix(), size, class_id=class_id))
    name = f"{root} ({split})" if folder != root else str(root)
    return Dataset(
        name, "folders", "classify", info.class_names, tuple(samples), tuple(faults), len(images) - len(samples)
    )


def _renamed(folder: Path, ids: dict[str, int], info: ModelInfo) -> list[Fault]:
    """What is to be said if folders count in the order of their names.

    Raises:
        InputError: that cannot be right, because one has the name of another class but for upper and lower case.
    """
    names = list(ids)
    if not set(names).isdisjoint(info.class_names):
        return []
    if (place := misplaced_class(names, info.class_names)) is not None:
        raise InputError(
            "is not at the position of its class", subject=str(folder / names[place]),
            expected=f"class {place} {info.class_names[place]!r}", hint="give folders the exact names of the classes",
        )  # fmt: skip
    some = f"{names[0]!r} is class 0, {info.class_names[0]!r}"
    return [Fault(folder, None, f"no folder has the name of a class, so they count in their order: {some}", "kept")]


def _images(folder: Path) -> list[Path]:
    try:
        names = [
            entry.path
            for entry in walk_folder(folder)
            if entry.kind == "file" and os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
        ]
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error
    return [Path(name) for name in sorted(names)]


def _size(image: tuple[Path, int]) -> tuple[int, int] | ImageError:
    try:
        return image_size(image[0])
    except ImageError as error:
        return error
