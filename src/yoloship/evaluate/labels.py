"""Labels as YOLO trainings keep them: a text file beside each picture, a line for each object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import decoded, read_if_there
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.images import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES: Final = 1 << 24


def read_labels(folder: Path, pictures: Sequence[Path]) -> list[Truth]:
    """Read what is in each of some pictures from NAME.txt in a folder; see `read_label`.

    Raises:
        InputError: a line is none of a label, or none of the pictures has a file there.
        ImageError: a picture cannot be read.
    """
    paths = [folder / f"{picture.stem}.txt" for picture in pictures]
    if not any(path.exists() for path in paths):
        raise InputError(
            "holds no labels of these pictures",
            subject=str(folder),
            expected=f"{paths[0].name} and so on" if paths else "pictures",
        )
    return [read_label(path, picture) for path, picture in zip(paths, pictures, strict=True)]


def read_label(path: Path, picture: Path) -> Truth:
    """Read what is in a picture.

    Args:
        path: Lines ``class cx cy w h``, the last four in [0, 1] of the picture's width and height. Where there is no
            such file, nothing is in the picture, as trainings take it.
        picture: Read for its size.

    Raises:
        InputError: a line is not of that form; its number is named.
        ImageError: the picture cannot be read.
    """
    rows = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            class_id, numbers = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            class_id, numbers = -1, []
        if class_id < 0 or len(numbers) != 4 or not all(math.isfinite(x) and 0 <= x <= 1 for x in numbers):
            raise InputError(
                "is no label", subject=f"{path}, line {number}", expected="class cx cy w h, the last four from 0 to 1",
                got=repr(line[:60]),
            )  # fmt: skip
        rows.append((class_id, *numbers))
    height, width = read_image(picture).shape[:2]
    table = np.array(rows, np.float64).reshape(-1, 5)
    half = table[:, 3:] / 2
    boxes = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1) * [width, height, width, height]
    return Truth(boxes, table[:, 0].astype(np.int64))


def _lines(path: Path) -> list[str]:
    data = read_if_there(path, MAX_BYTES, error=InputError, wanted="a label file")
    return [] if data is None else decoded(data, error=InputError, subject=str(path)).splitlines()
