"""What a line of a YOLO label file holds, for each task: `LabelLines`.

All numbers but the class and the visibility are shares of the image's width and height, from 0 to 1.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]


MAX_OBJECTS: Final = 10_000
"""Of one image; the densest data sets have some thousand."""
MAX_CLASS_ID: Final = 99_999
_CLASS: Final = re.compile(r"(\d{1,9})(?:\.0{0,9})?", re.A)
"""Some tools write the class as ``2.0``, which trainings take."""
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?", re.A)
_SPACES: Final = " \t\r\v\f"
_SPACE: Final = re.compile(f"[{_SPACES}]+")
_VISIBILITIES: Final = (0, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A line that holds numbers.

    Attributes:
        class_text: The first of them, as it is written.
        numbers: (k,) float64, finite: the others.
    """

    class_text: str
    numbers: Numbers


def read_row(line: str) -> Row | None:
    """Split a line that is not empty into its numbers; None if something in it is not a finite number."""
    words = _SPACE.split(line.strip(_SPACES))
    if not all(map(_NUMBER.fullmatch, words)):
        return None
    numbers = np.array(words[1:], np.float64)
    return Row(words[0], numbers) if np.isfinite(numbers).all() else None


def is_class(text: str) -> bool:
    """Whether a number is written as a class: a whole number without a sign, up to `MAX_CLASS_ID`."""
    match = _CLASS.fullmatch(text)
    return match is not None and int(match[1]) <= MAX_CLASS_ID


class LabelLines(ABC):
    """The form of the lines of a label file.

    Attributes:
        expected: A line, for messages.
    """

    expected: str

    @abstractmethod
    def is_line(self, numbers: Numbers) -> bool:
        """Whether these are the numbers after the class of a line of this form; they are finite."""

    @abstractmethod
    def objects(self, rows: Sequence[Numbers], class_ids: npt.NDArray[np.int64], scale: Numbers, source: str) -> Truth:
        """The objects of an image.

        Args:
            rows: The numbers of each line.
            class_ids: (n,) int64: its classes.
            scale: (2,): the image's width and height in pixels.
            source: The file.
        """

    def truth(self, text: str, image_hw: tuple[int, int], source: str) -> Truth:
        """Read a label file.

        Args:
            text: Its contents; untrusted.
            image_hw: (height, width) of the image in pixels.
            source: The file, for messages.

        Raises:
            InputError: a line is not of this form, or there are more than `MAX_OBJECTS`; the line is named.
        """
        rows: list[Numbers] = []
        class_ids: list[int] = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line or line.isspace():
                continue
            row = read_row(line)
            if row is None or not is_class(row.class_text) or not self.is_line(row.numbers):
                raise self._wrong(source, number, line)
            numbers = row.numbers
            if len(rows) == MAX_OBJECTS:
                raise InputError("has too many labels", subject=source, expected=f"at most {MAX_OBJECTS:,} an image")
            rows.append(numbers)
            class_ids.append(int(row.class_text.partition(".")[0]))
        scale = np.array(image_hw[::-1], np.float64)
        return self.objects(rows, np.array(class_ids, np.int64), scale, source)

    def hint(self, count: int) -> str | None:
        """What a line with this many numbers after its class may be instead, and what to do."""
        if count == 4:
            return "this looks like a detection label, which has less than a label for this model"
        return None

    def _wrong(self, source: str, number: int, line: str) -> InputError:
        count = len(line[:10_000].split()) - 1
        return InputError(
            "is not a label", subject=f"{source}, line {number}", expected=self.expected, got=repr(line[:60]),
            hint=self.hint(count),
        )  # fmt: skip


class BoxLines(LabelLines):
    """``class cx cy w h``."""

    expected = "class cx cy w h, the class a whole number and the rest from 0 to 1"

    def is_line(self, numbers: Numbers) -> bool:
        """Whether there are four shares."""
        return len(numbers) == 4 and _are_shares(numbers)

    def objects(self, rows: Sequence[Numbers], class_ids: npt.NDArray[np.int64], scale: Numbers, source: str) -> Truth:
        """Boxes."""
        return Truth(_corners(_table(rows, 4), scale), class_ids, source)

    def hint(self, count: int) -> str | None:
        """Outlines have an even number of shares."""
        if count >= 6 and count % 2 == 0:
            return "this looks like the outline of a segmentation: convert it to a box"
        return None


class OutlineLines(LabelLines):
    """``class x1 y1 x2 y2 x3 y3 …``: the outline of an object."""

    expected = "class x1 y1 x2 y2 x3 y3 …, three points or more, all from 0 to 1"

    def is_line(self, numbers: Numbers) -> bool:
        """Whether there are three points or more."""
        return len(numbers) >= 6 and len(numbers) % 2 == 0 and _are_shares(numbers)

    def objects(self, rows: Sequence[Numbers], class_ids: npt.NDArray[np.int64], scale: Numbers, source: str) -> Truth:
        """Outlines, and the box around each."""
        outlines = tuple(row.reshape(-1, 2) * scale for row in rows)
        boxes = [np.concatenate([outline.min(axis=0), outline.max(axis=0)]) for outline in outlines]
        return Truth(_table(boxes, 4), class_ids, source, polygons=outlines)


class KeypointLines(LabelLines):
    """``class cx cy w h x1 y1 v1 …``, or the points without their visibility.

    Args:
        count: How many points an object has.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.expected = (
            f"class cx cy w h, and {count} keypoints as x y or as x y v; the visibility v is 0, 1 or 2, the rest from "
            "0 to 1"
        )

    def is_line(self, numbers: Numbers) -> bool:
        """Whether there are a box and all points."""
        if len(numbers) not in {4 + 2 * self._count, 4 + 3 * self._count}:
            return False
        points = numbers[4:].reshape(self._count, -1)
        return (
            _are_shares(numbers[:4])
            and _are_shares(points[:, :2])
            and bool(np.isin(points[:, 2:], _VISIBILITIES).all())
        )

    def objects(self, rows: Sequence[Numbers], class_ids: npt.NDArray[np.int64], scale: Numbers, source: str) -> Truth:
        """Boxes with their points. Without a visibility, a point at 0 0 is not labelled, as conversions write it."""
        points = np.ones((len(rows), self._count, 3))
        for place, row in enumerate(rows):
            given = row[4:].reshape(self._count, -1)
            points[place, :, :2] = given[:, :2] * scale
            points[place, :, 2] = given[:, 2] if given.shape[1] == 3 else given[:, :2].any(axis=1)
        boxes = _corners(_table([row[:4] for row in rows], 4), scale)
        return Truth(boxes, class_ids, source, keypoints=points)


class CornerLines(LabelLines):
    """``class x1 y1 x2 y2 x3 y3 x4 y4``: the corners of an oriented box."""

    expected = "class x1 y1 x2 y2 x3 y3 x4 y4, the corners of an oriented box, all from 0 to 1"

    def is_line(self, numbers: Numbers) -> bool:
        """Whether there are four points."""
        return len(numbers) == 8 and _are_shares(numbers)

    def objects(self, rows: Sequence[Numbers], class_ids: npt.NDArray[np.int64], scale: Numbers, source: str) -> Truth:
        """Of each four corners the smallest oriented box around them, as trainings take it."""
        import cv2

        corners = _table(rows, 8).reshape(-1, 4, 2) * scale
        boxes = np.zeros((len(rows), 5))
        for place, four in enumerate(corners):
            (x, y), (width, height), degrees = cv2.minAreaRect(four.astype(np.float32))
            boxes[place] = x, y, width, height, np.radians(degrees)
        hulls = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return Truth(hulls, class_ids, source, boxes_xywhr=boxes)


BOXES: Final = BoxLines()


def _are_shares(numbers: Numbers) -> bool:
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _table(rows: Sequence[Numbers], columns: int) -> Numbers:
    return np.array(rows, np.float64).reshape(-1, columns)


def _corners(boxes: Numbers, scale: Numbers) -> Numbers:
    """Boxes (n, 4) as centre and size in shares → xyxy in pixels."""
    half = boxes[:, 2:] / 2
    corners: Numbers = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1) * np.tile(scale, 2)
    return corners
