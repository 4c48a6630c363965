"""Examines the rows of a decoded output: finds their grids, or says what other form the output seems to have.

A decoded YOLOv5 row has its centre at xy = (2σ(t) − 0.5 + grid)·stride, so the centre is at most one cell from the
middle of its own cell, whatever the network computes. In a correct file this is true for every row. In other forms
(corners, normalised boxes, offsets that are not decoded) it is true for hardly any row.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from yoloship._util.text import counted
from yoloship.errors import SessionError
from yoloship.tasks.decode import OBJECT_COLUMNS, STANDARD_FORM, anchor_free_error

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
"""Spacing of float16 near 1. Decoding in half precision rounds a coordinate by up to half of this fraction of it."""
_GRID_SHARE: Final = 0.99
"""Share of a level's rows that must lie within reach. It is 1 in correct files, and a little less after quantization.
"""


class Level(NamedTuple):
    """Rows of one level.

    Attributes:
        stride: Model pixels per cell.
        rows: The range of its rows in the output.
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


def stay_in_reach(boxes: Floats, levels: tuple[Level, ...], input_hw: tuple[int, int]) -> bool:
    """Whether the centres of these boxes lie on those levels' grids; the arguments are as in `find_levels`."""
    return all(_within_reach(boxes[level.rows, :2], input_hw, level.stride) for level in levels)


def fits_rows(rows: int, input_hw: tuple[int, int], *, max_anchors: int = MAX_ANCHORS) -> bool:
    """Whether consecutive levels, each half as fine as the one before, have this many rows in all."""
    cells = [_cells(stride, input_hw) for stride in (2, 4, 8, 16, 32, 64, 128) if not _uneven(stride, input_hw)]
    sums = {sum(cells[start:end]) for start, end in itertools.combinations(range(len(cells) + 1), 2)}
    return any(count and rows % count == 0 and rows // count <= max_anchors for count in sums)


def seems(raw: Floats, input_hw: tuple[int, int]) -> str | None:
    """What the boxes of an output that `find_levels` does not accept seem to be.

    Args:
        raw: (N, 5 + C) of one image; read only.
        input_hw: (height, width) of the canvas in model pixels.

    Returns:
        Words for a message; None if the boxes look like no known form.
    """
    boxes = raw[:, :4].astype(np.float64)
    for words, to_centres in _OTHER_FORMS:
        if find_levels(to_centres(boxes, input_hw), input_hw) is not None:
            return words
    small = np.abs(boxes[:, :2]).max(initial=0) < min(input_hw) / 8
    if small and fits_rows(len(boxes), input_hw, max_anchors=1):
        return "offsets within a cell that are not decoded, as in YOLOX exports"
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
    """Divide the remaining rows into levels with the remaining strides."""
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
    return bool(near.mean() >= _GRID_SHARE)


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


_ZERO_PX: Final = 1e-3
_SHARE: Final = 0.999
_LEAST_SHARE: Final = 0.5
_UNLIKELY: Final = 0.1
_GREY_SCORE: Final = 0.1
"""A trained objectness is below this for nearly all boxes of a grey image."""
_NEAR_0: Final = 0.01
_EXTRA_COLUMNS: Final = (
    (1, "an angle (oriented boxes)"),
    (180, "180 angle classes (oriented boxes)"),
    (10, "5 landmarks"),
    (15, "5 landmarks with their scores"),
    (32, "32 mask coefficients (segmentation)"),
    (51, "17 keypoints"),
)
"""Columns that other kinds of YOLO models append to a row."""


def unknown_form_error(subject: str, got: str, hint: str | None = None) -> SessionError:
    """The error for a model whose form is not known."""
    return SessionError(
        "is not a model of a known form",
        subject=subject,
        expected=f"{STANDARD_FORM}, or a file from 'yoloship export'",
        got=got,
        hint=hint or "export it again from its .pt: 'yoloship export' writes the standard form, without NMS",
    )


def examine(raw: Floats, input_hw: tuple[int, int], names: tuple[str, ...] | None, subject: str) -> tuple[Level, ...]:
    """The levels of a decoded output.

    Raises:
        SessionError: the output has another form; the message names it.
    """
    shape = f"(B, {raw.shape[1]}, {raw.shape[2]})"
    transposed = raw.shape[1] < raw.shape[2] and fits_rows(raw.shape[2], input_hw, max_anchors=1)
    if transposed or (names is not None and raw.shape[1] == OBJECT_COLUMNS - 1 + len(names) < raw.shape[2]):
        raise anchor_free_error(subject, shape)
    if raw.shape[1] < raw.shape[2] and find_levels(raw[0, :4].T, input_hw) is not None:
        raise unknown_form_error(
            subject,
            f"the transposed output {shape}: (B, 5 + classes, N)",
            "export it again without the transposition of its output",
        )
    if raw.shape[2] <= OBJECT_COLUMNS:
        raise unknown_form_error(subject, f"an output {raw.dtype}{raw.shape}")
    levels = find_levels(raw[0, :, :4], input_hw)
    if levels is None:
        what = seems(raw[0], input_hw)
        at = f"{input_hw[0]}×{input_hw[1]} image"
        if what is None and not fits_rows(raw.shape[1], input_hw):
            raise unknown_form_error(subject, f"{raw.shape[1]} rows, which fit no grid of a {at}")
        raise unknown_form_error(subject, f"boxes that are {what or f'not around the cells of a {at}'}")
    if names is not None and raw.shape[2] != OBJECT_COLUMNS + len(names):
        raise unknown_form_error(
            subject,
            f"{counted(len(names), 'class name')} beside an output {shape}"
            + _extra(raw.shape[2] - OBJECT_COLUMNS - len(names)),
            "if the names are wrong, give others with --names (class_names in Python)",
        )
    _check_numbers(raw, levels, subject)
    return levels


def _extra(columns: int) -> str:
    words = dict(_EXTRA_COLUMNS).get(columns)
    return f", {columns} column{'s'[: columns != 1]} too many: perhaps {words}" if words else ""


def _check_numbers(raw: Floats, levels: tuple[Level, ...], subject: str) -> None:
    """Refuse numbers that are not scores, and a level whose boxes have no size."""
    scores = raw[..., 4:]
    if not (np.isfinite(scores).all() and scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise unknown_form_error(subject, "scores outside 0 to 1")
    if (scores[..., 0] == 1).all():
        raise unknown_form_error(subject, "an objectness of 1 everywhere, as in YOLOv6 exports")
    objectness, classes = scores[..., 0], scores[..., 1:]
    if np.median(objectness) > 0 and _are_flags(classes):
        raise unknown_form_error(subject, "class scores that are all 0 or 1, as if they were class ids")
    if np.median(classes.max(axis=-1)) > 0 and _are_flags(objectness):
        raise unknown_form_error(subject, "an objectness that is 0 or 1 everywhere, as if it were a class id")
    if classes.shape[-1] > 1 and np.median(objectness) > _GREY_SCORE and np.median(classes[..., -1]) < _NEAR_0:
        raise unknown_form_error(subject, "an objectness after the class scores, or none")
    if is_multiplied(scores):
        raise unknown_form_error(
            subject,
            "class scores below the objectness in every row, as if they were already multiplied by it",
            "export it again without that multiplication, because detection multiplies them again",
        )
    for level in levels:
        if (np.abs(raw[:, level.rows, 2:4]) < _ZERO_PX).all():
            raise SessionError(
                f"every box of the level with stride {level.stride} has zero size, so its objects are lost: "
                "it was exported with a stale anchor grid",
                subject=subject,
                hint="export it again from its .pt with 'yoloship export'",
            )


def _are_flags(values: Floats) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def is_multiplied(scores: Floats) -> bool:
    """Whether the class scores in (B, N, 1 + C) are already multiplied by the objectness.

    A grey image shows no object, so the objectness is near 0 and hardly any class score is below it: no row in 7
    trained models, up to 59 % of the rows in 45 random models. Products are below it in every row, unless they are
    rounded to 0.
    """
    objectness, best = scores[..., 0], scores[..., 1:].max(axis=-1)
    return bool((best > objectness).mean() <= 1 - _SHARE and (best < objectness).mean() >= _LEAST_SHARE)


def check_objectness(raw: Floats, subject: str) -> None:
    """Refuse an output without class names if its columns seem to be class scores without an objectness.

    Class scores are trained on objects only, each of one class, so the best of C scores is seldom far below 1 / C. In
    seven trained models its median over a grey image is between 0.18 and 1. If the scores contain the objectness, it is
    near 0.

    Raises:
        SessionError: the scores seem to contain the objectness.
    """
    best = raw[..., OBJECT_COLUMNS:].max(axis=-1)
    if 0 < np.median(best) < _UNLIKELY / (raw.shape[2] - OBJECT_COLUMNS):  # a network without weights gives zeros
        raise unknown_form_error(
            subject,
            f"scores near 0 in every column on a grey image: (B, {raw.shape[1]}, {raw.shape[2]}) seems to be "
            "(B, N, 4 + classes)",
            f"if it has an objectness, name its {raw.shape[2] - OBJECT_COLUMNS} classes with --names "
            "(class_names in Python)",
        )
