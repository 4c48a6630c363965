"""Pillow's resampling in NumPy: bilinear and bicubic filters that widen when an image gets smaller.

Both passes work on 8-bit values, with weights of 22 binary digits, as Pillow's do: first along the rows, then along the
columns; the other way round if the height loses more than twice as many pixels as the width, as Pillow 13 does. Pillow
sums integers; here float32 products of the same weights are summed, so a sum that lies within 1e-4 of a half may be
rounded the other way: one level of 255.

The weights of an output pixel are not zero for a few source pixels only. So each pass is a sequence of small matrix
products, one for each group of neighbouring output pixels. A few groups share the source pixels, converted to float32.
An image is read in the order of its memory and turned while a block of it is in the cache: behind a network, which has
filled the caches with its weights, that takes half the time of turning it at once.

Source: the documentation of Pillow's filters ("Concepts", Filters) and the outputs of Pillow 13.0, to which the tests
compare.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from yoloship.transforms.record import Interpolation

    Floats = npt.NDArray[np.float64]

_BITS: Final = 22
"""Binary digits of a weight: 32 bits less the 8 of a pixel and 2 for a sum beyond the range."""
_GROUP: Final = 4
"""Output pixels in a matrix product: larger groups waste work on zeros, smaller ones on calls."""
_BAND: Final = 4
"""Groups that share a conversion to float32: so many that the converted pixels fit into a core's own cache."""
_PRODUCT: Final = 1 << 18
"""Multiplications in a matrix product. OpenBLAS spreads larger ones over threads, which wait for each other longer than
such a product takes."""
_BLOCK_BYTES: Final = 1 << 18
"""Of the source pixels that are turned at a time."""


def resample(
    image: npt.NDArray[np.uint8], resized_hw: tuple[int, int], rows: range, columns: range, filter_name: Interpolation
) -> npt.NDArray[np.uint8]:
    """Scale an image, and compute only a part of the result.

    Args:
        image: (h, w, C) uint8; read only.
        resized_hw: (height, width) of the whole result.
        rows: Rows of the result to compute, in order without gaps.
        columns: Columns of the result to compute.
        filter_name: ``bilinear`` or ``bicubic``.

    Returns:
        (len(rows), len(columns), C) uint8; the caller owns it.
    """
    height, width = image.shape[:2]
    down = _plan(height, resized_hw[0], rows.start, rows.stop, filter_name)
    across = _plan(width, resized_hw[1], columns.start, columns.stop, filter_name)
    part = image[down.first : down.last, across.first : across.last]
    columns_first = height - resized_hw[0] > max(0, 2 * (width - resized_hw[1]))
    if columns_first:
        part = _pass(part, down)
    if not across.is_copy:
        part = _turned(_pass(_turned(part), across))
    if not columns_first and not down.is_copy:
        part = _pass(part, down)
    return np.array(part) if across.is_copy and down.is_copy else part


class _Group(NamedTuple):
    """Neighbouring output pixels: where they begin, where their source pixels begin, and (outputs, sources) weights."""

    target: int
    source: int
    weights: npt.NDArray[np.float32]


class _Plan(NamedTuple):
    """One pass.

    Attributes:
        first: The first source pixel that it reads.
        last: The end of those that it reads, exclusive.
        length: How many pixels it gives.
        bands: Its matrix products, `_BAND` of them at a time; the source pixels count from `first`.
        depth: How many source pixels the largest band reads.
        largest: Weights of the largest matrix.
        is_copy: Whether the result is the source pixels themselves.
        overshoots: Whether a weight is negative, so that a sum can leave the range of a pixel.
    """

    first: int
    last: int
    length: int
    bands: tuple[tuple[_Group, ...], ...]
    depth: int
    largest: int
    is_copy: bool
    overshoots: bool


@lru_cache(maxsize=64)
def _plan(have: int, want: int, start: int, stop: int, filter_name: Interpolation) -> _Plan:
    """The weights from `have` pixels to the pixels `start` to `stop` of `want`."""
    if have == want:
        return _Plan(start, stop, stop - start, (), 0, 0, True, False)
    curve, support = _FILTERS[filter_name]
    scale = have / want
    stretch = max(scale, 1.0)
    reach = support * stretch
    centres = (np.arange(start, stop) + 0.5) * scale
    low = np.maximum(
        0, (centres - reach + 0.5).astype(np.int64)
    )  # positive or cut to 0, so truncating is rounding down
    high = np.minimum(have, (centres + reach + 0.5).astype(np.int64))
    sources = low[:, None] + np.arange(int((high - low).max()))
    weights = curve(np.abs((sources - centres[:, None] + 0.5) / stretch)) * (sources < high[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    weights = np.trunc(np.where(weights < 0, -0.5, 0.5) + weights * (1 << _BITS)) / (1 << _BITS)
    first, last = int(low.min()), int(high.max())
    groups = []
    for begin in range(0, len(centres), _GROUP):
        rows = slice(begin, begin + _GROUP)
        left, right = int(low[rows].min()), int(high[rows].max())
        matrix = np.zeros((len(low[rows]), right - left), np.float32)
        for row, (at, end, some) in enumerate(zip(low[rows], high[rows], weights[rows], strict=True)):
            matrix[row, at - left : end - left] = some[: end - at]
        groups.append(_Group(begin, left - first, matrix))
    bands = tuple(tuple(groups[begin : begin + _BAND]) for begin in range(0, len(groups), _BAND))
    depth = max(_end(band[-1]) - band[0].source for band in bands)
    largest = max(group.weights.size for group in groups)
    return _Plan(first, last, len(centres), bands, depth, largest, False, bool((weights < 0).any()))


def _end(group: _Group) -> int:
    """The end of the source pixels that it reads, exclusive."""
    return group.source + int(group.weights.shape[1])


def _pass(lines: npt.NDArray[np.uint8], plan: _Plan) -> npt.NDArray[np.uint8]:
    """Scale the first axis of (n, m, C) to (length, m, C)."""
    pixels, channels = lines.shape[1:]
    out = np.empty((plan.length, pixels, channels), np.uint8)
    step = min(pixels, max(1, _PRODUCT // (plan.largest * channels)))
    converted = np.empty((plan.depth, step, channels), np.float32)
    sums = np.empty((_BAND * _GROUP, step * channels), np.float32)
    for left in range(0, pixels, step):
        wide = min(step, pixels - left)
        for band in plan.bands:
            first, last = band[0], band[-1]
            source, target = first.source, first.target
            deep, high = _end(last) - source, last.target + len(last.weights) - target
            read = converted[:deep, :wide]
            np.copyto(read, lines[source : source + deep, left : left + wide])
            flat, made = read.reshape(deep, -1), sums[:high, : wide * channels]
            for group in band:
                at, skip = group.target - target, group.source - source
                rows, columns = group.weights.shape
                np.matmul(group.weights, flat[skip : skip + columns], out=made[at : at + rows])
            made += np.float32(0.5)
            if plan.overshoots:
                np.clip(made, 0, 255, out=made)
            to = out[target : target + high, left : left + wide]
            to[:] = made.reshape(to.shape)  # to whole numbers, rounded down
    return out


def _turned(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Rows for columns."""
    height, width, channels = image.shape
    if channels not in {1, 3, 4}:
        return np.ascontiguousarray(image.transpose(1, 0, 2))
    import cv2

    turned = np.empty((width, height, channels), np.uint8)
    rows = max(1, _BLOCK_BYTES // (width * channels))
    for top in range(0, height, rows):
        block = np.ascontiguousarray(image[top : top + rows])
        cv2.transpose(block, turned[:, top : top + rows])
    return turned


def _triangle(x: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - x)


def _cubic(x: Floats) -> Floats:
    """Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, with a = -0.5."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_FILTERS: Final[dict[str, tuple[Callable[[Floats], Floats], float]]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}
"""Each with the distance from which on it is zero."""
