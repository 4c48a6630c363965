"""Datasets with YOLO label files: what a ``data.yaml`` names, a list file, or a folder of images.

The label file of ``…/images/val/a.jpg`` is ``…/labels/val/a.txt``: the last folder ``images`` of the path becomes
``labels``. Without such a folder, labels lie beside the images.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.text import shortened
from yoloship._util.yaml_file import read_yaml
from yoloship.datasets.classes import names_of
from yoloship.datasets.dataset import SPLITS, Dataset, Fault, Sample, name_below
from yoloship.datasets.image_list import images_of
from yoloship.datasets.label_file import LabelFile, read_label_file
from yoloship.datasets.pictures import Picture, look_at
from yoloship.datasets.scan import scanned
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship._util.text import OnProgress
    from yoloship.evaluate.label_lines import LabelLines
    from yoloship.model import ModelInfo


_MAX_PLACES: Final = 1000
_IMAGES, _LABELS = (f"{os.sep}{name}{os.sep}" for name in ("images", "labels"))


@dataclass(frozen=True, slots=True)
class YoloFiles:
    """Where the images of a split are.

    Attributes:
        name: What to call the dataset.
        root: Its folder; names of samples are paths below it.
        images: Absolute paths, sorted.
        class_names: By class id; empty if the dataset names none.
        faults: What was wrong on the way.
    """

    name: str
    root: Path
    images: Sequence[Path]
    class_names: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def files_of_yaml(path: Path, split: str) -> YoloFiles:
    """What a ``data.yaml`` says of a split.

    ``path:`` is taken from the folder of the file, and the split from there. (YOLOv5 takes it from the folder of its
    own source code.)

    Args:
        path: The file; untrusted. A ``download:`` in it is never followed.
        split: ``val``, ``test`` or ``train``.

    Raises:
        InputError: a field is missing or wrong, or the images cannot be found.
    """
    data = read_yaml(path, wanted="the description of a dataset", as_text=("names",))
    names = names_of(data.get("names"), str(path))
    given = data.get("path")
    if not isinstance(given, str | None):
        raise InputError("path is not text", subject=str(path), got=shortened(repr(given), 40))
    root = path.absolute().parent / (given or "")
    wanted = data.get(split)
    if wanted is None or wanted == "":
        there = [name for name in SPLITS if data.get(name)]
        raise InputError(
            f"names no {split} images", subject=str(path), expected=f"a line '{split}: …'",
            got=", ".join(there) or "no split", hint="choose another split (--split)" if there else None,
        )  # fmt: skip
    places = wanted if isinstance(wanted, list) else [wanted]
    if not 1 <= len(places) <= _MAX_PLACES or not all(isinstance(place, str) and place for place in places):
        raise InputError(
            f"{split} is not a path or a list of paths", subject=str(path), got=shortened(repr(wanted), 60)
        )
    faults: list[Fault] = []
    found = [_place(place, root, path, split, faults) for place in places]
    images, more = images_of(found, root)
    return YoloFiles(f"{path} ({split})", Path(os.path.normpath(root)), images, names, (*faults, *more))


def files_of_place(path: Path) -> YoloFiles:
    """The images of a folder, or of a list file, without names of classes."""
    place = path.absolute()
    root = place if place.is_dir() else place.parent
    images, faults = images_of([place], root)
    return YoloFiles(str(path), root, images, (), tuple(faults))


def _place(name: str, root: Path, path: Path, split: str, faults: list[Fault]) -> Path:
    """The folder or list of a split. Some exports begin with ``../`` although they mean the folder itself."""
    place = root / name
    if place.exists():
        return place
    if name.startswith("../") and (other := root / name[3:]).exists():
        faults.append(Fault(path, None, f"{split}: {name} does not exist, and {name[3:]} was taken", "kept"))
        return other
    raise InputError(
        f"{split}: no such folder or list", subject=str(path), got=os.path.normpath(place),
        hint="'path:' is relative to the folder of this file, and the splits are relative to 'path:'",
    )  # fmt: skip


def label_path(image: Path) -> Path:
    """The label file of an image whose path is absolute."""
    before, inside, after = str(image).rpartition(_IMAGES)
    return Path(f"{before}{_LABELS}{after}" if inside else after).with_suffix(".txt")


def read_yolo(files: YoloFiles, form: LabelLines, info: ModelInfo, on_progress: OnProgress | None = None) -> Dataset:
    """Read the labels of all images, and look at the images.

    Args:
        files: The images.
        form: What a row of a label file holds.
        info: The model. Its class names are taken if the dataset has none.
        on_progress: Called now and then.

    Raises:
        InputError: a label has a class without a name, or a fractional one; or no image has a label file.
    """
    names = files.class_names or info.class_names
    samples: list[Sample] = []
    faults = list(files.faults)
    left_out = missing = empty = duplicates = 0
    read = partial(_read, form=form, class_names=names)
    for image, (picture, labels) in zip(files.images, scanned(files.images, read, on_progress), strict=True):
        if picture.problem:
            faults.append(Fault(image, None, picture.problem, "image left out"))
        elif picture.remark:
            faults.append(Fault(image, None, picture.remark, "kept"))
        if labels is not None:
            faults += labels.faults
        if labels is None or labels.truth is None:
            left_out += 1
            continue
        missing += labels.is_missing
        empty += labels.is_empty
        duplicates += labels.duplicates
        samples.append(Sample(image, name_below(image, files.root), picture.image_hw, labels.truth))
    if samples and missing == len(samples):
        raise InputError(
            "no image has a label file", subject=files.name, expected=f"{label_path(samples[0].path)} and so on",
            hint="the last folder 'images' of a path becomes 'labels'",
        )  # fmt: skip
    return Dataset(
        files.name, "yolo", info.task, names, tuple(samples), tuple(faults), left_out, missing, empty, duplicates
    )


def _read(image: Path, form: LabelLines, class_names: Sequence[str]) -> tuple[Picture, LabelFile | None]:
    picture = look_at(image)
    if picture.problem:
        return picture, None
    return picture, read_label_file(label_path(image), picture.image_hw, form, class_names)
