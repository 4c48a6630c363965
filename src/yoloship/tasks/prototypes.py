"""From mask coefficients and prototypes to the masks of the kept boxes, as the official tools compute them.

A mask's logits are the sum of the prototypes, each times its coefficient. The mask is where they are positive, inside
the box. Versions of the official tools do this in different orders, which `yoloship.results.mask_rules` names. Only the
cells of the prototypes that can matter for a box are computed.

Upsampling is bilinear with half-pixel centres (PyTorch's ``align_corners=False``): output i lies at (i + 0.5)/f − 0.5.
OpenCV's `INTER_LINEAR` has the same formula.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.errors import SessionError
from yoloship.results.masks import Masks, MaskWindow
from yoloship.tasks.decode import sigmoid

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.letterbox import Letterbox
    from yoloship.results.mask_rules import MaskRule

    Floats = npt.NDArray[np.float32]
    Span = tuple[int, int]


def check_prototypes(shape: tuple[Any, ...], canvas_hw: tuple[int, int], coefficients: int, subject: str) -> int:
    """How many canvas pixels a cell of the prototypes covers.

    Args:
        shape: (P, h, w) of an image's prototypes.
        canvas_hw: (height, width) of the canvas in model pixels.
        coefficients: How many mask coefficients each box has.
        subject: The output's name, for messages.

    Raises:
        SessionError: they are not of that number, or are not cells of the canvas.
    """
    if len(shape) != 3 or shape[0] != coefficients:
        raise SessionError(
            "the prototypes do not fit the mask coefficients", subject=subject,
            expected=f"({coefficients}, h, w)", got=str(tuple(shape)),
        )  # fmt: skip
    factor: int = canvas_hw[0] // max(1, shape[1])
    if factor < 1 or (shape[1] * factor, shape[2] * factor) != canvas_hw:
        raise SessionError(
            "the prototypes are not whole cells of the canvas", subject=subject,
            expected=f"{canvas_hw[0]}×{canvas_hw[1]} divided by a whole number", got=f"{shape[1]}×{shape[2]}",
        )  # fmt: skip
    return factor


def masks_on_canvas(
    boxes_xyxy: Floats, coefficients: Floats, prototypes: Floats, letterbox: Letterbox, rule: MaskRule
) -> Masks:
    """The masks at the resolution of the network's input, the official default.

    Args:
        boxes_xyxy: (n, 4) float32, finite, model pixels; read only.
        coefficients: (n, P) float32; read only.
        prototypes: (P, h, w) float32, cells of the canvas; read only.
        letterbox: Where the image lies on the canvas.
        rule: How they are made.

    Raises:
        SessionError: the prototypes do not fit.
    """
    factor = check_prototypes(prototypes.shape, letterbox.input_hw, coefficients.shape[1], "prototypes")
    make = _cropped_first if rule.crops_first else _cropped_last
    windows = [
        make(box, weights, prototypes, factor, rule) for box, weights in zip(boxes_xyxy, coefficients, strict=True)
    ]
    return Masks(tuple(windows), letterbox.image_hw, letterbox)


def masks_on_image(
    boxes_xyxy: Floats, coefficients: Floats, prototypes: Floats, letterbox: Letterbox, rule: MaskRule
) -> Masks:
    """The masks at the resolution of the source image: the logits are interpolated there (``retina_masks``).

    Args:
        boxes_xyxy: (n, 4) float32, finite, **source** pixels; read only.
        coefficients: (n, P) float32; read only.
        prototypes: (P, h, w) float32, cells of the canvas; read only.
        letterbox: Where the image lies on the canvas.
        rule: How they are made.

    Raises:
        SessionError: the prototypes do not fit.
    """
    factor = check_prototypes(prototypes.shape, letterbox.input_hw, coefficients.shape[1], "prototypes")
    if rule.squashes:
        boxes_xyxy = np.rint(boxes_xyxy)
    finer, inner = _inner(prototypes.shape[1:], factor, letterbox, rule)
    windows = []
    for box, weights in zip(boxes_xyxy, coefficients, strict=True):
        rows, columns = _inside(box, 1, letterbox.image_hw)
        windows.append(_interpolated(rows, columns, weights, prototypes, finer, inner, letterbox.image_hw, rule))
    return Masks(tuple(windows), letterbox.image_hw)


def _cropped_last(box: Floats, weights: Floats, prototypes: Floats, factor: int, rule: MaskRule) -> MaskWindow:
    _, height, width = prototypes.shape
    rows, columns = _inside(box, 1, (height * factor, width * factor))
    if _is_nothing(rows, columns):
        return MaskWindow.empty()
    upsampled, top, left = _upsampled(rows, columns, weights, prototypes, factor, rule)
    part = upsampled[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
    return MaskWindow.of(part > np.float32(rule.limit), columns[0], rows[0])


def _cropped_first(box: Floats, weights: Floats, prototypes: Floats, factor: int, rule: MaskRule) -> MaskWindow:
    _, height, width = prototypes.shape
    rows, columns = _inside(box, factor, (height, width))
    if _is_nothing(rows, columns):
        return MaskWindow.empty()
    import cv2

    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
    cells = np.zeros((min(height, rows[1] + 1) - top, min(width, columns[1] + 1) - left), np.float32)
    cells[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = _cells(
        rows, columns, weights, prototypes, rule
    )
    size = (cells.shape[1] * factor, cells.shape[0] * factor)
    part = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR) > np.float32(rule.limit)
    return MaskWindow.of(part, left * factor, top * factor)


def _interpolated(  # noqa: PLR0913, PLR0917 - one step of one loop
    rows: Span,
    columns: Span,
    weights: Floats,
    prototypes: Floats,
    finer: int,
    inner: tuple[Span, Span],
    image_hw: tuple[int, int],
    rule: MaskRule,
) -> MaskWindow:
    """A mask in source pixels: the prototypes, `finer` times upsampled, cut to the image's part, interpolated."""
    if _is_nothing(rows, columns):
        return MaskWindow.empty()
    (low_row, high_row, row_weights), (low_column, high_column, column_weights) = (
        _between(span, part, side) for span, part, side in zip((rows, columns), inner, image_hw, strict=True)
    )
    reach_rows, reach_columns = (
        (int(low[0]), int(high[-1]) + 1) for low, high in ((low_row, high_row), (low_column, high_column))
    )
    cells, top, left = _upsampled(reach_rows, reach_columns, weights, prototypes, finer, rule)
    with np.errstate(invalid="ignore"):
        cells = cells[:, low_column - left] * (1 - column_weights) + cells[:, high_column - left] * column_weights
        values, below = cells[low_row - top], cells[high_row - top]  # along rows, which is fast, where it is large
        values *= (1 - row_weights)[:, None]
        below *= row_weights[:, None]
        values += below
        return MaskWindow.of(values > np.float32(rule.limit), columns[0], rows[0])


def _inner(
    cells_hw: tuple[Any, ...], factor: int, letterbox: Letterbox, rule: MaskRule
) -> tuple[int, tuple[Span, Span]]:
    """How many times the prototypes are upsampled first, and the rows and columns of the result that show the image.

    The newest rule upsamples until the padding is whole cells. The older ones round it down to whole cells.
    """
    height, width = letterbox.image_hw
    if rule.crops_first:
        gain = min(cells_hw[0] / height, cells_hw[1] / width)
        pads = (cells_hw[0] - height * gain) / 2, (cells_hw[1] - width * gain) / 2
        spans = [(int(pad), int(side - pad)) for pad, side in zip(pads, cells_hw, strict=True)]
        return 1, (_some(spans[0]), _some(spans[1]))
    finer = 1
    while finer < factor and (letterbox.top * finer % factor or letterbox.left * finer % factor):
        finer *= 2
    finer = min(finer, factor)
    gain = min(cells_hw[0] * finer / height, cells_hw[1] * finer / width)
    spans = [
        (start * finer // factor, start * finer // factor + round(side * gain))
        for start, side in ((letterbox.top, height), (letterbox.left, width))
    ]
    return finer, (_some(spans[0]), _some(spans[1]))


def _some(span: Span) -> Span:
    """At least one cell, for images that are much longer than wide."""
    return span[0], max(span[1], span[0] + 1)


def _between(span: Span, part: Span, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Along one axis: the two cells that each source pixel lies between, and the weight of the second."""
    cells = part[1] - part[0]
    places = (np.arange(*span, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / side) - np.float32(0.5)
    places = np.maximum(places, np.float32(0))
    low = np.minimum(places.astype(np.int64), cells - 1)
    return low + part[0], np.minimum(low + 1, cells - 1) + part[0], places - low.astype(np.float32)


def _upsampled(
    rows: Span, columns: Span, weights: Floats, prototypes: Floats, factor: int, rule: MaskRule
) -> tuple[Floats, int, int]:
    """A mask's values, `factor` times upsampled, correct in some rows and columns of the result.

    Returns:
        (h, w) float32, and the row and column of its first value in the whole.
    """
    _, height, width = prototypes.shape
    near_rows, near_columns = (
        (max(0, start // factor - 1), min(cells, (stop - 1) // factor + 2))
        for (start, stop), cells in ((rows, height), (columns, width))
    )
    cells = _cells(near_rows, near_columns, weights, prototypes, rule)
    if factor > 1:
        import cv2

        size = (cells.shape[1] * factor, cells.shape[0] * factor)
        cells = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return cells, near_rows[0] * factor, near_columns[0] * factor


def _cells(rows: Span, columns: Span, weights: Floats, prototypes: Floats, rule: MaskRule) -> Floats:
    """A mask's values in some cells of the prototypes.

    By `einsum`, because a product of matrices copies the cells and asks other threads for help, which takes longer.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        logits: Floats = np.einsum("p,phw->hw", weights, prototypes[:, slice(*rows), slice(*columns)])
    return sigmoid(logits) if rule.squashes else logits


def _inside(box: Floats, factor: int, hw: tuple[int, int]) -> tuple[Span, Span]:
    """The rows and columns whose index is in a box, x1 ≤ index < x2, with `factor` pixels of the box to an index."""
    sides = [side / factor for side in box.tolist()]
    if not all(map(math.isfinite, sides)):
        return (0, 0), (0, 0)
    height, width = hw
    limits = (width, height, width, height)
    x1, y1, x2, y2 = (min(max(math.ceil(side), 0), limit) for side, limit in zip(sides, limits, strict=True))
    return (y1, y2), (x1, x2)


def _is_nothing(rows: Span, columns: Span) -> bool:
    return rows[0] >= rows[1] or columns[0] >= columns[1]
