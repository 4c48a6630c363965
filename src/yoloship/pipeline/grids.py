"""On which grids the rows of a decoded output lie: `find_levels`, and what boxes look like that lie on none.

A decoded YOLOv5 row has its centre at xy = (2σ(t) − 0.5 + grid)·stride, so whatever the network says, it lies at most
one cell from the middle of its own cell. In a correct file this holds for every row; in other forms (corners,
normalised boxes, offsets that are not decoded) it holds for hardly any.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]

MAX_ANCHORS: Final = 9
MAX_LEVELS: Final = 6
MIN_STRIDE: Final = 2
MAX_STRIDE: Final = 256
_REACH_CELLS: Final = 1.0
"""How far a centre may lie from the middle of its cell, in cells."""
_SLACK_CELLS: Final = 0.05
_HALF_STEP: Final = 2.0**-10
"""Spacing of float16 beside 1: a decode in half precision rounds a coordinate by up to half of that share."""
_SHARE: Final = 0.99
"""Of a level's rows that must lie within reach. It is 1 in correct files, and a little less in quantized ones."""


class Level(NamedTuple):
    """Rows of one level.

    Attributes:
        stride: Model pixels per cell.
        rows: Where they stand in the output.
    """

    stride: int
    rows: slice


def find_levels(boxes: Floats, input_hw: tuple[int, int]) -> tuple[Level, ...] | None:
    """The levels of a decoded output, from the number of rows and from where the centres lie.

    Args:
        boxes: (N, 4): cx, cy, w, h in model pixels, in the order level, anchor, row, column; read only.
        input_hw: (height, width) of the canvas in model pixels.

    Returns:
        The levels in the order of the rows, finest first or coarsest first; None if the centres lie on no such grids.
    """
    strides = _strides(input_hw)
    for anchors in range(1, MAX_ANCHORS + 1):
        for order in (strides, strides[::-1]):
            found = _levels(boxes, input_hw, order, anchors, ())
            if found is not None:
                return found
    return None


def fits_rows(rows: int, input_hw: tuple[int, int], *, max_anchors: int = MAX_ANCHORS) -> bool:
    """Whether consecutive levels, each half as fine as the one before, have this many rows in all."""
    cells = [_cells(stride, input_hw) for stride in (2, 4, 8, 16, 32, 64, 128) if not _uneven(stride, input_hw)]
    sums = {sum(cells[start:end]) for start, end in itertools.combinations(range(len(cells) + 1), 2)}
    return any(count and rows % count == 0 and rows // count <= max_anchors for count in sums)


def seems(raw: Floats, input_hw: tuple[int, int]) -> str | None:
    """What the boxes of an output seem to be that `find_levels` does not accept.

    Args:
        raw: (N, 5 + C) of one image; read only.
        input_hw: (height, width) of the canvas in model pixels.

    Returns:
        Words for a message; None if they look like nothing known.
    """
    boxes = raw[:, :4].astype(np.float64)
    for words, to_centres in _OTHER_FORMS:
        if find_levels(to_centres(boxes, input_hw), input_hw) is not None:
            return words
    small = np.abs(boxes[:, :2]).max(initial=0) < min(input_hw) / 8
    if small and fits_rows(len(boxes), input_hw, max_anchors=1):
        return "offsets within a cell that are not decoded, as YOLOX exports have"
    return None


def _strides(input_hw: tuple[int, int]) -> tuple[int, ...]:
    last = min(MAX_STRIDE, *input_hw)
    return tuple(stride for stride in range(MIN_STRIDE, last + 1) if not _uneven(stride, input_hw))


def _uneven(stride: int, input_hw: tuple[int, int]) -> bool:
    return bool(input_hw[0] % stride or input_hw[1] % stride)


def _cells(stride: int, input_hw: tuple[int, int]) -> int:
    return (input_hw[0] // stride) * (input_hw[1] // stride)


def _levels(
    boxes: Floats, input_hw: tuple[int, int], strides: tuple[int, ...], anchors: int, found: tuple[Level, ...]
) -> tuple[Level, ...] | None:
    """Continue a division of the rows into levels of the strides that are left."""
    start = found[-1].rows.stop if found else 0
    if start == len(boxes):
        return found
    if len(found) == MAX_LEVELS:
        return None
    for place, stride in enumerate(strides):
        stop = start + anchors * _cells(stride, input_hw)
        if stop <= len(boxes) and _within_reach(boxes[start:stop, :2], input_hw, stride):
            level = Level(stride, slice(start, stop))
            whole = _levels(boxes, input_hw, strides[place + 1 :], anchors, (*found, level))
            if whole is not None:
                return whole
    return None


def _within_reach(centres: Floats, input_hw: tuple[int, int], stride: int) -> bool:
    """Whether these rows are all anchors of a level of this stride."""
    height, width = input_hw[0] // stride, input_hw[1] // stride
    middles = (np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5)
    limit = _REACH_CELLS + _SLACK_CELLS + max(input_hw) * _HALF_STEP / stride
    near = np.ones((len(centres) // (height * width), height, width), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        for axis, middle in enumerate(middles):
            cells = centres[:, axis].astype(np.float64).reshape(near.shape) / stride
            near &= np.abs(cells - middle) <= limit
    return bool(near.mean() >= _SHARE)


def _from_corners(boxes: Floats, _: tuple[int, int]) -> Floats:
    return (boxes[:, :2] + boxes[:, 2:4]) / 2


def _from_top_left(boxes: Floats, _: tuple[int, int]) -> Floats:
    return boxes[:, :2] + boxes[:, 2:4] / 2


def _enlarged(boxes: Floats, input_hw: tuple[int, int]) -> Floats:
    height, width = input_hw
    larger: Floats = boxes * np.array([width, height, width, height])
    return larger


_OTHER_FORMS: Final[tuple[tuple[str, Callable[[Floats, tuple[int, int]], Floats]], ...]] = (
    ("corners (x1, y1, x2, y2), as DeepStream and TensorRT plugins want", _from_corners),
    ("centre and size normalised to 0..1", _enlarged),
    ("corners normalised to 0..1", lambda boxes, input_hw: _from_corners(_enlarged(boxes, input_hw), input_hw)),
    ("top left corner and size", _from_top_left),
    ("y before x", lambda boxes, _: boxes[:, 1::-1]),
)
