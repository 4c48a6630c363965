"""The anchors of a head, in model pixels, as the official forward of its release takes them.

Releases 1 to 5 register two buffers: `anchors` in units of each level's stride, for training, and `anchor_grid` in
pixels. Their forward reads `anchor_grid`. From release 6 on there is no such buffer: the forward multiplies `anchors`
with `stride`, and `anchor_grid` is a list of tensors that is computed again when a size changes, so it may be stale
and is never read here.

Where an architecture lists its levels coarsest first and its anchors finest first (or the other way round), releases
1 to 5 reverse both buffers after `anchors` was divided by the strides. Then `anchors` holds the right pixels divided
by the strides of the opposite levels, and only `anchor_grid` is right. Measured on the checkpoints of the releases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.graph.convolution import Array
    from yoloship.graph.part import Part

_TOLERANCE: Final = 0.01
"""Relative. bfloat16 rounds by 0.004 at most; a mistaken stride is off by a factor of two or more."""


def read_anchors(part: Part, strides: Sequence[int], each: int) -> Array:
    """Read the anchors of a Detect module.

    Args:
        part: The module.
        strides: Of its levels, in its own order, in pixels.
        each: Anchors of a level.

    Returns:
        (levels, anchors, 2) width and height in model pixels; the levels in the module's own order.

    Raises:
        GraphError: they are of no size, not finite, or contradict themselves.
    """
    levels, steps = len(strides), np.array(strides, np.float64)[:, None, None]
    anchors = part.array("anchors", levels, each, 2)
    anchors_px: Array = anchors * steps
    pixels = part.optional_array("anchor_grid", levels, 1, each, 1, 1, 2)
    if pixels is not None:
        pixels = pixels.reshape(levels, each, 2)
        if not _agree(pixels, anchors_px) and not _agree(pixels, anchors * steps[::-1]):
            raise part.error(
                "'anchors' and 'anchor_grid' contradict each other in a way that no release explains",
                expected=f"{_level(anchors_px)} pixels in 'anchor_grid'",
                got=_level(pixels),
                hint="correct one of the two in the training environment and save the model again",
            )
        anchors_px = pixels
    if (anchors_px <= 0).any() and not _is_placeholder(anchors_px):
        raise part.error(
            "has anchors of no size, which can only give boxes of no size",
            expected="widths and heights above 0 pixels",
            got=_level(anchors_px[(anchors_px <= 0).any(axis=(1, 2))]),
            hint="train the model, or set its anchors, and save it again",
        )
    return anchors_px


def _agree(first: Array, second: Array) -> bool:
    return bool((np.abs(first - second) <= _TOLERANCE * np.abs(second)).all())


def _is_placeholder(anchors_px: Array) -> bool:
    """Whether these are the numbers 0, 1, 2, … that the official code fills in for anchors that are still to be fitted.

    Only an architecture that gives a count in place of anchors has them, and every release computes with them.
    """
    numbers = np.arange(anchors_px[0].size).reshape(anchors_px[0].shape)
    return bool((anchors_px == numbers).all())


def _level(anchors_px: Array) -> str:
    return " ".join(f"{width:g}x{height:g}" for width, height in anchors_px[0][:3])
