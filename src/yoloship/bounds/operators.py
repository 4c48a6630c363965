"""The largest output shape of each kind of operator."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from yoloship.bounds.outline import (
    FLOAT,
    INT64,
    MAX_KNOWN,
    Extent,
    Unknown,
    all_exact,
    axes_of,
    broadcast,
    first,
    known,
    place_of,
    shape_values,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.bounds.outline import Attributes, Inputs, Outputs


def without(data: Extent, axes: list[int], *, keep: bool, code: int) -> Extent:
    """The value without these axes, or with an axis of 1 in their place."""
    gone = {place_of(axis, len(data.shape)) for axis in axes}
    sides = [1 if place in gone else side for place, side in enumerate(data.shape) if keep or place not in gone]
    return Extent(tuple(sides), code, data.exact)


def reshape(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Reshape: the number of elements stays. `0` keeps an axis, `-1` stands for all remaining elements."""
    data = first(inputs)
    wanted = list(attributes["shape"]) if "shape" in attributes else shape_values(inputs, 1)
    sides = [
        data.shape[place] if side == 0 and not attributes.get("allowzero", 0) and place < len(data.shape) else side
        for place, side in enumerate(wanted)
    ]
    if any(side < -1 for side in sides) or sides.count(-1) > 1:
        raise Unknown
    if -1 in sides:
        rest = math.prod(side for side in sides if side != -1)
        sides[sides.index(-1)] = -(-data.elements // rest) if rest else 0
    return [Extent(tuple(sides), data.code, data.exact)]


def flatten(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Flatten: two axes."""
    data = first(inputs)
    axis = attributes.get("axis", 1)
    axis += len(data.shape) if axis < 0 else 0
    return [Extent((math.prod(data.shape[:axis]), math.prod(data.shape[axis:])), data.code, data.exact)]


def squeeze(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Squeeze: without axes of 1."""
    data, axes = first(inputs), axes_of(attributes, inputs, 1)
    if axes is None:
        if not data.exact:
            raise Unknown
        axes = [place for place, side in enumerate(data.shape) if side == 1]
    return [without(data, axes, keep=False, code=data.code)]


def unsqueeze(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Unsqueeze: with more axes of 1."""
    data, axes = first(inputs), axes_of(attributes, inputs, 1) or []
    rank = len(data.shape) + len(axes)
    new, old = {place_of(axis, rank) for axis in axes}, iter(data.shape)
    if len(new) != len(axes):
        raise Unknown
    return [Extent(tuple(1 if place in new else next(old) for place in range(rank)), data.code, data.exact)]


def transpose(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Transpose: the axes in another order."""
    data = first(inputs)
    order = list(attributes.get("perm") or range(len(data.shape))[::-1])
    if sorted(order) != list(range(len(data.shape))):
        raise Unknown
    return [Extent(tuple(data.shape[axis] for axis in order), data.code, data.exact)]


def concatenated(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Concat: the sum of the extents along one axis."""
    parts = [part for part in inputs if part is not None]
    if not parts or any(len(part.shape) != len(parts[0].shape) for part in parts):
        raise Unknown
    axis = place_of(attributes.get("axis", 1), len(parts[0].shape))
    sides = [max(sides) for sides in zip(*(part.shape for part in parts), strict=True)]
    sides[axis] = sum(part.shape[axis] for part in parts)
    return [Extent(tuple(sides), parts[0].code, all_exact(*parts))]


def split(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Split: several pieces along one axis."""
    data = first(inputs)
    axis, count = place_of(attributes.get("axis", 0), len(data.shape)), attributes["outputs"]
    if "split" in attributes or len(inputs) > 1:
        sizes = list(attributes["split"]) if "split" in attributes else shape_values(inputs, 1)
    else:
        sizes = [-(-data.shape[axis] // count)] * count
    if len(sizes) < count or min(sizes, default=0) < 0:
        raise Unknown
    return [
        Extent((*data.shape[:axis], min(size, data.shape[axis]), *data.shape[axis + 1 :]), data.code, data.exact)
        for size in sizes
    ]


def sliced(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Slice: a piece of the value, or all of it if the piece is not known."""
    data = first(inputs)
    sides, exact = list(data.shape), data.exact
    try:
        starts = list(attributes["starts"]) if "starts" in attributes else shape_values(inputs, 1)
        ends = list(attributes["ends"]) if "ends" in attributes else shape_values(inputs, 2)
        axes = axes_of(attributes, inputs, 3) or list(range(len(starts)))
        steps = shape_values(inputs, 4) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            place = place_of(axis, len(sides))
            # With a negative step, a start before the first element means the first element, unlike in Python.
            begin = max(start, -sides[place]) if step < 0 else start
            stop = None if step < 0 and end < -sides[place] else end
            sides[place] = len(range(*slice(begin, stop, step).indices(sides[place])))
    except (Unknown, ValueError):  # a slice is never larger than its input
        sides, exact = list(data.shape), False
    if not data.exact:  # a start counted from the end may keep more of a smaller extent
        sides = list(data.shape)
    return [Extent(tuple(sides), data.code, exact)]


def gather(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Gather: rows by index."""
    data, indices = first(inputs), first(inputs, 1)
    axis = place_of(attributes.get("axis", 0), len(data.shape))
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return [Extent(shape, data.code, all_exact(data, indices))]


def gather_elements(_: Attributes, inputs: Inputs) -> Outputs:
    """GatherElements: one element for each index."""
    return [Extent(first(inputs, 1).shape, first(inputs).code, first(inputs, 1).exact)]


def gather_nd(attributes: Attributes, inputs: Inputs) -> Outputs:
    """GatherND: rows by several indices."""
    data, indices = first(inputs), first(inputs, 1)
    used = attributes.get("batch_dims", 0) + (indices.shape[-1] if indices.shape else 0)
    if not indices.exact:
        raise Unknown
    return [Extent((*indices.shape[:-1], *data.shape[used:]), data.code, all_exact(data, indices))]


def expand(_: Attributes, inputs: Inputs) -> Outputs:
    """Expand: the shape in its second input."""
    data, wanted = first(inputs), shape_values(inputs, 1)
    if min(wanted, default=0) < 0:
        raise Unknown
    return [Extent(broadcast(data, Extent(tuple(wanted))), data.code, data.exact)]


def tile(_: Attributes, inputs: Inputs) -> Outputs:
    """Tile: the extents times the repeats."""
    data, repeats = first(inputs), shape_values(inputs, 1)
    if len(repeats) != len(data.shape) or min(repeats, default=0) < 0:
        raise Unknown
    sides = (side * count for side, count in zip(data.shape, repeats, strict=True))
    return [Extent(tuple(sides), data.code, data.exact)]


def pad(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Pad: with margins."""
    data = first(inputs)
    pads = list(attributes["pads"]) if "pads" in attributes else shape_values(inputs, 1)
    axes = shape_values(inputs, 3) if len(inputs) > 3 and inputs[3] is not None else list(range(len(data.shape)))
    if len(pads) != 2 * len(axes):
        raise Unknown
    sides = list(data.shape)
    for place, axis in enumerate(axes):
        sides[place_of(axis, len(sides))] += max(0, pads[place]) + max(0, pads[place + len(axes)])
    return [Extent(tuple(sides), data.code, data.exact and min(pads, default=0) >= 0)]


def depth_to_space(attributes: Attributes, inputs: Inputs) -> Outputs:
    """DepthToSpace: channels become blocks of pixels."""
    data, block = first(inputs), attributes.get("blocksize", 0)
    if len(data.shape) != 4 or block < 1:
        raise Unknown
    batch, channels, height, width = data.shape
    shape = (batch, -(-channels // block**2), height * block, width * block)
    return [Extent(shape, data.code, data.exact)]


def space_to_depth(attributes: Attributes, inputs: Inputs) -> Outputs:
    """SpaceToDepth: blocks of pixels become channels."""
    data, block = first(inputs), attributes.get("blocksize", 0)
    if len(data.shape) != 4 or block < 1:
        raise Unknown
    batch, channels, height, width = data.shape
    shape = (batch, channels * block**2, -(-height // block), -(-width // block))
    return [Extent(shape, data.code, data.exact)]


def shape_of(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Shape: its contents are known if the extents are exact."""
    data = first(inputs)
    sides = np.array(data.shape, np.int64)[attributes.get("start", 0) : attributes.get("end")]
    return [Extent(sides.shape, INT64, values=sides if data.exact else None)]


def size_of(_: Attributes, inputs: Inputs) -> Outputs:
    """Size: its content is known if the extents are exact."""
    data = first(inputs)
    fits = data.exact and data.elements < 1 << 62
    return [Extent((), INT64, values=np.array(data.elements, np.int64) if fits else None)]


def constant(attributes: Attributes, _: Inputs) -> Outputs:
    """Constant: the stored value."""
    if "value" in attributes:
        return [stored(attributes["value"])]
    for name, code, dtype in (
        ("value_int", INT64, np.int64), ("value_ints", INT64, np.int64), ("value_float", FLOAT, np.float32),
        ("value_floats", FLOAT, np.float32),
    ):  # fmt: skip
        if name in attributes:
            return [known(np.array(attributes[name], dtype), code)]
    raise Unknown


def constant_of_shape(attributes: Attributes, inputs: Inputs) -> Outputs:
    """ConstantOfShape: the shape in its input."""
    wanted = shape_values(inputs, 0)
    if min(wanted, default=0) < 0:
        raise Unknown
    value = stored(attributes["value"]) if "value" in attributes else known(np.zeros(1, np.float32), FLOAT)
    small = math.prod(wanted) <= MAX_KNOWN and value.values is not None and value.values.size == 1
    values = np.broadcast_to(value.values.reshape(-1)[0], wanted) if small and value.values is not None else None
    return [Extent(tuple(wanted), value.code, values=values)]


def ranged(_: Attributes, inputs: Inputs) -> Outputs:
    """Range: as many elements as start, limit and step give."""
    parts = [first(inputs, place) for place in range(3)]
    values = [part.values for part in parts]
    if any(value is None or value.size != 1 for value in values):
        raise Unknown
    start, limit, delta = (value.reshape(-1)[0].item() for value in values if value is not None)
    if not delta or not math.isfinite((limit - start) / delta):
        raise Unknown
    count = max(0, math.ceil((limit - start) / delta))
    dtype = next(value.dtype for value in values if value is not None)
    numbers = (start + delta * np.arange(count)).astype(dtype) if count <= MAX_KNOWN else None
    return [Extent((count,), parts[0].code, values=numbers)]


def non_zero(_: Attributes, inputs: Inputs) -> Outputs:
    """NonZero: at most the indices of all elements."""
    data = first(inputs)
    return [Extent((max(1, len(data.shape)), data.elements), INT64, exact=False)]


def top_k(attributes: Attributes, inputs: Inputs) -> Outputs:
    """TopK: as many as its second input says, and at most all."""
    data = first(inputs)
    axis = place_of(attributes.get("axis", -1), len(data.shape))
    sides, exact = list(data.shape), False
    count = attributes.get("k", inputs[1].values if len(inputs) > 1 and inputs[1] is not None else None)
    if count is not None and sides:
        sides[axis], exact = max(0, min(sides[axis], int(np.max(count)))), data.exact
    return [Extent(tuple(sides), data.code, exact), Extent(tuple(sides), INT64, exact)]


def grid_sample(_: Attributes, inputs: Inputs) -> Outputs:
    """GridSample: one sample for each place of the grid."""
    data, grid = first(inputs), first(inputs, 1)
    if len(data.shape) < 3 or len(grid.shape) != len(data.shape):
        raise Unknown
    return [Extent((*data.shape[:2], *grid.shape[1:-1]), data.code, all_exact(data, grid))]


def non_max_suppression(_: Attributes, inputs: Inputs) -> Outputs:
    """NonMaxSuppression: at most as many boxes of each class as its third input says."""
    batch, classes, rows = first(inputs, 1).shape
    return [Extent((batch * classes * kept_by_suppression(inputs, rows), 3), INT64, exact=False)]


def kept_by_suppression(inputs: Inputs, rows: int) -> int:
    """The most boxes of a class that NonMaxSuppression keeps.

    Args:
        inputs: Of the node.
        rows: Boxes of an image.
    """
    if len(inputs) < 3 or inputs[2] is None:  # the standard's default is that none is kept
        return 0
    if inputs[2].values is None:
        raise Unknown
    return max(0, min(rows, int(np.max(inputs[2].values))))


_EINSUM = re.compile(r"[a-zA-Z]+(,[a-zA-Z]+)*->[a-zA-Z]*")


def einsum(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Einsum with an explicit result and without an ellipsis."""
    sides = einsum_sides(attributes, inputs)
    result = attributes["equation"].decode().replace(" ", "").partition("->")[2]
    given = [extent for extent in inputs if extent is not None]
    return [Extent(tuple(sides[letter] for letter in result), given[0].code, all_exact(*given))]


def einsum_sides(attributes: Attributes, inputs: Inputs) -> dict[str, int]:
    """The extent of each letter of Einsum's equation; their product is the number of its multiply-adds."""
    equation = attributes["equation"].decode().replace(" ", "")
    if _EINSUM.fullmatch(equation) is None:
        raise Unknown
    sides: dict[str, int] = {}
    for letters, extent in zip(equation.partition("->")[0].split(","), inputs, strict=True):
        if extent is None:
            raise Unknown
        for letter, side in zip(letters, extent.shape, strict=True):
            sides[letter] = max(side, sides.get(letter, 1))
    return sides


def one_hot(attributes: Attributes, inputs: Inputs) -> Outputs:
    """OneHot: one more axis, with the depth in its second input."""
    (depth,) = shape_values(inputs, 1)
    indices = first(inputs)
    axis = attributes.get("axis", -1)
    rank = len(indices.shape) + 1
    place = place_of(axis, rank)
    return [Extent((*indices.shape[:place], max(0, depth), *indices.shape[place:]), FLOAT, indices.exact)]


def convolved(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The output shape of Conv and its quantized forms."""
    data = first(inputs)
    weights = weights_of(inputs)
    if len(data.shape) < 3 or len(weights.shape) != len(data.shape):
        raise Unknown
    sides = _windows(data.shape[2:], attributes, weights.shape[2:])
    return [Extent((data.shape[0], weights.shape[0], *sides), data.code, all_exact(data, weights))]


def transposed_convolved(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The output shape of ConvTranspose."""
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
    pads = list(attributes.get("pads") or [0] * 2 * rank)
    fixed = "output_shape" not in attributes and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    cut = [side - before - after for side, before, after in zip(sides, pads, pads[rank:], strict=False)]
    exact = fixed and len(pads) == 2 * rank and min(pads) >= 0 and min(cut) > 0
    if exact:
        sides = cut
    elif "output_shape" in attributes:
        sides = [max(pair) for pair in zip(sides, attributes["output_shape"][-rank:], strict=True)]
    channels = weights.shape[1] * max(1, attributes.get("group", 1))
    return [Extent((data.shape[0], channels, *sides), data.code, exact and all_exact(data, weights))]


def pooled(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The output shape of pooling. Without a kernel, each channel has one cell."""
    data = first(inputs)
    kernel = attributes.get("kernel_shape")
    if len(data.shape) < 3 or (kernel is not None and len(kernel) != len(data.shape) - 2):
        raise Unknown
    sides = _windows(data.shape[2:], attributes, kernel) if kernel is not None else (1,) * (len(data.shape) - 2)
    found = Extent((*data.shape[:2], *sides), data.code, data.exact)
    return [found, found]  # MaxPool may give the places, too


def resized(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The output shape of Resize and Upsample, if the scales or sizes are known."""
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
    """Contents of an optional input; None if it is omitted or empty."""
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
    """Positions of a window along each axis. If the runtime chooses the padding, at most one position for each cell."""
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
