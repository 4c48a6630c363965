"""Labels as YOLO trainings keep them: a text file for each image, a line for each object."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import decoded, read_if_there
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.label_places import label_paths
from yoloship.images import image_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
