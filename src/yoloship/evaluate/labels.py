"""Labels as trainings keep them: a text file for each image with a line for each object, or a folder for each class."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import decoded, read_if_there
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.label_lines import BOXES
from yoloship.images import image_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.detect.detector import Source
    from yoloship.evaluate.label_lines import LabelLines


LEVELS: Final = 4
"""Folders above the images' common one that may be repeated beside the labels: ``labels/train/a`` for ``train/a``."""


def label_paths(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Find the label file of each image.

    Labels lie as the images do (``labels/a/1.txt`` for ``images/a/1.jpg``), or all in one folder (``labels/1.txt``).
    The layout that finds the most files is taken, and it has to explain all of them.

    Args:
        folder: Holds the labels.
        images: In any order.

    Returns:
        A path for each image; it need not exist.

    Raises:
        InputError: there is no label of any of these images, two images would share a file, or images have labels in
            different layouts.
    """
    if not images:
        return []
    layouts = _layouts([Path(os.path.abspath(image)) for image in images])  # noqa: PTH100 - links stay as they are
    candidates = [[folder / name for name in names] for names in layouts]
    counts = [sum(path.exists() for path in paths) for paths in candidates]
    if not any(counts):
        raise InputError(
            "holds no labels of these images", subject=str(folder), expected=f"{candidates[0][0].name} and so on"
        )
    best = counts.index(max(counts))
    _refuse_shared(candidates[best], images)
    _refuse_other_layouts(candidates, best, images)
    return candidates[best]


def _layouts(images: Sequence[Path]) -> list[list[str]]:
    """Names of the label files, by each way to keep them; the most natural way first."""
    try:
        common = Path(os.path.commonpath([image.parent for image in images]))
        roots = [common, *common.parents][: LEVELS + 1]
    except ValueError:  # on several drives
        roots = []
    layouts = [[image.relative_to(root) for image in images] for root in roots]
    layouts.append([Path(image.name) for image in images])
    return [[str(name.with_suffix(".txt")) for name in names] for names in layouts]


def _refuse_shared(paths: Sequence[Path], images: Sequence[Path]) -> None:
    """Two images of one label file, as ``a/1.jpg`` and ``b/1.jpg`` with labels kept by name alone."""
    counts = Counter(paths)
    for path, image in zip(paths, images, strict=True):
        if counts[path] > 1 and path.exists():
            others = [str(other) for own, other in zip(paths, images, strict=True) if own == path and other != image]
            raise InputError(
                "is the label file of several images",
                subject=str(path),
                got=", ".join([str(image), *others][:3]),
                hint="keep labels in folders like those of the images, or give the images other names",
            )


def _refuse_other_layouts(candidates: Sequence[Sequence[Path]], best: int, images: Sequence[Path]) -> None:
    """An image that has a label file only by another layout would count as empty in silence."""
    used = {path for path in candidates[best] if path.exists()}
    for place, image in enumerate(images):
        if candidates[best][place].exists():
            continue
        for paths in candidates:
            if paths[place] not in used and paths[place].exists():
                raise InputError(
                    "belongs to an image, but is not where the other labels are",
                    subject=str(paths[place]),
                    expected=str(candidates[best][place]),
                    hint=f"keep all labels in one layout; the image is {image}",
                )


MAX_BYTES: Final = 1 << 24


def read_labels(folder: Path, images: Sequence[Path], lines: LabelLines = BOXES) -> list[Truth]:
    """Read what is in each of some images.

    Args:
        folder: Holds the labels; `label_paths` says which file belongs to which image.
        images: Read for their sizes only, which stand in their headers.
        lines: What a line holds.

    Raises:
        InputError: a line is not a label, or the files in the folder cannot be assigned to the images without doubt.
        ImageError: an image cannot be read.
    """
    paths = label_paths(folder, images)
    return [read_label(path, image, lines) for path, image in zip(paths, images, strict=True)]


def read_label(path: Path, image: Path, lines: LabelLines = BOXES) -> Truth:
    """Read what is in an image.

    Args:
        path: A line for each object. If there is no such file, nothing is in the image: trainings take it so.
        image: Its header is read for its size.
        lines: What a line holds.

    Raises:
        InputError: a line is not of that form, or there are too many; the line is named.
        ImageError: the image cannot be read.
    """
    data = read_if_there(path, MAX_BYTES, error=InputError, wanted="a label file")
    text = "" if data is None else decoded(data, error=InputError, subject=str(path))
    return lines.truth(text, image_size(image), str(path))


def read_class_folders(folder: Path, images: Sequence[Path], class_names: Sequence[str]) -> list[Truth]:
    """The class of each image, from the folder that it lies in: ``folder/cat/1.jpg`` is a cat.

    A folder has the name of a class. If no folder has, and there are as many folders as classes, they count in the
    order of their names, as torchvision's `ImageFolder` counts them: ImageNet's folders have numbers for names.

    Args:
        folder: Has a folder for each class.
        images: Inside those folders, at any depth. Read for their sizes only.
        class_names: The model's class names, by class id.

    Returns:
        For each image one object, which fills it.

    Raises:
        InputError: an image lies elsewhere, or its folder is not a class.
        ImageError: an image cannot be read.
    """
    ids = class_of_folder(folder, class_names)
    root, truths = Path(os.path.abspath(folder)), []  # noqa: PTH100 - links stay as they are
    for image in images:
        place = Path(os.path.abspath(image))  # noqa: PTH100
        if not place.is_relative_to(root) or place.parent == root:
            raise InputError(
                "does not lie in a folder of its class", subject=str(image), expected=f"{folder}/CLASS/{image.name}",
                hint="for a classification model, the folder of labels has a folder of images for each class",
            )  # fmt: skip
        name = place.relative_to(root).parts[0]
        if name not in ids:
            raise InputError(
                "is not a class of the model", subject=str(folder / name),
                expected=", ".join(class_names[:6]) + (", …" if len(class_names) > 6 else ""),
            )  # fmt: skip
        truths.append(_class_truth(image, ids[name]))
    return truths


def class_of_folder(folder: Path, class_names: Sequence[str]) -> dict[str, int]:
    """The class id of each folder in a folder; names of classes without a folder are in it too.

    Args:
        folder: Has a folder for each class.
        class_names: The model's class names, by class id. If no folder has one of them, and there are as many folders
            as classes, the folders count in the order of their names.

    Raises:
        InputError: the folder cannot be listed.
    """
    ids = {name: index for index, name in enumerate(class_names)}
    try:
        folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", subject=str(folder)) from error
    if not ids.keys() & set(folders) and len(folders) == len(class_names):
        return {name: index for index, name in enumerate(folders)}
    return ids


def truths_in_folders(sources: Sequence[Source], class_names: Sequence[str]) -> list[Truth] | None:
    """The class of each image, if all are files in folders that have the names of classes.

    Args:
        sources: Images, as `Detector.__call__` takes them.
        class_names: By class id.

    Returns:
        As `read_class_folders`; None if an image is not a file, or its folder has another name.
    """
    ids = {name: index for index, name in enumerate(class_names)}
    paths = [Path(source) if isinstance(source, str | Path) else Path() for source in sources]
    if not all(path.parent.name in ids for path in paths):
        return None
    return [_class_truth(path, ids[path.parent.name]) for path in paths]


def _class_truth(image: Path, class_id: int) -> Truth:
    height, width = image_size(image)
    return Truth(np.array([[0, 0, width, height]], np.float64), np.array([class_id], np.int64), str(image))
