"""Label files of a dataset, read as a training reads them: what a training would leave out is left out here too.

One wrong row leaves out the whole image, and a repeated row is dropped, as in YOLOv5. Both are said. Two things that a
training would take, or end in an error without a line, are refused: a class without a name, and a class that is not a
whole number.

Numbers count as float32, as trainings hold them: 1.00000001 is 1, and 0.10 repeats 0.1. For detection, one row of more
than 6 values makes all rows of its file outlines; the box is then what is around each. Points of outlines and corners
may lie outside the image, if the centre and the size of the box around them do not exceed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship._util.reading import read_if_there
from yoloship._util.text import shortened
from yoloship.datasets.dataset import Fault
from yoloship.datasets.outlines import MAX_OUTLINE_PX, is_too_long
from yoloship.errors import InputError
from yoloship.evaluate.label_lines import BOXES, MAX_OBJECTS, CornerLines, OutlineLines, read_row
from yoloship.evaluate.labels import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.evaluate.coco import Truth
    from yoloship.evaluate.label_lines import LabelLines, Numbers


_MARK: Final = b"\xef\xbb\xbf"
_MAX_LINE_CHARS: Final = 1_000_000
_TOO_LONG: Final = f"more than {MAX_OUTLINE_PX:,} pixels"
_BOX_VALUES: Final = 6
"""A row of more makes its file one of outlines."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelFile:
    """What a label file says.

    Attributes:
        truth: The objects; None if the image is left out.
        faults: What is wrong.
        is_missing: Whether there is no such file, so that the image counts as one without objects.
        is_empty: Whether it has no row.
        duplicates: How many rows were dropped because they repeat another.
    """

    truth: Truth | None
    faults: tuple[Fault, ...] = ()
    is_missing: bool = False
    is_empty: bool = False
    duplicates: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    line: int
    class_text: str
    numbers: Numbers


class _LeftOutError(Exception):
    """Why an image is left out: a line, or None for the whole file, and the problem."""

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


def read_label_file(path: Path, image_hw: tuple[int, int], form: LabelLines, class_names: Sequence[str]) -> LabelFile:
    """Read the labels of an image.

    Args:
        path: The file; untrusted.
        image_hw: (height, width) of the image in source pixels.
        form: What a row holds.
        class_names: By class id.

    Raises:
        InputError: a class has no name or is not a whole number, the file is too long or cannot be read.
    """
    data = read_if_there(path, MAX_BYTES, error=InputError, wanted="a label file")
    if data is None:
        return LabelFile(form.truth("", image_hw, str(path)), is_missing=True)
    try:
        rows = _rows(data, path)
        rows = _as_boxes(rows) if form is BOXES else rows
        for row in rows:
            _check(row, form)
    except _LeftOutError as why:
        return LabelFile(None, (Fault(path, why.line, why.problem, "image left out"),))
    for row in rows:
        _check_class(row, path, len(class_names))
    kept, faults = _without_duplicates(rows, path, in_order=form is not BOXES)
    duplicates = len(faults)
    if form is BOXES:
        faults += [
            Fault(path, row.line, "the box has no area, so nothing can find it", "kept")
            for row in kept
            if row.numbers[2:].min() == 0
        ]
    class_ids = np.array([float(row.class_text) for row in kept]).astype(np.int64)
    scale = np.array(image_hw[::-1], np.float64)
    truth = form.objects([row.numbers for row in kept], class_ids, scale, str(path))
    for row, outline in zip(kept, truth.polygons or (), strict=False):
        if is_too_long(outline):
            return LabelFile(None, (Fault(path, row.line, f"an outline of {_TOO_LONG}", "image left out"),))
    return LabelFile(truth, tuple(faults), is_empty=not rows, duplicates=duplicates)


def _rows(data: bytes, path: Path) -> list[_Row]:
    """The rows of a file, each number rounded to float32."""
    if data.startswith(_MARK):
        raise _LeftOutError(1, "the file begins with a byte order mark, so training tools do not read its first row")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as failure:
        raise _LeftOutError(None, f"byte {failure.start} is not UTF-8") from failure
    while lines and not lines[-1].strip():
        lines.pop()
    rows: list[_Row] = []
    for number, line in enumerate(lines, 1):
        if not line or (not rows and not line.strip()):  # what is before the first row does not count
            continue
        if not line.strip():
            raise _LeftOutError(number, "a line of spaces between rows, which training tools do not accept")
        if len(line) > _MAX_LINE_CHARS:
            raise _LeftOutError(number, f"a line of more than {_MAX_LINE_CHARS:,} characters")
        row = read_row(line)
        if row is None:
            raise _LeftOutError(number, f"not a row of numbers: {shortened(ascii(line), 60)}")
        if len(rows) == MAX_OBJECTS:
            raise InputError("has too many labels", subject=str(path), expected=f"at most {MAX_OBJECTS:,} an image")
        with np.errstate(over="ignore"):
            rows.append(_Row(number, row.class_text, row.numbers.astype(np.float32).astype(np.float64)))
    return rows


def _as_boxes(rows: list[_Row]) -> list[_Row]:
    """Rows of outlines as the boxes around them, if one row makes the file one of outlines."""
    if all(1 + len(row.numbers) <= _BOX_VALUES for row in rows):
        return rows
    boxes = []
    for row in rows:
        if len(row.numbers) < 2 or len(row.numbers) % 2:
            raise _LeftOutError(row.line, f"{_values(row)} in a file of outlines, where rows are points")
        boxes.append(_Row(row.line, row.class_text, _around(row.numbers)))
    return boxes


def _around(outline: Numbers) -> Numbers:
    """Centre and size of the box around points x1, y1, x2, y2, …; rounded to float32 in each step."""
    points = outline.astype(np.float32).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([(low + high) / np.float32(2), high - low]).astype(np.float64)


def _check(row: _Row, form: LabelLines) -> None:
    if float(row.class_text) < 0:
        raise _LeftOutError(row.line, f"class {row.class_text} is negative")
    if form is BOXES and len(row.numbers) != 4:
        raise _LeftOutError(row.line, f"{_values(row)}, not the 5 of a box")
    if form.is_line(row.numbers):
        return
    if isinstance(form, OutlineLines | CornerLines) and form.is_line(np.clip(row.numbers, 0, 1)):
        # Trainings look at the box around the points: a point may lie a little outside the image.
        wrong = [value for value in _around(row.numbers).tolist() if not 0 <= value <= 1]
        if wrong:
            raise _LeftOutError(row.line, f"{wrong[0]:.7g}, of the box around the points, is not from 0 to 1")
        return
    wrong = [value for value in row.numbers.tolist() if not 0 <= value <= 1]
    if form is BOXES or (wrong and len(row.numbers) % 2 == 0):
        raise _LeftOutError(row.line, f"{wrong[0]:.7g} is not from 0 to 1")
    raise _LeftOutError(row.line, f"{_values(row)}; expected {form.expected}")


def _values(row: _Row) -> str:
    count = 1 + len(row.numbers)
    return f"{count} value" if count == 1 else f"{count} values"


def _check_class(row: _Row, path: Path, count: int) -> None:
    value, place = float(row.class_text), f"{path}, line {row.line}"
    if not value.is_integer():
        raise InputError(
            f"class {row.class_text} is not a whole number", subject=place, expected=f"0 to {count - 1}",
            hint="correct the label, or remove the row",
        )  # fmt: skip
    if value >= count:
        raise InputError(
            f"class {shortened(row.class_text, 20)} has no name", subject=place, expected=f"0 to {count - 1}",
            hint="add its name to the dataset, or correct the label",
        )  # fmt: skip


def _without_duplicates(rows: list[_Row], path: Path, *, in_order: bool) -> tuple[list[_Row], list[Fault]]:
    """The rows that repeat no earlier one, and a fault for each that does.

    Trainings sort the rows of boxes if one of them is dropped. The order decides exact ties, so they are sorted here
    too, unless `in_order`.
    """
    first: dict[tuple[float, ...], _Row] = {}
    faults = []
    for row in rows:
        earlier = first.setdefault((float(row.class_text), *row.numbers.tolist()), row)
        if earlier is not row:
            faults.append(Fault(path, row.line, f"repeats line {earlier.line}", "row dropped"))
    keys = sorted(first) if faults and not in_order else list(first)
    return [first[key] for key in keys], faults
