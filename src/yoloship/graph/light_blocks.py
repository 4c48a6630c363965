"""Blocks of forks for small devices: ShuffleNet, MobileNet, RepVGG and the like, as YOLOv5-Lite and others add them.

Their structure is that of the papers named below and of published checkpoints; the reference outputs in the tests hold
them to it. Each writer takes `emit`, which finds the writers of its children.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yoloship.graph.linear import emit_linear, is_linear, read_linear
from yoloship.graph.norms import emit_conv_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from yoloship.graph.builder import Builder
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part

    Emit: TypeAlias = Callable[[Builder, Part, Sequence[Wire]], Wire]
    LightBlock: TypeAlias = Callable[[Emit, Builder, Part, Wire], Wire]


def _chain(*names: str) -> LightBlock:
    """A writer of children that follow one another."""

    def block(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
        for name in names:
            x = emit(builder, part.child(name), (x,))
        return x

    return block


def _shuffle(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    """Ma et al., ShuffleNet V2, 2018, figure 3 c and d: two branches side by side, then their channels interleaved."""
    if part.integer("stride", 1) == 1:
        first, second = _halves(builder, part, x)
    else:
        first, second = emit(builder, part.child("branch1"), (x,)), x
    second = emit(builder, part.child("branch2"), (second,))
    channels = first.channels + second.channels
    if first.hw != second.hw or channels % 2:
        raise part.error("its branches do not fit each other", got=f"{first.shape} and {second.shape}")
    shape = (x.shape[0], channels, *first.hw)
    both = builder.node("Concat", f"{part.place}.concat", (first, second), shape, axis=1)
    order = builder.constant(f"{part.place}.order", np.arange(channels).reshape(2, -1).T.ravel(), "int64")
    return builder.node("Gather", part.place, (both, order), shape, axis=1)


def _halves(builder: Builder, part: Part, x: Wire) -> tuple[Wire, Wire]:
    """The first and the second half of the channels; of an odd number the first has one more."""
    first = -(-x.channels // 2)
    sizes = (first, x.channels - first)
    if min(sizes) < 1:
        raise part.error("has too few channels to halve", got=x.channels)
    split = builder.constant(f"{part.place}.halves.sizes", np.array(sizes), "int64")
    shapes = [(x.shape[0], size, *x.hw) for size in sizes]
    one, other = builder.nodes("Split", f"{part.place}.halves", (x, split), shapes, axis=1)
    return one, other


def _depthwise_separable(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:  # noqa: ARG001 - one signature
    """Howard et al., MobileNets, 2017, figure 3: two convolutions, each with batch-norm and ReLU."""
    for number in ("1", "2"):
        y = emit_conv_norm(builder, part.child(f"conv{number}"), part.optional_child(f"bn{number}"), x)
        x = builder.node("Relu", f"{part.place}.relu{number}", (y,), y.shape)
    return x


def _inverted_residual(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    """Howard et al., Searching for MobileNetV3, 2019, figure 4."""
    y = emit(builder, part.child("conv"), (x,))
    if not part.flag("identity"):
        return y
    if y.shape != x.shape:
        raise part.error("adds values of two shapes", expected=str(x.shape), got=y.shape)
    return builder.node("Add", f"{part.place}.add", (x, y), x.shape)


def _squeeze(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    """Hu et al., Squeeze-and-Excitation Networks, 2017: each channel times a factor that all the means give."""
    gate = emit(builder, part.child("avg_pool"), (x,))
    for layer in part.child("fc").parts():
        if is_linear(layer):
            gate = emit_linear(builder, layer, *read_linear(layer, gate.channels), gate)
        else:
            gate = emit(builder, layer, (gate,))
    return _scaled(builder, part, x, gate)


def _squeeze_by(*names: str) -> LightBlock:
    """The same with its layers as children of these names."""
    inner = _chain(*names)

    def block(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
        return _scaled(builder, part, x, inner(emit, builder, part, x))

    return block


def _scaled(builder: Builder, part: Part, x: Wire, gate: Wire) -> Wire:
    if gate.shape != (x.shape[0], x.channels, 1, 1):
        raise part.error("gives another number of factors than channels", expected=str(x.channels), got=gate.shape)
    return builder.node("Mul", part.place, (x, gate), x.shape)


def _re_parametrised(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    """Ding et al., RepVGG, 2021, figure 2: branches that are added for training, or the one that they became."""
    merged = part.optional_child("rbr_reparam")
    if merged is not None:
        y = emit(builder, merged, (x,))
    else:
        names = ("rbr_dense", "rbr_1x1", "rbr_identity")
        branches = [emit(builder, branch, (x,)) for name in names if (branch := part.optional_child(name)) is not None]
        if not branches or any(branch.shape != branches[0].shape for branch in branches):
            raise part.error("its branches do not fit each other", got=[branch.shape for branch in branches])
        y = branches[0]
        for index, further in enumerate(branches[1:], start=1):
            y = builder.node("Add", f"{part.place}.add.{index}", (y, further), y.shape)
    if part.optional_child("se") is not None:
        y = emit(builder, part.child("se"), (y,))
    name = "nonlinearity" if part.optional_child("nonlinearity") is not None else "act"
    return emit(builder, part.child(name), (y,))


def _conv_hardswish(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    y = emit_conv_norm(builder, part.child("conv"), part.optional_child("bn"), x)
    return emit(builder, part.child("hardswish"), (y,))


def _lc_block(emit: Emit, builder: Builder, part: Part, x: Wire) -> Wire:
    """Cui et al., PP-LCNet, 2021, figure 2: depthwise, squeeze and excitation if it has it, pointwise."""
    names = ("dw_conv", "se", "pw_conv") if part.flag("use_se") else ("dw_conv", "pw_conv")
    return _chain(*names)(emit, builder, part, x)


LIGHT: Mapping[str, LightBlock] = MappingProxyType(
    {
        "conv_bn_relu_maxpool": _chain("conv", "maxpool"),
        "CBRM": _chain("conv", "maxpool"),
        "Shuffle_Block": _shuffle,
        "DWConvblock": _depthwise_separable,
        "MobileNet_Block": _inverted_residual,
        "SELayer": _squeeze,
        "RepConv": _re_parametrised,
        "RepVGGBlock": _re_parametrised,
        "CBH": _conv_hardswish,
        "LC_Block": _lc_block,
        "LC_SEModule": _squeeze_by("avg_pool", "conv1", "relu", "conv2", "SiLU"),
        "ES_SEModule": _squeeze_by("avg_pool", "conv1", "relu", "conv2", "hardsigmoid"),
        "Dense": _chain("dense_conv", "hardswish", "dropout"),
    }
)
"""By class name, of ``models.common``."""
