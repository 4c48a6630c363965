"""Datasets in Pascal VOC's form: an XML file for each image, in ``Annotations``, and the images in ``JPEGImages``.

Boxes count pixels from 1 and include their last one, as the VOC development kit says, so a box from 1 to 10 is 10
pixels wide and begins at 0. Objects that are marked as difficult are treated as crowds: they are neither missed nor
wrong.

Source: The PASCAL Visual Object Classes Challenge 2012 Development Kit, section 5 (annotation guidelines and format).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import read_bounded, read_text
from yoloship._util.text import shortened
from yoloship.datasets.classes import ids_by_name
from yoloship.datasets.dataset import Dataset, Fault, Sample, name_below, refuse_split
from yoloship.datasets.label_form import overlap_of
from yoloship.datasets.pictures import Picture, look_at
from yoloship.datasets.scan import scanned
from yoloship.datasets.xml_file import Element, parse_xml
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.label_lines import MAX_OBJECTS
from yoloship.model import MAX_CLASSES
from yoloship.sources.finding import MAX_IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship._util.text import OnProgress
    from yoloship.model import ModelInfo


_MAX_XML_BYTES: Final = 1 << 24
_MAX_LIST_BYTES: Final = 1 << 28
_MAX_NUMBER: Final = 1e6
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    name: str
    box_xyxy: tuple[float, ...]
    difficult: bool
    line: int


def read_voc(root: Path, split: str, info: ModelInfo, on_progress: OnProgress | None = None) -> Dataset:
    """Read the boxes of all images.

    Args:
        root: Has ``Annotations`` and ``JPEGImages``; and ``ImageSets/Main/SPLIT.txt``, which lists the images of a
            split. Without that folder, all are taken.
        split: ``val``, ``test`` or ``train``.
        info: The model. Classes are its classes by their names; if none has the name of one, they count in the order
            of their names.
        on_progress: Called now and then.

    Raises:
        InputError: the model is not for boxes, a file is not such an annotation, or a class is not one of the model's.
    """
    if overlap_of(info) != "boxes":
        raise InputError(
            f"has boxes only, and the model is for the task {info.task!r}", subject=str(root),
            expected="a detection model", hint="give a dataset with YOLO labels, or in COCO format",
        )  # fmt: skip
    stems = _stems(root, split)
    files: list[tuple[str, Picture, tuple[_Object, ...] | None, Path]] = []
    for stem, (path, picture, objects) in zip(stems, scanned(stems, partial(_read, root), on_progress), strict=True):
        files.append((stem, picture, objects, path))
    named = sorted({one.name for _, _, objects, _ in files for one in objects or ()})
    if not named or len(named) > MAX_CLASSES:
        raise InputError("has no objects" if not named else "has too many classes", subject=str(root))
    ids, names = ids_by_name(named, info, str(root))
    id_of = dict(zip(named, ids, strict=True))
    samples: list[Sample] = []
    faults: list[Fault] = []
    missing = empty = 0
    for stem, picture, objects, path in files:
        if picture.problem:
            faults.append(Fault(path, None, picture.problem, "image left out"))
            continue
        if picture.remark:
            faults.append(Fault(path, None, picture.remark, "kept"))
        missing += objects is None
        empty += objects == ()
        source = root / "Annotations" / f"{stem}.xml"
        kept = _inside(objects or (), picture.image_hw, source, faults)
        samples.append(Sample(path, name_below(path, root), picture.image_hw, _truth(kept, id_of, source)))
    left_out = len(files) - len(samples)
    name = f"{root} ({split})"
    return Dataset(name, "voc", info.task, names, tuple(samples), tuple(faults), left_out, missing, empty)


def _stems(root: Path, split: str) -> list[str]:
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    if (root / "ImageSets" / "Main").is_dir():
        text = read_text(listed, _MAX_LIST_BYTES, error=InputError, wanted="a list of images")
        stems = [line.split()[0] for line in text.splitlines() if line.strip()]
        wrong = next((stem for stem in stems if os.path.basename(stem) != stem or "\0" in stem), None)  # noqa: PTH119
        if wrong is not None:
            raise InputError("is not the name of an image", subject=str(listed), got=repr(wrong[:60]))
    else:
        refuse_split(root, split)
        stems = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    if not stems or len(stems) > MAX_IMAGES:
        raise InputError(
            "has no images" if not stems else "has too many images", subject=str(root), expected="Annotations/*.xml"
        )
    return list(dict.fromkeys(stems))


def _read(root: Path, stem: str) -> tuple[Path, Picture, tuple[_Object, ...] | None]:
    """The image, what it is, and its objects; None if it has no annotation."""
    source = root / "Annotations" / f"{stem}.xml"
    name, objects = "", None
    if source.exists():
        data = read_bounded(source, _MAX_XML_BYTES, error=InputError, wanted="an annotation")
        tree = parse_xml(data, subject=str(source))
        if tree.name != "annotation":
            raise InputError("is not an annotation", subject=str(source), got=f"<{shortened(tree.name, 40)}>")
        name = os.path.basename(tree.text_of("filename").replace("\\", "/"))  # noqa: PTH119 - tools write whole paths
        found = [child for child in tree.children if child.name == "object"]
        if len(found) > MAX_OBJECTS:
            raise InputError("has too many objects", subject=str(source), expected=f"at most {MAX_OBJECTS:,} an image")
        objects = tuple(_object(child, str(source)) for child in found)
    path = _image(root / "JPEGImages", stem, name)
    return path, look_at(path), objects


def _image(folder: Path, stem: str, name: str) -> Path:
    """The image of an annotation: of its own name, else the one that the annotation states."""
    for candidate in (f"{stem}.jpg", f"{stem}.jpeg", f"{stem}.png", f"{stem}.JPG", name):
        if candidate and "\0" not in candidate and (folder / candidate).exists():
            return folder / candidate
    return folder / f"{stem}.jpg"


def _object(element: Element, source: str) -> _Object:
    place = f"{source}, line {element.line}"
    name, box = element.text_of("name"), element.child("bndbox")
    if not name or box is None:
        raise InputError("is an object without a name or a box", subject=place, expected="<name> and <bndbox>")
    values = []
    for corner in _CORNERS:
        text = box.text_of(corner)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) <= _MAX_NUMBER or "_" in text:
            raise InputError(
                f"{corner} is not a number of pixels", subject=f"{source}, line {box.line}", got=repr(text[:40])
            )
        values.append(value)
    return _Object(name, (values[0] - 1, values[1] - 1, *values[2:]), element.text_of("difficult") == "1", element.line)


def _inside(
    objects: tuple[_Object, ...], image_hw: tuple[int, int], source: Path, faults: list[Fault]
) -> list[_Object]:
    """The objects whose boxes have a part inside the image; the others are said and dropped."""
    height, width = image_hw
    kept = []
    for one in objects:
        x1, y1, x2, y2 = one.box_xyxy
        if min(x2, width) > max(x1, 0) and min(y2, height) > max(y1, 0):
            kept.append(one)
        else:
            faults.append(Fault(source, one.line, "the box has no part inside the image", "object dropped"))
    return kept


def _truth(objects: list[_Object], id_of: dict[str, int], source: Path) -> Truth:
    return Truth(
        np.array([one.box_xyxy for one in objects], np.float64).reshape(-1, 4),
        np.array([id_of[one.name] for one in objects], np.int64),
        str(source),
        crowd=np.array([one.difficult for one in objects], bool),
    )
