"""Normalising layers that no convolution before them takes in: batch-norm, also without statistics, and group norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph.convolution import emit_convolution, folded, has_statistics, is_norm, read_norm

if TYPE_CHECKING:
    from yoloship.graph.builder import Builder
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part


def emit_conv_norm(builder: Builder, conv: Part, norm: Part | None, x: Wire) -> Wire:
    """Write a Conv2d and the norm after it, if there is one; as one node if the norm is a plain batch-norm."""
    convolution, left = folded(conv, norm)
    y = emit_convolution(builder, conv, convolution, x)
    return y if left is None else emit_norm(builder, left, y)


def emit_norm(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write a normalising layer of torch.nn.

    Raises:
        GraphError: it is another layer.
    """
    if part.torch_name == "GroupNorm":
        return _group_norm(builder, part, x)
    if not is_norm(part):
        raise part.error("is not supported in this place", expected="torch.nn.BatchNorm2d or GroupNorm")
    if not has_statistics(part):
        return _batch_statistics(builder, part, x)
    scale, shift = read_norm(part, x.channels)
    factor = builder.constant(f"{part.place}.scale", scale.reshape(-1, 1, 1))
    scaled = builder.node("Mul", f"{part.place}.mul", (x, factor), x.shape)
    return builder.node(
        "Add", part.place, (scaled, builder.constant(f"{part.place}.shift", shift.reshape(-1, 1, 1))), x.shape
    )


def _batch_statistics(builder: Builder, part: Part, x: Wire) -> Wire:
    """Batch-norm that kept no running statistics: mean and variance of the whole batch, in evaluation too."""
    if not isinstance(x.shape[0], int):
        raise part.error(
            "takes its statistics from the whole batch, so an image's result would depend on the others in its run",
            expected="a fixed batch", got="a dynamic one", hint="export it with --batch 1",
        )  # fmt: skip
    return _affine(builder, part, _standardised(builder, part, x, part.place, ((0, 2, 3),)))


def _group_norm(builder: Builder, part: Part, x: Wire) -> Wire:
    """Wu and He, Group Normalization, 2018: the channels of a group share mean and variance, for each image alone."""
    groups, place = part.integer("num_groups", 1, 1 << 20), part.place
    if x.channels % groups:
        raise part.error("groups do not divide the channels", got=f"{x.channels} in {groups} groups")
    height, width = x.hw
    each = x.channels // groups
    flat = builder.constant(f"{place}.groups.shape", np.array([0, groups, each, -1]), "int64")
    grouped_shape = (x.shape[0], groups, each, height * width)
    grouped = builder.node("Reshape", f"{place}.groups", (x, flat), grouped_shape)
    normal = _standardised(builder, part, grouped, f"{place}.normal", ((3,), (2,)))
    if builder.dynamic_hw:
        back = builder.node("Shape", f"{place}.shape", (x,), (4,), "int64")
    else:
        back = builder.constant(f"{place}.shape", np.array([0, x.channels, height, width]), "int64")
    return _affine(builder, part, builder.node("Reshape", place, (normal, back), x.shape))


def _standardised(builder: Builder, part: Part, x: Wire, name: str, steps: tuple[tuple[int, ...], ...]) -> Wire:
    """(x - mean) / sqrt(variance + eps), both over these axes.

    Means of equal parts are taken one after the other, because sums in float32 lose digits as they grow: over 1.6
    million values of mean 20 and deviation 3 in one step, and by ONNX's InstanceNormalization as well, the result is
    off by 1.4e-4 (ONNX Runtime 1.32).
    """
    place = part.place
    mean = _mean(builder, x, f"{place}.mean", steps)
    centred = builder.node("Sub", f"{place}.centred", (x, mean), x.shape)
    squared = builder.node("Mul", f"{place}.squared", (centred, centred), x.shape)
    variance = _mean(builder, squared, f"{place}.variance", steps)
    eps = builder.constant(f"{place}.eps", np.float64(_eps(part)))
    spread = builder.node("Add", f"{place}.spread", (variance, eps), variance.shape)
    deviation = builder.node("Sqrt", f"{place}.deviation", (spread,), spread.shape)
    return builder.node("Div", name, (centred, deviation), x.shape)


def _mean(builder: Builder, x: Wire, name: str, steps: tuple[tuple[int, ...], ...]) -> Wire:
    for axes in steps:
        shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
        x = builder.node("ReduceMean", name, (x,), shape, axes=axes, keepdims=1)
    return x


def _affine(builder: Builder, part: Part, x: Wire) -> Wire:
    """Weight and bias of each channel, where the layer has them."""
    for op, name in (("Mul", "weight"), ("Add", "bias")):
        values = part.optional_array(name, x.channels)
        if values is not None:
            constant = builder.constant(f"{part.place}.{name}", values.reshape(-1, 1, 1))
            x = builder.node(op, f"{part.place}.{name}", (x, constant), x.shape)
    return x


def _eps(part: Part) -> float:
    eps = part.number("eps")
    if eps < 0:
        raise part.error("bad 'eps'", expected="a number that is not negative", got=eps)
    return eps
