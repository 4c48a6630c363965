"""What convolutions, pooling and resizing give, at most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from yoloship.bounds.inputs import all_exact, first
from yoloship.bounds.values import Extent, Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.bounds.inputs import Attributes, Inputs, Outputs


def convolved(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Of Conv and its quantized forms."""
    data = first(inputs)
    weights = weights_of(inputs)
    if len(data.shape) < 3 or len(weights.shape) != len(data.shape):
        raise Unknown
    sides = _windows(data.shape[2:], attributes, weights.shape[2:])
    return [Extent((data.shape[0], weights.shape[0], *sides), data.code, all_exact(data, weights))]


def transposed_convolved(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Of ConvTranspose."""
    data, weights = first(inputs), first(inputs, 1)
    if len(data.shape) < 3 or len(weights.shape) != len(data.shape):
        raise Unknown
    rank = len(data.shape) - 2
    strides = _per_axis(attributes, "strides", rank)
    dilations = _per_axis(attributes, "dilations", rank)
    more = list(attributes.get("output_padding") or [0] * rank)
    sides = [
        stride * max(0, side - 1) + extra + (kernel - 1) * dilation + 1
        for side, stride, extra, kernel, dilation in zip(
            data.shape[2:], strides, more, weights.shape[2:], dilations, strict=True
        )
    ]
    if "output_shape" in attributes:
        sides = [max(pair) for pair in zip(sides, attributes["output_shape"][-rank:], strict=True)]
    channels = weights.shape[1] * max(1, attributes.get("group", 1))
    return [Extent((data.shape[0], channels, *sides), data.code, exact=False)]


def pooled(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Of pooling; one cell a channel without a kernel."""
    data = first(inputs)
    kernel = attributes.get("kernel_shape")
    if len(data.shape) < 3 or (kernel is not None and len(kernel) != len(data.shape) - 2):
        raise Unknown
    sides = _windows(data.shape[2:], attributes, kernel) if kernel is not None else (1,) * (len(data.shape) - 2)
    found = Extent((*data.shape[:2], *sides), data.code, data.exact)
    return [found, found]  # MaxPool may give the places, too


def resized(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Of Resize and Upsample: by scales or sizes that are known."""
    data = first(inputs)
    rank = len(data.shape)
    axes = [axis % rank for axis in attributes.get("axes", range(rank))] if rank else []
    sizes = _last(inputs, 3)
    scales = attributes.get("scales") or (_last(inputs, 2) or _last(inputs, 1) if sizes is None else None)
    sides = list(data.shape)
    if sizes is not None and len(sizes) == len(axes):
        for axis, size in zip(axes, sizes, strict=True):
            sides[axis] = int(size)
        if attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            raise Unknown
    elif scales is not None and len(scales) == len(axes) and all(0 <= scale < 1e9 for scale in scales):
        for axis, scale in zip(axes, scales, strict=True):
            sides[axis] = max(math.floor(sides[axis] * scale), int(np.float32(sides[axis]) * np.float32(scale)))
    else:
        raise Unknown
    if min(sides, default=0) < 0:
        raise Unknown
    return [Extent(tuple(sides), data.code, data.exact)]


def weights_of(inputs: Inputs) -> Extent:
    """A convolution's weights: the fourth input of QLinearConv, else the second."""
    second = first(inputs, 1)
    return second if len(second.shape) > 2 else first(inputs, 3)


def _last(inputs: Inputs, place: int) -> Sequence[float] | None:
    """Contents of an optional input; an empty one counts as left out."""
    extent = inputs[place] if place < len(inputs) else None
    if extent is None or extent.elements == 0:
        return None
    if extent.values is None:
        raise Unknown
    return [float(value) for value in extent.values.reshape(-1).tolist()]


def _per_axis(attributes: Attributes, name: str, rank: int) -> list[int]:
    values = list(attributes.get(name) or [1] * rank)
    if len(values) != rank or min(values) < 1:
        raise Unknown
    return values


def _windows(sides: Sequence[int], attributes: Attributes, kernel: Sequence[int]) -> list[int]:
    """Places of a window on each axis; at most a window a cell where the runtime chooses the padding."""
    rank = len(sides)
    strides, dilations = _per_axis(attributes, "strides", rank), _per_axis(attributes, "dilations", rank)
    pads = list(attributes.get("pads") or [0] * 2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0 or min(kernel, default=1) < 1:
        raise Unknown
    if attributes.get("auto_pad", b"NOTSET") in {b"SAME_UPPER", b"SAME_LOWER"}:
        return [-(-side // stride) for side, stride in zip(sides, strides, strict=True)]
    up = bool(attributes.get("ceil_mode", 0))
    found = []
    for axis, side in enumerate(sides):
        room = side + pads[axis] + pads[axis + rank] - (kernel[axis] - 1) * dilations[axis] - 1
        found.append(max(0, (-(-room // strides[axis]) if up else room // strides[axis]) + 1))
    return found
