"""Datasets in COCO's form: one JSON file with images, categories and annotations, for boxes, masks and keypoints.

Source: https://cocodataset.org/#format-data, sections 1 and 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from yoloship._util.fields import is_int
from yoloship._util.reading import read_bounded
from yoloship._util.text import counted, shortened
from yoloship.datasets.classes import ids_by_name
from yoloship.datasets.coco_objects import CocoObject, Wanted, read_object, truth_of
from yoloship.datasets.dataset import Dataset, Fault, Sample
from yoloship.datasets.label_form import overlap_of
from yoloship.datasets.pictures import look_at
from yoloship.datasets.scan import scanned
from yoloship.errors import InputError
from yoloship.evaluate.label_lines import MAX_OBJECTS
from yoloship.model import MAX_CLASSES, is_name
from yoloship.sources.finding import MAX_IMAGES

if TYPE_CHECKING:
    from yoloship._util.text import OnProgress
    from yoloship.model import ModelInfo


MAX_BYTES: Final = 1 << 30
_MAX_DECODED_BYTES: Final = 4 << 30
_COSTS: Final = ((b"{", 250), (b"[", 64), (b",", 40))
"""What an object, a list and an entry of either take in Python, in bytes."""
_MAX_ID: Final = 1 << 62
_MAX_ID_CHARS: Final = 1000
_OVERLAPS: Final = frozenset({"boxes", "masks", "keypoints"})


@dataclass(frozen=True, slots=True)
class _Image:
    """An entry of ``images``."""

    image_id: int | str
    name: str
    hw: tuple[int, int]


def read_coco(
    path: Path, info: ModelInfo, images: Path | None = None, on_progress: OnProgress | None = None
) -> Dataset:
    """Read the objects of all images.

    Args:
        path: The file; untrusted.
        info: The model: its task says what is read of each annotation. Categories are its classes by their names; if
            none has the name of one, they count in the order of their ids.
        images: The folder that the names of images start from; None looks where they usually are.
        on_progress: Called now and then.

    Raises:
        InputError: the file is not of that form, the images are not found, or a category is not one of the model's.
    """
    overlap = overlap_of(info)
    if overlap not in _OVERLAPS:
        raise InputError(
            f"is in COCO format, which is not read for the task {info.task!r}", subject=str(path),
            expected="a model for boxes, masks or keypoints", hint="give a dataset with YOLO labels",
        )  # fmt: skip
    wanted = Wanted(overlap, 0 if info.keypoint_shape is None else info.keypoint_shape[0])
    data = _document(path)
    listed = _images(data, path)
    id_of, names = _categories(data, path, info)
    category_of = {class_id: category for category, class_id in id_of.items()}
    objects = _objects(data, path, {image.image_id: image for image in listed}, id_of, wanted)
    folder = images or _folder(path, listed[0].name)
    samples: list[Sample] = []
    faults = _repeated(data, path)
    files = [folder / image.name for image in listed]
    empty = 0
    for image, file, picture in zip(listed, files, scanned(files, look_at, on_progress), strict=True):
        problem = picture.problem
        if not problem and picture.image_hw != image.hw:
            (height, width), (stated_h, stated_w) = picture.image_hw, image.hw
            problem = f"has {width}×{height} pixels, and the dataset says {stated_w}×{stated_h}"
        if problem:
            faults.append(Fault(file, None, problem, "image left out"))
            continue
        if picture.remark:
            faults.append(Fault(file, None, picture.remark, "kept"))
        own = objects.get(image.image_id, [])
        empty += not own
        truth = truth_of(own, wanted, str(path))
        samples.append(Sample(file, image.name, image.hw, truth, image_id=image.image_id))
    faults.sort(key=lambda fault: str(fault.path))
    samples.sort(key=lambda sample: sample.name)
    return Dataset(
        str(path), "coco", info.task, names, tuple(samples), tuple(faults), len(listed) - len(samples),
        empty_labels=empty, category_ids=tuple(category_of.get(class_id) for class_id in range(len(names))),
    )  # fmt: skip


def _document(path: Path) -> dict[str, Any]:
    data = read_bounded(path, MAX_BYTES, error=InputError, wanted="a dataset in COCO format")
    cost = sum(data.count(letter) * size for letter, size in _COSTS)
    if cost > _MAX_DECODED_BYTES:
        raise InputError(
            "would take too much memory", subject=str(path), expected=f"at most {_MAX_DECODED_BYTES >> 30} GB",
            got=f"about {cost >> 30} GB", hint="split it into files of fewer images",
        )  # fmt: skip
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as failure:
        raise InputError("is not JSON", subject=str(path), got=shortened(str(failure), 100)) from failure
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(
            "is not a dataset in COCO format", subject=str(path),
            expected="an object with the lists images, annotations and categories",
            hint="results (a list of detections) are not a dataset" if isinstance(document, list) else None,
        )  # fmt: skip
    return document


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _entry(entry: object, key: str, place: int, path: Path) -> dict[str, Any]:
    if not isinstance(entry, dict) or not _is_id(entry.get("id")):
        raise InputError(f"{key}[{place}] has no id", subject=str(path), expected="a whole number, or a text")
    return entry


def _is_id(value: object) -> TypeGuard[int | str]:
    """Whether a value can be an id: a number as COCO has it, or a text as some tools write it."""
    return is_int(value, 0, _MAX_ID) or (isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS)


def _images(data: dict[str, Any], path: Path) -> list[_Image]:
    entries = data["images"]
    if not 1 <= len(entries) <= MAX_IMAGES:
        raise InputError("has no images" if not entries else "has too many images", subject=str(path))
    found: dict[int | str, _Image] = {}
    names: set[str] = set()
    for place, item in enumerate(entries):
        entry = _entry(item, "images", place, path)
        name: Any = entry.get("file_name")
        size: Any = (entry.get("height"), entry.get("width"))
        wrong = partial(InputError, subject=str(path))
        if not _is_inside(name):
            raise wrong(
                f"images[{place}] has no file name below the images' folder", got=shortened(repr(name), 60),
                expected="a relative path without '..'",
            )  # fmt: skip
        if not all(is_int(side, 1, 1 << 20) for side in size):
            raise wrong(f"images[{place}] has no size", expected="height and width", got=shortened(repr(size)))
        if entry["id"] in found or name in names:
            raise wrong(f"images[{place}] repeats an id or a file name", got=shortened(f"{entry['id']}, {name}", 80))
        names.add(name)
        found[entry["id"]] = _Image(entry["id"], name, size)
    return list(found.values())


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= 4096 or "\0" in name:
        return False
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def _categories(data: dict[str, Any], path: Path, info: ModelInfo) -> tuple[dict[int | str, int], tuple[str, ...]]:
    entries = data["categories"]
    if not 1 <= len(entries) <= MAX_CLASSES:
        raise InputError("has no categories, or too many", subject=str(path), expected=f"1 to {MAX_CLASSES:,}")
    found: dict[int | str, str] = {}
    for place, item in enumerate(entries):
        entry = _entry(item, "categories", place, path)
        if not is_name(entry.get("name")) or entry["id"] in found:
            raise InputError(f"categories[{place}] has no name, or repeats an id", subject=str(path))
        found[entry["id"]] = entry["name"]
    ordered = sorted(found, key=lambda one: (isinstance(one, str), one))
    ids, names = ids_by_name([found[one] for one in ordered], info, str(path))
    return dict(zip(ordered, ids, strict=True)), names


def _objects(
    data: dict[str, Any], path: Path, images: dict[int | str, _Image], id_of: dict[int | str, int], wanted: Wanted
) -> dict[int | str, list[CocoObject]]:
    found: dict[int | str, list[CocoObject]] = {}
    item: Any
    for place, item in enumerate(data["annotations"]):
        subject = f"{path}: annotations[{place}]"
        number: Any = item.get("image_id") if isinstance(item, dict) else None
        image = images.get(number) if _is_id(number) else None
        if image is None:
            raise InputError("belongs to no image", subject=subject, expected="the image_id of one of its images")
        category = item.get("category_id")
        if not _is_id(category) or category not in id_of:
            raise InputError(
                "has a category that is not listed", subject=subject, expected="the id of one of its categories",
                got=shortened(repr(category)),
            )  # fmt: skip
        own = found.setdefault(image.image_id, [])
        if len(own) >= MAX_OBJECTS:
            raise InputError(
                "has too many annotations", subject=image.name, expected=f"at most {MAX_OBJECTS:,} an image"
            )
        own.append(read_object(item, id_of[category], image.hw, wanted, subject))
    return found


def _repeated(data: dict[str, Any], path: Path) -> list[Fault]:
    """A fault if annotations have the id of another: pycocotools takes one of them for all."""
    ids = [item["id"] for item in data["annotations"] if _is_id(item.get("id"))]
    count = len(ids) - len(set(ids))
    what = f"{counted(count, 'annotation')} with the id of another one; pycocotools would use the last of them for all"
    return [Fault(path, None, what, "kept")] if count else []


def _folder(path: Path, name: str) -> Path:
    """The folder of the images: beside the file, or in the usual places beside its own folder."""
    here = path.absolute().parent
    part = path.stem.rpartition("_")[2]
    candidates = [
        folder / more
        for folder in (here, here.parent)
        for more in ("", "images", part, f"images/{part}", "images/val", "val", "val2017", "data")
    ]
    for candidate in candidates:
        if (candidate / name).is_file():
            return candidate
    raise InputError(
        f"its images are not found: {shortened(name, 80)!r} is not in {here}, nor in the usual folders around it",
        subject=str(path), hint="name their folder with --images (images in Python)",
    )  # fmt: skip
