"""Single layers of torch.nn, and the transformer block inside C3TR.

A linear layer works on each pixel alone, so it is written as a 1x1 convolution. Linear layers that follow one another
directly (q, k, v before the attention's own projection; fc1 before fc2; p + linear(p)) are multiplied out in float64.
Vaswani et al., Attention Is All You Need, 2017, section 3.2, without layer norms, as the checkpoints' modules show.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from yoloship.graph.activations import TORCH as ACTIVATIONS
from yoloship.graph.builder import OMITTED
from yoloship.graph.convolution import emit_convolution, emit_linear, emit_norm, read_convolution, read_linear, slide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.convolution import Array, Pads
    from yoloship.graph.module_view import ModuleView

    Layer: TypeAlias = Callable[[Builder, ModuleView, Wire], Wire]


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling window: (vertical, horizontal) extents and steps, and the padding around the value."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int] = (1, 1)


def max_pool(builder: Builder, module: ModuleView, x: Wire, name: str | None = None) -> Wire:
    """Write a MaxPool2d. It needs a `name` if the same module is used more than once."""
    module.require("ceil_mode", False)
    module.require("return_indices", False)
    pool = _read_pool(module, module.pair("dilation", 1))
    shape = (x.shape[0], x.channels, *slide(module, x, pool.kernel, pool))
    return builder.node(
        "MaxPool",
        name or module.place,
        (x,),
        shape,
        kernel_shape=pool.kernel,
        strides=pool.stride,
        pads=pool.pads,
        dilations=pool.dilation,
    )


def _average_pool(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    module.require("divisor_override", None)
    pool = _read_pool(module, (1, 1))
    rounds_up = module.flag("ceil_mode")
    if rounds_up and (pool.kernel != pool.stride or any(pool.pads)):
        raise module.error("is not supported with overlapping windows", expected="ceil_mode False", got=True)
    if rounds_up and not builder.dynamic_hw and all(h % s == 0 for h, s in zip(x.hw, pool.stride, strict=True)):
        rounds_up = False  # whole windows only: the plain operator, which every runtime has
    hw = slide(module, x, pool.kernel, pool)
    if rounds_up:
        hw = (-(-x.hw[0] // pool.stride[0]), -(-x.hw[1] // pool.stride[1]))
    attributes: dict[str, Any] = {"ceil_mode": 1} if rounds_up else {}
    return builder.node(
        "AveragePool",
        module.place,
        (x,),
        (x.shape[0], x.channels, *hw),
        kernel_shape=pool.kernel,
        strides=pool.stride,
        pads=pool.pads,
        count_include_pad=int(module.flag("count_include_pad") and not rounds_up),
        **attributes,
    )


def _read_pool(module: ModuleView, dilation: tuple[int, int]) -> Pool:
    kernel = module.pair("kernel_size", 1)
    stride = module.pair("stride", 1) if module.has("stride") else kernel
    padding = module.pair("padding")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise module.error("padding is more than half the window", got=f"{padding} of {kernel}")
    return Pool(kernel, stride, padding * 2, dilation)


def _global_average_pool(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    module.require("output_size", 1, (1, 1), [1, 1])
    return builder.node("GlobalAveragePool", module.place, (x,), (x.shape[0], x.channels, 1, 1))


def _convolution(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return emit_convolution(builder, module, read_convolution(module), x)


def transposed_convolution(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write a ConvTranspose2d; its weight is (in, out / groups, kh, kw) in torch and in ONNX."""
    module.require("padding_mode", "zeros")
    groups = module.integer("groups", 1, 1 << 20)
    weight = module.array("weight", None, None, None, None)
    if x.channels != weight.shape[0] or x.channels % groups:
        raise module.error("takes a different number of channels", expected=str(weight.shape[0]), got=x.channels)
    out = weight.shape[1] * groups
    stride, padding, dilation = module.pair("stride", 1), module.pair("padding"), module.pair("dilation", 1)
    extra = module.pair("output_padding")
    sizes = [
        (x.hw[a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (weight.shape[2 + a] - 1) + extra[a] + 1
        for a in range(2)
    ]
    if min(sizes) < 1:
        raise module.error("leaves nothing of its input", got=f"{sizes[0]}x{sizes[1]}")
    inputs = [x, builder.constant(f"{module.place}.weight", weight)]
    bias = module.optional_array("bias", out)
    if bias is not None:
        inputs.append(builder.constant(f"{module.place}.bias", bias))
    return builder.node(
        "ConvTranspose",
        module.place,
        inputs,
        (x.shape[0], out, *sizes),
        kernel_shape=weight.shape[2:],
        strides=stride,
        pads=padding * 2,
        dilations=dilation,
        output_padding=extra,
        group=groups,
    )


def _upsample(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Nearest neighbour or bilinear, by constant scales, because a constant size would fix the size of the graph.

    For whole factors, torch's two rules for the nearest neighbour agree.
    """
    module.require("mode", "nearest", "nearest-exact", "bilinear")
    module.require("size", None)
    factors = []
    value = module.value("scale_factor")
    for factor in value if isinstance(value, tuple | list) else (value, value):
        if isinstance(factor, bool) or not isinstance(factor, int | float) or factor not in range(1, 65):
            raise module.error("bad 'scale_factor'", expected="whole numbers from 1 to 64", got=value)
        factors.append(int(factor))
    if len(factors) != 2:
        raise module.error("bad 'scale_factor'", expected="one or two numbers", got=value)
    if module.value("mode") == "bilinear":
        module.require("align_corners", None, False, True)
        scales = builder.constant(f"{module.place}.scales", np.array([1, 1, *factors]))
        shape = (x.shape[0], x.channels, x.hw[0] * factors[0], x.hw[1] * factors[1])
        positions = "align_corners" if module.value("align_corners") is True else "half_pixel"
        return builder.node(
            "Resize",
            module.place,
            (x, OMITTED, scales),
            shape,
            mode="linear",
            coordinate_transformation_mode=positions,
        )
    module.require("align_corners", None, False)
    return upsampled(builder, module.place, x, (factors[0], factors[1]))


def upsampled(builder: Builder, name: str, x: Wire, factors: tuple[int, int]) -> Wire:
    """Write the nearest neighbour by whole factors for height and width."""
    scales = builder.constant(f"{name}.scales", np.array([1, 1, *factors]))
    return builder.node(
        "Resize",
        name,
        (x, OMITTED, scales),
        (x.shape[0], x.channels, x.hw[0] * factors[0], x.hw[1] * factors[1]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _zero_pad(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Pad with the smallest normal float32 instead of zero.

    ONNX Runtime 1.20.1 (but not 1.32) moves zero padding into a MaxPool that follows, which pads with minus infinity.
    YOLOv3-tiny then gives wrong boxes at the right and lower border. In a sum, the tiny value is the same as zero.
    """
    module.require("value", 0.0, 0)
    left, right, top, bottom = module.integers("padding", 4)
    pads = builder.constant(f"{module.place}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]), "int64")
    value = builder.constant(f"{module.place}.value", np.float64(np.finfo(np.float32).tiny))
    shape = (x.shape[0], x.channels, x.hw[0] + top + bottom, x.hw[1] + left + right)
    return builder.node("Pad", module.place, (x, pads, value), shape, mode="constant")


def _nothing(builder: Builder, module: ModuleView, x: Wire) -> Wire:  # noqa: ARG001 - the signature of all
    return x


LAYERS: Mapping[str, Layer] = MappingProxyType(
    {
        **ACTIVATIONS,
        "Conv2d": _convolution,
        "ConvTranspose2d": transposed_convolution,
        "BatchNorm2d": emit_norm,
        "SyncBatchNorm": emit_norm,
        "GroupNorm": emit_norm,
        "MaxPool2d": max_pool,
        "AvgPool2d": _average_pool,
        "AdaptiveAvgPool2d": _global_average_pool,
        "Upsample": _upsample,
        "UpsamplingNearest2d": _upsample,
        "UpsamplingBilinear2d": _upsample,
        "ZeroPad2d": _zero_pad,
        "Dropout": _nothing,
        "Dropout2d": _nothing,
    }
)
"""By class name, of torch.nn; each takes and gives one (B, C, H, W) value."""


_LAYER_PATH = re.compile(r"(?:[A-Za-z_]\w*\.)*models\.common\.TransformerLayer")


def transformer(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write a TransformerBlock without its convolution: the position embedding, then each of its layers."""
    channels = x.channels
    embedding = module.child("linear")
    weight, bias = read_linear(embedding, channels)
    tokens = emit_linear(builder, embedding, weight + np.eye(channels), bias, x)
    for layer in module.child("tr").submodules():
        builder.visit(layer)
        if _LAYER_PATH.fullmatch(layer.class_path) is None:
            raise layer.error("is not supported in this place", expected="models.common.TransformerLayer")
        tokens = _layer(builder, layer, tokens)
    return tokens


def _layer(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    attended = _attention(builder, module, x)
    x = builder.node("Add", f"{module.place}.add", (attended, x), x.shape)
    first, first_bias = read_linear(module.child("fc1"), x.channels)
    second, second_bias = read_linear(module.child("fc2"), first.shape[0], x.channels)
    bias = _through(second, first_bias, second_bias)
    forward = emit_linear(builder, module.child("fc2"), second @ first, bias, x)
    return builder.node("Add", module.place, (forward, x), x.shape)


def _attention(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    channels, (height, width) = x.channels, x.hw
    attention = module.child("ma")
    if attention.torch_name != "MultiheadAttention":
        raise attention.error("is not supported in this place", expected="torch.nn.MultiheadAttention")
    attention.require("bias_k", None)
    attention.require("bias_v", None)
    attention.require("add_zero_attn", False)
    attention.require("batch_first", False, None)  # if true, torch attends across the images of a batch
    heads = attention.integer("num_heads", 1)
    if channels % heads:
        raise attention.error("heads do not divide the channels", got=f"{channels} in {heads} heads")
    size, pixels, place = channels // heads, height * width, attention.place

    joined = attention.array("in_proj_weight", 3 * channels, channels)
    joined_bias = attention.optional_array("in_proj_bias", 3 * channels)
    split: list[Wire] = []
    for index, name in enumerate("qkv"):
        rows = slice(index * channels, (index + 1) * channels)
        inner, inner_bias = read_linear(module.child(name), channels, channels)
        bias = _through(joined[rows], inner_bias, None if joined_bias is None else joined_bias[rows])
        factor = 1 / math.sqrt(size) if name == "q" else 1.0
        weight = factor * (joined[rows] @ inner)
        bias = None if bias is None else factor * bias
        flat = emit_linear(builder, module.child(name), weight, bias, x)
        shape = builder.constant(f"{place}.{name}.shape", np.array([0, heads, size, -1]), "int64")
        split.append(builder.node("Reshape", f"{place}.{name}", (flat, shape), (x.shape[0], heads, size, pixels)))
    query, key, value = split

    across = (x.shape[0], heads, pixels, size)
    query = builder.node("Transpose", f"{place}.q.transpose", (query,), across, perm=(0, 1, 3, 2))
    value = builder.node("Transpose", f"{place}.v.transpose", (value,), across, perm=(0, 1, 3, 2))
    square = (x.shape[0], heads, pixels, pixels)
    scores = builder.node("MatMul", f"{place}.scores", (query, key), square)
    weights = builder.node("Softmax", f"{place}.softmax", (scores,), square, axis=-1)
    mixed = builder.node("MatMul", f"{place}.mix", (weights, value), across)
    mixed = builder.node(
        "Transpose", f"{place}.mix.transpose", (mixed,), (x.shape[0], heads, size, pixels), perm=(0, 1, 3, 2)
    )
    if builder.dynamic_hw:
        target = builder.node("Shape", f"{place}.shape", (x,), (4,), "int64")
    else:
        target = builder.constant(f"{place}.shape", np.array([0, channels, height, width]), "int64")
    image = builder.node("Reshape", f"{place}.reshape", (mixed, target), x.shape)
    out = attention.child("out_proj")
    return emit_linear(builder, out, *read_linear(out, channels, channels), image)


def _through(weight: Array, inner: Array | None, outer: Array | None) -> Array | None:
    """The bias of two linear layers in a row; `weight` belongs to the second one."""
    if inner is None:
        return outer
    passed: Array = weight @ inner
    return passed if outer is None else passed + outer
