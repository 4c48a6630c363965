"""Labels as YOLO trainings keep them: a text file for each image, a line for each object."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import decoded, read_if_there
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.images import image_size

if TYPE_CHECKING:
    from collections.abc import Sequence


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
MAX_OBJECTS: Final = 10_000
"""Of one image; the densest data sets have some thousand."""
MAX_CLASS_ID: Final = 99_999
EXPECTED: Final = "class cx cy w h, the class a whole number and the rest from 0 to 1"

_NUMBER: Final = r"[+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?"
_LINE: Final = re.compile(r"\s*(\d{1,9})(?:\.0{0,9})?" + rf"\s+({_NUMBER})" * 4 + r"\s*", re.A)
"""Some tools write the class as ``2.0``, which trainings take."""


def read_labels(folder: Path, images: Sequence[Path]) -> list[Truth]:
    """Read what is in each of some images.

    Args:
        folder: Holds the labels; `label_paths` says which file belongs to which image.
        images: Read for their sizes only, which stand in their headers.

    Raises:
        InputError: a line is not a label, or the files in the folder cannot be assigned to the images without doubt.
        ImageError: an image cannot be read.
    """
    paths = label_paths(folder, images)
    return [read_label(path, image) for path, image in zip(paths, images, strict=True)]


def read_label(path: Path, image: Path) -> Truth:
    """Read what is in an image.

    Args:
        path: Lines ``class cx cy w h``, the last four in [0, 1] of the image's width and height. If there is no such
            file, nothing is in the image: trainings take it so.
        image: Its header is read for its size.

    Raises:
        InputError: a line is not of that form, or there are more than `MAX_OBJECTS`; the line is named.
        ImageError: the image cannot be read.
    """
    data = read_if_there(path, MAX_BYTES, error=InputError, wanted="a label file")
    text = "" if data is None else decoded(data, error=InputError, subject=str(path))
    table = np.array(_rows(text, path), np.float64).reshape(-1, 5)
    height, width = image_size(image)
    half = table[:, 3:] / 2
    boxes = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1) * [width, height, width, height]
    return Truth(boxes, table[:, 0].astype(np.int64), str(path))


def _rows(text: str, path: Path) -> list[tuple[int, float, float, float, float]]:
    rows: list[tuple[int, float, float, float, float]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _wrong(path, number, line)
        class_id = int(match[1])
        center_x, center_y, width, height = (float(match[place]) for place in (2, 3, 4, 5))
        if class_id > MAX_CLASS_ID or not all(0 <= value <= 1 for value in (center_x, center_y, width, height)):
            raise _wrong(path, number, line)
        if len(rows) == MAX_OBJECTS:
            raise InputError("has too many labels", subject=str(path), expected=f"at most {MAX_OBJECTS:,} an image")
        rows.append((class_id, center_x, center_y, width, height))
    return rows


def _wrong(path: Path, number: int, line: str) -> InputError:
    words = line[:10_000].split()
    polygon = len(words) >= 7 and len(words) % 2 == 1
    return InputError(
        "is not a label",
        subject=f"{path}, line {number}",
        expected=EXPECTED,
        got=repr(line[:60]),
        hint="this looks like the outline of a segmentation: convert it to a box" if polygon else None,
    )
