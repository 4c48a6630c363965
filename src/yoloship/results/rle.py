"""COCO's compressed run-length encoding of masks, as pycocotools writes and reads it.

The pixels are counted column by column. The counts alternate between background and mask, and begin with background.
From the third on, each count is stored as its difference to the count two places before. A number is written in groups
of five bits, the lowest first, each as one character from ``0`` (48) on; the sixth bit says that another group follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]

_GROUP_BITS: Final = 5
_FIRST: Final = 48
_MORE: Final = 1 << _GROUP_BITS
_SIGN: Final = 1 << (_GROUP_BITS - 1)
MAX_CHARS: Final = 10_000_000
"""Of a text that is read."""
_MAX_SHIFT: Final = 60


def run_lengths(window: npt.NDArray[np.bool_], left: int, top: int, image_hw: tuple[int, int]) -> Counts:
    """The lengths of the runs of a mask that is false outside a window.

    Args:
        window: (h, w) bool, the part of the mask inside the window; read only.
        left: Column of the window's first pixel in the image.
        top: Row of the window's first pixel in the image.
        image_hw: (height, width) of the image in pixels; the window lies inside it.

    Returns:
        (k,) int64: pixels of background, of mask, of background, …, column by column; the caller owns it.
    """
    height, width = image_hw
    columns = np.zeros((window.shape[1], window.shape[0] + 2), np.int8)
    columns[:, 1:-1] = window.T
    steps = np.diff(columns, axis=1)
    bounds = []
    for step in (1, -1):
        column, row = np.nonzero(steps == step)
        bounds.append((left + column) * height + top + row)
    starts, ends = bounds
    apart = starts[1:] != ends[:-1]  # a run goes on at the top of the next column
    starts, ends = starts[np.r_[True, apart][: len(starts)]], ends[np.r_[apart, True][: len(ends)]]
    edges = np.r_[0, np.stack([starts, ends], axis=1).ravel(), height * width]
    counts: Counts = np.diff(edges)
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def compressed(counts: Counts) -> str:
    """The text of run lengths in COCO's compressed form.

    Args:
        counts: (k,) int64 as `run_lengths` gives them; read only.
    """
    values = counts.copy()
    values[3:] -= counts[1:-2]
    groups, open_ = [], np.ones(len(values), bool)
    while open_.any():
        group = values & (_MORE - 1)
        values = values >> _GROUP_BITS
        done = np.where(group & _SIGN, values == -1, values == 0)
        groups.append(np.where(open_, np.where(done, group, group | _MORE) + _FIRST, 0))
        open_ = open_ & ~done
    letters = np.stack(groups, axis=1).ravel() if groups else np.empty(0, np.int64)
    return letters[letters > 0].astype(np.uint8).tobytes().decode("ascii")


def decompressed(text: str) -> list[int] | None:
    """The run lengths in a text of COCO's compressed form; None if it is not one.

    Args:
        text: Untrusted. What its runs add up to is not checked, nor that they are not negative.
    """
    if not text.isascii() or len(text) > MAX_CHARS:
        return None
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        group = code - _FIRST
        if not 0 <= group < 2 * _MORE or shift > _MAX_SHIFT:
            return None
        value |= (group & (_MORE - 1)) << shift
        shift += _GROUP_BITS
        if not group & _MORE:
            if group & _SIGN:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if shift == 0 else None
