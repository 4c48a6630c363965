"""Layers of torch.nn that stand on their own: convolutions, norms, pools, resizing, padding."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yoloship.graph.activations import TORCH as ACTIVATIONS
from yoloship.graph.convolution import emit_convolution, read_convolution, slide
from yoloship.graph.ir import OMITTED
from yoloship.graph.norms import emit_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.graph.builder import Builder
    from yoloship.graph.convolution import Pads
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part

    Layer: TypeAlias = Callable[[Builder, Part, Wire], Wire]


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling window: (vertical, horizontal) extents and steps, and what is added around the value."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int] = (1, 1)


def max_pool(builder: Builder, part: Part, x: Wire, name: str | None = None) -> Wire:
    """Write a MaxPool2d; `name` where the same module is used more than once."""
    part.require("ceil_mode", False)
    part.require("return_indices", False)
    pool = _read_pool(part, part.pair("dilation", 1))
    shape = (x.shape[0], x.channels, *slide(part, x, pool.kernel, pool))
    return builder.node(
        "MaxPool",
        name or part.place,
        (x,),
        shape,
        kernel_shape=pool.kernel,
        strides=pool.stride,
        pads=pool.pads,
        dilations=pool.dilation,
    )


def _average_pool(builder: Builder, part: Part, x: Wire) -> Wire:
    part.require("ceil_mode", False)
    part.require("divisor_override", None)
    pool = _read_pool(part, (1, 1))
    shape = (x.shape[0], x.channels, *slide(part, x, pool.kernel, pool))
    return builder.node(
        "AveragePool",
        part.place,
        (x,),
        shape,
        kernel_shape=pool.kernel,
        strides=pool.stride,
        pads=pool.pads,
        count_include_pad=int(part.flag("count_include_pad")),
    )


def _read_pool(part: Part, dilation: tuple[int, int]) -> Pool:
    kernel = part.pair("kernel_size", 1)
    stride = part.pair("stride", 1) if part.has("stride") else kernel
    padding = part.pair("padding")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise part.error("padding is more than half the window", got=f"{padding} of {kernel}")
    return Pool(kernel, stride, padding * 2, dilation)


def _global_average_pool(builder: Builder, part: Part, x: Wire) -> Wire:
    part.require("output_size", 1, (1, 1), [1, 1])
    return builder.node("GlobalAveragePool", part.place, (x,), (x.shape[0], x.channels, 1, 1))


def _convolution(builder: Builder, part: Part, x: Wire) -> Wire:
    return emit_convolution(builder, part, read_convolution(part), x)


def transposed_convolution(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write a ConvTranspose2d; its weight is (in, out / groups, kh, kw) in torch and in ONNX."""
    part.require("padding_mode", "zeros")
    groups = part.integer("groups", 1, 1 << 20)
    weight = part.array("weight", None, None, None, None)
    if x.channels != weight.shape[0] or x.channels % groups:
        raise part.error("takes another number of channels", expected=str(weight.shape[0]), got=x.channels)
    out = weight.shape[1] * groups
    stride, padding, dilation = part.pair("stride", 1), part.pair("padding"), part.pair("dilation", 1)
    extra = part.pair("output_padding")
    sizes = [
        (x.hw[a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (weight.shape[2 + a] - 1) + extra[a] + 1
        for a in range(2)
    ]
    if min(sizes) < 1:
        raise part.error("leaves nothing of its input", got=f"{sizes[0]}x{sizes[1]}")
    inputs = [x, builder.constant(f"{part.place}.weight", weight)]
    bias = part.optional_array("bias", out)
    if bias is not None:
        inputs.append(builder.constant(f"{part.place}.bias", bias))
    return builder.node(
        "ConvTranspose",
        part.place,
        inputs,
        (x.shape[0], out, *sizes),
        kernel_shape=weight.shape[2:],
        strides=stride,
        pads=padding * 2,
        dilations=dilation,
        output_padding=extra,
        group=groups,
    )


def _upsample(builder: Builder, part: Part, x: Wire) -> Wire:
    """Nearest neighbour or bilinear, by constant scales: a size would be fixed for ever.

    By whole factors, torch's two ways to find the nearest neighbour agree.
    """
    part.require("mode", "nearest", "nearest-exact", "bilinear")
    part.require("size", None)
    factors = []
    value = part.value("scale_factor")
    for factor in value if isinstance(value, tuple | list) else (value, value):
        if isinstance(factor, bool) or not isinstance(factor, int | float) or factor not in range(1, 65):
            raise part.error("bad 'scale_factor'", expected="whole numbers from 1 to 64", got=value)
        factors.append(int(factor))
    if len(factors) != 2:
        raise part.error("bad 'scale_factor'", expected="one or two numbers", got=value)
    scales = builder.constant(f"{part.place}.scales", np.array([1, 1, *factors]))
    shape = (x.shape[0], x.channels, x.hw[0] * factors[0], x.hw[1] * factors[1])
    if part.value("mode") == "bilinear":
        part.require("align_corners", None, False, True)
        positions = "align_corners" if part.value("align_corners") is True else "half_pixel"
        return builder.node(
            "Resize",
            part.place,
            (x, OMITTED, scales),
            shape,
            mode="linear",
            coordinate_transformation_mode=positions,
        )
    part.require("align_corners", None, False)
    return builder.node(
        "Resize",
        part.place,
        (x, OMITTED, scales),
        shape,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _zero_pad(builder: Builder, part: Part, x: Wire) -> Wire:
    """The smallest normal float32 stands for zero.

    ONNX Runtime (1.20.1; no longer 1.32) moves padding by zero into a MaxPool that follows, which pads with minus
    infinity: YOLOv3-tiny then gives boxes that are off at the right and lower border. No sum can tell the two apart.
    """
    part.require("value", 0.0, 0)
    left, right, top, bottom = part.integers("padding", 4)
    pads = builder.constant(f"{part.place}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]), "int64")
    value = builder.constant(f"{part.place}.value", np.float64(np.finfo(np.float32).tiny))
    shape = (x.shape[0], x.channels, x.hw[0] + top + bottom, x.hw[1] + left + right)
    return builder.node("Pad", part.place, (x, pads, value), shape, mode="constant")


def _nothing(builder: Builder, part: Part, x: Wire) -> Wire:  # noqa: ARG001 - the signature of all
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
