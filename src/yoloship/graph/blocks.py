"""The blocks of YOLO networks and of their light forks, and `emit`, which finds the writer of any module.

What a block computes is known from its paper and from the reference outputs in the tests. A class whose meaning changed
between releases (MixConv2d: with and without a shortcut) is refused, because a guess could be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yoloship.checkpoint.records import Opaque
from yoloship.graph import activations
from yoloship.graph.convolution import (
    after_space_to_depth,
    emit_conv_norm,
    emit_convolution,
    emit_linear,
    emit_norm,
    folded,
    has_statistics,
    is_linear,
    is_norm,
    read_conv,
    read_linear,
    read_norm,
    scaled,
    takes_space_to_depth,
)
from yoloship.graph.layers import LAYERS, max_pool, transformer, transposed_convolution

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

    from yoloship.errors import GraphError
    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView

    Block: TypeAlias = Callable[[Builder, ModuleView, Wire], Wire]
    Join: TypeAlias = Callable[[Builder, ModuleView, Sequence[Wire]], Wire]


def _chain(*names: str) -> Block:
    """A writer of children that follow one another."""

    def block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
        for name in names:
            x = emit(builder, module.child(name), (x,))
        return x

    return block


def _shuffle(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Ma et al., ShuffleNet V2, 2018, figure 3 c and d: two branches side by side, then their channels interleaved."""
    if module.integer("stride", 1) == 1:
        first, second = _halves(builder, module, x)
    else:
        first, second = emit(builder, module.child("branch1"), (x,)), x
    second = emit(builder, module.child("branch2"), (second,))
    channels = first.channels + second.channels
    if first.hw != second.hw or channels % 2:
        raise module.error("its branches do not fit each other", got=f"{first.shape} and {second.shape}")
    shape = (x.shape[0], channels, *first.hw)
    both = builder.node("Concat", f"{module.place}.concat", (first, second), shape, axis=1)
    order = builder.constant(f"{module.place}.order", np.arange(channels).reshape(2, -1).T.ravel(), "int64")
    return builder.node("Gather", module.place, (both, order), shape, axis=1)


def _halves(builder: Builder, module: ModuleView, x: Wire) -> tuple[Wire, Wire]:
    """The first and the second half of the channels. If their number is odd, the first half has one more."""
    first = -(-x.channels // 2)
    sizes = (first, x.channels - first)
    if min(sizes) < 1:
        raise module.error("has too few channels to halve", got=x.channels)
    split = builder.constant(f"{module.place}.halves.sizes", np.array(sizes), "int64")
    shapes = [(x.shape[0], size, *x.hw) for size in sizes]
    first_half, second_half = builder.nodes("Split", f"{module.place}.halves", (x, split), shapes, axis=1)
    return first_half, second_half


def _depthwise_separable(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Howard et al., MobileNets, 2017, figure 3: two convolutions, each with batch-norm and ReLU."""
    for number in ("1", "2"):
        y = emit_conv_norm(builder, module.child(f"conv{number}"), module.optional_child(f"bn{number}"), x)
        x = builder.node("Relu", f"{module.place}.relu{number}", (y,), y.shape)
    return x


def _inverted_residual(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Howard et al., Searching for MobileNetV3, 2019, figure 4."""
    y = emit(builder, module.child("conv"), (x,))
    if not module.flag("identity"):
        return y
    if y.shape != x.shape:
        raise module.error("adds values of two shapes", expected=str(x.shape), got=y.shape)
    return builder.node("Add", f"{module.place}.add", (x, y), x.shape)


def _squeeze(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Hu et al., Squeeze-and-Excitation Networks, 2017: each channel times a factor computed from all the means."""
    gate = emit(builder, module.child("avg_pool"), (x,))
    for layer in module.child("fc").submodules():
        if is_linear(layer):
            gate = emit_linear(builder, layer, *read_linear(layer, gate.channels), gate)
        else:
            gate = emit(builder, layer, (gate,))
    return _scaled(builder, module, x, gate)


def _squeeze_by(*names: str) -> Block:
    """Squeeze-and-excitation whose layers are children of these names."""
    inner = _chain(*names)

    def block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
        return _scaled(builder, module, x, inner(builder, module, x))

    return block


def _scaled(builder: Builder, module: ModuleView, x: Wire, gate: Wire) -> Wire:
    if gate.shape != (x.shape[0], x.channels, 1, 1):
        raise module.error(
            "gives a different number of factors than channels", expected=str(x.channels), got=gate.shape
        )
    return builder.node("Mul", module.place, (x, gate), x.shape)


def _re_parametrised(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Ding et al., RepVGG, 2021, figure 2: the branches of training, or the one convolution that replaces them."""
    merged = module.optional_child("rbr_reparam")
    if merged is not None:
        y = emit(builder, merged, (x,))
    else:
        names = ("rbr_dense", "rbr_1x1", "rbr_identity")
        branches = [
            emit(builder, branch, (x,)) for name in names if (branch := module.optional_child(name)) is not None
        ]
        if not branches or any(branch.shape != branches[0].shape for branch in branches):
            raise module.error("its branches do not fit each other", got=[branch.shape for branch in branches])
        y = branches[0]
        for index, further in enumerate(branches[1:], start=1):
            y = builder.node("Add", f"{module.place}.add.{index}", (y, further), y.shape)
    if module.optional_child("se") is not None:
        y = emit(builder, module.child("se"), (y,))
    name = "nonlinearity" if module.optional_child("nonlinearity") is not None else "act"
    return emit(builder, module.child(name), (y,))


def _conv_hardswish(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    y = emit_conv_norm(builder, module.child("conv"), module.optional_child("bn"), x)
    return emit(builder, module.child("hardswish"), (y,))


def _lc_block(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Cui et al., PP-LCNet, 2021, figure 2: depthwise, squeeze-and-excitation if the block has it, pointwise."""
    names = ("dw_conv", "se", "pw_conv") if module.flag("use_se") else ("dw_conv", "pw_conv")
    return _chain(*names)(builder, module, x)


LIGHT: Mapping[str, Block] = MappingProxyType(
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


@dataclass(frozen=True, slots=True)
class BlockTable:
    """The writers of one family's modules.

    Attributes:
        path: Matches the class paths of the family's modules. A module of the same name in another package may compute
            something else.
        official: The package of these modules, for messages.
        head_package: The package of the family's heads, for messages.
        blocks: Writers of modules with one input and one output, by class name.
        joins: Writers of modules with several inputs, by class name.
    """

    path: re.Pattern[str]
    official: str
    head_package: str
    blocks: Mapping[str, Block]
    joins: Mapping[str, Join]

    def owns(self, module: ModuleView) -> bool:
        """Whether a module is one of the family's, by its class path."""
        return self.path.fullmatch(module.class_path) is not None

    def find(self, module: ModuleView) -> Block | None:
        """The writer of a module with one input; None if the family has none."""
        return self.blocks.get(module.class_name) if self.owns(module) else None


def emit(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    """Write any module.

    Args:
        builder: Takes the nodes.
        module: The module.
        inputs: Its inputs: one value, or several if the module joins them.

    Raises:
        GraphError: the class is unknown, or this module of a known class cannot be written.
    """
    builder.visit(module)
    table, name = builder.blocks, module.class_name
    assert table is not None, "a builder that writes modules has a table of blocks"
    if name in table.joins and table.owns(module):
        return table.joins[name](builder, module, inputs)
    block = table.find(module)
    if block is None and module.torch_name is not None:
        block = CONTAINERS.get(name) or LAYERS.get(name)
    if block is None:
        block = activations.find(module)
    if block is None:
        raise _unknown(module, table)
    if len(inputs) != 1:
        raise module.error("takes one input", got=len(inputs))
    return activations.written(block, builder, module, inputs[0])


def _unknown(module: ModuleView, table: BlockTable) -> GraphError:
    hint = "nothing was guessed"
    if module.torch_name is None:
        name = module.class_path[:80]
        hint += "; if it is an official block under another name, say so with "
        hint += f"--alias {name}={table.official}.NAME (aliases in Python)"
    return module.error("is not a block that this version can write", hint=hint)


def add(builder: Builder, module: ModuleView, first: Wire, second: Wire, name: str | None = None) -> Wire:
    """Write a sum of two values of one shape."""
    if first.shape != second.shape:
        raise module.error("adds values of two shapes", expected=str(first.shape), got=second.shape)
    return builder.node("Add", name or module.place, (first, second), first.shape)


def concat(builder: Builder, module: ModuleView, values: Sequence[Wire], name: str | None = None) -> Wire:
    """Write a concatenation along the channels."""
    first = values[0]
    for value in values:
        if value.hw != first.hw:
            raise module.error("joins maps of two sizes", expected=str(first.hw), got=value.hw)
    channels = sum(value.channels for value in values)
    return builder.node(
        "Concat", name or f"{module.place}.concat", values, (first.shape[0], channels, *first.hw), axis=1
    )


def _sequential(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """One child after the other. A batch-norm after a convolution is folded into the convolution."""
    children = module.submodules()
    folds = False
    for child, after in zip(children, (*children[1:], None), strict=False):
        if folds:  # this is the batch-norm that the convolution before it took in
            folds = False
            continue
        folds = child.torch_name == "Conv2d" and after is not None and is_norm(after)
        if folds:
            builder.visit(child)
        x = emit_conv_norm(builder, child, after, x) if folds else emit(builder, child, (x,))
    return x


def _conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Convolution, batch-norm (absent if the model was fused), activation."""
    y = emit_conv_norm(builder, module.child("conv"), module.optional_child("bn"), x)
    return activations.activate(builder, module.child("act"), y)


def _shortcut(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """cv1, then cv2, and the input added if `add` is true."""
    y = emit(builder, module.child("cv2"), (emit(builder, module.child("cv1"), (x,)),))
    return add(builder, module, x, y, f"{module.place}.add") if module.flag("add") else y


def _csp(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Wang et al., CSPNet, 2019, as BottleneckCSP: batch-norm and activation follow the concatenation of two branches.

    The batch-norm is folded into the two convolutions before it, a share into each.
    """
    deep = emit(builder, module.child("m"), (emit(builder, module.child("cv1"), (x,)),))
    ways = ((module.child("cv3"), deep), (module.child("cv2"), x))
    convolutions = [read_conv(conv) for conv, _ in ways]
    norm = module.child("bn")
    left = not is_norm(norm) or not has_statistics(norm)
    if not left:
        scale, shift = read_norm(norm, sum(c.out_channels for c in convolutions))
        rows = np.cumsum([0] + [c.out_channels for c in convolutions])
        convolutions = [
            scaled(convolution, scale[start:end], shift[start:end])
            for convolution, start, end in zip(convolutions, rows, rows[1:], strict=False)
        ]
    values = [emit_convolution(builder, conv, c, value) for (conv, value), c in zip(ways, convolutions, strict=True)]
    y = concat(builder, module, values)
    y = emit_norm(builder, norm, y) if left else y
    return emit(builder, module.child("cv4"), (activations.activate(builder, module.child("act"), y),))


def _c3(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """CSP with three convolutions; its variants (C3TR, C3Ghost, C3SPP, C3x) differ in what `m` holds."""
    deep = emit(builder, module.child("m"), (emit(builder, module.child("cv1"), (x,)),))
    side = emit(builder, module.child("cv2"), (x,))
    return emit(builder, module.child("cv3"), (concat(builder, module, (deep, side)),))


def _spp(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """He et al., Spatial Pyramid Pooling, 2014: pools of several sizes side by side."""
    x = emit(builder, module.child("cv1"), (x,))
    pools = [emit(builder, pool, (x,)) for pool in module.child("m").submodules()]
    return emit(builder, module.child("cv2"), (concat(builder, module, (x, *pools)),))


def _sppf(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Spatial pyramid pooling by one pool that runs three times in a row."""
    values = [emit(builder, module.child("cv1"), (x,))]
    pool = module.child("m")
    if pool.torch_name != "MaxPool2d":
        raise pool.error("is not supported in this place", expected="torch.nn.MaxPool2d")
    for index in range(3):
        values.append(max_pool(builder, pool, values[-1], f"{pool.place}.{index}"))
    return emit(builder, module.child("cv2"), (concat(builder, module, values),))


def _focus(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Four interleaved quarters of the image, stacked, then a convolution. One larger convolution computes both."""
    inner = module.child("conv")
    conv = inner.child("conv")
    if builder.blocks is None or builder.blocks.find(inner) is not _conv:
        raise inner.error("is not supported in this place", expected="models.common.Conv")
    if any(extent % 2 for extent in x.hw):
        raise module.error("takes maps of even height and width", got=x.hw)
    convolution, left = folded(conv, inner.optional_child("bn"))
    if not takes_space_to_depth(convolution):
        raise conv.error("is not supported in this place", expected="no groups, no dilation")
    y = emit_convolution(builder, conv, after_space_to_depth(convolution), x)
    y = y if left is None else emit_norm(builder, left, y)
    return activations.activate(builder, inner.child("act"), y)


def _contract(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Move cells of gain x gain pixels into channels: ONNX's SpaceToDepth."""
    gain, (height, width) = module.integer("gain", 1), x.hw
    if height % gain or width % gain:
        raise module.error(f"takes maps whose sides are multiples of {gain}", got=x.hw)
    shape = (x.shape[0], x.channels * gain**2, height // gain, width // gain)
    return builder.node("SpaceToDepth", module.place, (x,), shape, blocksize=gain)


def _expand(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Move channels into cells of gain x gain pixels: ONNX's DepthToSpace in DCR order."""
    gain, (height, width) = module.integer("gain", 1), x.hw
    if x.channels % gain**2:
        raise module.error(f"takes channels in multiples of {gain**2}", got=x.channels)
    shape = (x.shape[0], x.channels // gain**2, height * gain, width * gain)
    return builder.node("DepthToSpace", module.place, (x,), shape, blocksize=gain, mode="DCR")


def _ghost_conv(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Han et al., GhostNet, 2020: a cheap convolution computes half of the channels from the other half."""
    primary = emit(builder, module.child("cv1"), (x,))
    return concat(builder, module, (primary, emit(builder, module.child("cv2"), (primary,))))


def _ghost_bottleneck(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    y = emit(builder, module.child("conv"), (x,))
    return add(builder, module, y, emit(builder, module.child("shortcut"), (x,)), f"{module.place}.add")


def _transformer(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    if module.optional_child("conv") is not None:
        x = emit(builder, module.child("conv"), (x,))
    return transformer(builder, module, x)


def _weighted_sum(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    """x0 + a·x1."""
    if len(inputs) != 2:
        raise module.error("takes two inputs", got=len(inputs))
    first, second = inputs
    weight = module.number("a")
    if weight != 1:
        factor = builder.constant(f"{module.place}.a", np.float64(weight))
        second = builder.node("Mul", f"{module.place}.mul", (second, factor), second.shape)
    return add(builder, module, first, second)


def _concat(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    module.require("d", 1)
    return concat(builder, module, inputs, module.place)


def _sum(builder: Builder, module: ModuleView, inputs: Sequence[Wire]) -> Wire:
    """x0 + Σ 2σ(w_i)·x_i, or the plain sum: Tan et al., EfficientDet, 2019, section 3.3, in this family's form."""
    steps = module.optional_value("iter")  # the `range` that its forward goes through
    if isinstance(steps, Opaque) and steps.arguments != (0, len(inputs) - 1, 1):
        raise module.error("adds a different number of inputs", expected=str(len(inputs) - 1), got=steps.arguments)
    weights = np.ones(len(inputs) - 1)
    if module.flag("weight"):
        weights = 2 / (1 + np.exp(-module.array("w", len(inputs) - 1)))
    total = inputs[0]
    for index, (weight, value) in enumerate(zip(weights, inputs[1:], strict=True), start=1):
        if module.flag("weight"):
            factor = builder.constant(f"{module.place}.w.{index}", weight)
            value = builder.node("Mul", f"{module.place}.mul.{index}", (value, factor), value.shape)  # noqa: PLW2901
        total = add(builder, module, total, value, f"{module.place}.add.{index}")
    return total


CONTAINERS: Mapping[str, Block] = MappingProxyType({"Sequential": _sequential})
"""By class name, of torch.nn."""

BLOCKS: Mapping[str, Block] = MappingProxyType(
    {
        "Conv": _conv,
        "DWConv": _conv,
        "DWConvTranspose2d": transposed_convolution,
        "Bottleneck": _shortcut,
        "CrossConv": _shortcut,
        "BottleneckCSP": _csp,
        "C3": _c3,
        "C3TR": _c3,
        "C3Ghost": _c3,
        "C3SPP": _c3,
        "C3x": _c3,
        "SPP": _spp,
        "SPPF": _sppf,
        "Focus": _focus,
        "Contract": _contract,
        "Expand": _expand,
        "Proto": _chain("cv1", "upsample", "cv2", "cv3"),
        "GhostConv": _ghost_conv,
        "GhostBottleneck": _ghost_bottleneck,
        "TransformerBlock": _transformer,
        "conv_bn_hswish": _conv,
        **LIGHT,
    }
)
"""YOLOv5's by class name, of ``models.common`` and ``models.experimental``; each takes and gives one value."""

JOINS: Mapping[str, Join] = MappingProxyType({"Concat": _concat, "Sum": _sum, "ADD": _weighted_sum})
"""YOLOv5's by class name; these take several values."""
