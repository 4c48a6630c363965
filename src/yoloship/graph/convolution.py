"""Convolutions, linear and normalising layers, with their neighbours folded into them where that is possible.

All folding is done in float64. `Builder.constant` rounds once, to float32, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView

    Array = npt.NDArray[np.float64]


Pads: TypeAlias = tuple[int, int, int, int]
"""Rows and columns added at the top, left, bottom and right, in ONNX's order."""


class Window(Protocol):
    """How a window slides over a value: (vertical, horizontal) steps, and the padding around the value."""

    @property
    def stride(self) -> tuple[int, int]: ...  # noqa: D102 - named in the class
    @property
    def pads(self) -> Pads: ...  # noqa: D102
    @property
    def dilation(self) -> tuple[int, int]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 2-D convolution.

    Attributes:
        weight: (out, in / groups, kh, kw).
        bias: (out,) or None.
        stride: (vertical, horizontal).
        pads: Zeros around the value.
        dilation: (vertical, horizontal), of the kernel.
        groups: The number of groups of channels.
    """

    weight: Array
    bias: Array | None
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def out_channels(self) -> int:
        """Output channels: the first extent of the weight."""
        return int(self.weight.shape[0])


def read_convolution(module: ModuleView) -> Convolution:
    """Read a torch.nn Conv2d. Its weight says its shape, because pruning leaves `in_channels` and the like stale."""
    module.require("padding_mode", "zeros")
    weight = module.array("weight", None, None, None, None)
    groups = module.integer("groups", 1, 1 << 20)
    if weight.shape[0] % groups:
        raise module.error("groups do not divide the output channels", got=f"{weight.shape[0]} in {groups} groups")
    stride, dilation = module.pair("stride", 1), module.pair("dilation", 1)
    return Convolution(
        weight,
        module.optional_array("bias", weight.shape[0]),
        stride,
        _read_pads(module, weight.shape[2:], stride, dilation),
        dilation,
        groups,
    )


def _read_pads(module: ModuleView, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]) -> Pads:
    """Padding as torch gives it: a number, a pair, or one of two words."""
    padding = module.value("padding")
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding != "same":
        vertical, horizontal = module.pair("padding")
        return (vertical, horizontal, vertical, horizontal)
    if stride != (1, 1):  # torch refuses it as well
        raise module.error("has padding 'same' with a stride", expected="a stride of 1", got=stride)
    top, left = (step * (extent - 1) // 2 for step, extent in zip(dilation, kernel, strict=True))
    bottom, right = (
        step * (extent - 1) - (step * (extent - 1) // 2) for step, extent in zip(dilation, kernel, strict=True)
    )
    return (top, left, bottom, right)


def read_norm(module: ModuleView, channels: int) -> tuple[Array, Array]:
    """Read a torch.nn BatchNorm2d as y = scale·x + shift.

    Returns:
        scale and shift, each (channels,) float64.
    """
    mean = module.array("running_mean", channels)
    variance = module.array("running_var", channels)
    spread = variance + module.number("eps")
    if (spread <= 0).any():
        raise module.error("running_var is negative", hint="the training has diverged")
    scale = 1.0 / np.sqrt(spread)
    gamma = module.optional_array("weight", channels)
    beta = module.optional_array("bias", channels)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta


def scaled(convolution: Convolution, scale: Array, shift: Array) -> Convolution:
    """The convolution followed by scale·y + shift."""
    bias = shift if convolution.bias is None else convolution.bias * scale + shift
    return replace(convolution, weight=convolution.weight * scale[:, None, None, None], bias=bias)


def is_norm(module: ModuleView) -> bool:
    """Whether this is torch's own batch-norm. The name ``bn`` alone does not prove it."""
    return module.torch_name in {"BatchNorm2d", "SyncBatchNorm"}


def has_statistics(norm: ModuleView) -> bool:
    """Whether a batch-norm has running statistics. Without them torch uses the batch's own, also in evaluation."""
    return any(norm.optional_tensor(name) is not None for name in ("running_mean", "running_var"))


def read_conv(conv: ModuleView) -> Convolution:
    """Read what must be a torch.nn Conv2d.

    Raises:
        GraphError: it is another layer, perhaps one with the same name.
    """
    if conv.torch_name != "Conv2d":
        raise conv.error("is not supported in this place", expected="torch.nn.Conv2d")
    return read_convolution(conv)


def folded(conv: ModuleView, norm: ModuleView | None) -> tuple[Convolution, ModuleView | None]:
    """Read a Conv2d and its norm, and fold the norm into the convolution if that can be done.

    Returns:
        The convolution, and the norm if it could not be folded and must be written after it.
    """
    convolution = read_conv(conv)
    if norm is not None and norm.torch_name == "Identity":  # torch's own fusing leaves it behind
        return convolution, None
    if norm is None or not is_norm(norm) or not has_statistics(norm):
        return convolution, norm
    return scaled(convolution, *read_norm(norm, convolution.out_channels)), None


def takes_space_to_depth(convolution: Convolution) -> bool:
    """Whether `after_space_to_depth` accepts this convolution."""
    return convolution.dilation == (1, 1) and convolution.groups == 1 and convolution.weight.shape[1] % 4 == 0


def after_space_to_depth(convolution: Convolution) -> Convolution:
    """The convolution on a whole image that equals this one on the image's four interleaved quarters.

    The quarters are the pixels at (even, even), (odd, even), (even, odd), (odd, odd) rows and columns. Their channels
    follow one another, as YOLOv5's Focus stacks them. Tap (i, j) of quarter (dy, dx) becomes tap (2i + dy, 2j + dx) of
    a kernel twice as large, with twice the stride and padding.
    """
    out, stacked, kh, kw = convolution.weight.shape
    quarters = convolution.weight.reshape(out, 2, 2, stacked // 4, kh, kw)  # dx, dy
    weight = quarters.transpose(0, 3, 4, 2, 5, 1).reshape(out, stacked // 4, 2 * kh, 2 * kw)
    (sy, sx), (top, left, bottom, right) = convolution.stride, convolution.pads
    pads = (2 * top, 2 * left, 2 * bottom, 2 * right)
    return replace(convolution, weight=weight, stride=(2 * sy, 2 * sx), pads=pads)


def emit_convolution(builder: Builder, module: ModuleView, convolution: Convolution, x: Wire) -> Wire:
    """Write a Conv node named after `module`. The normalisation of an image goes into the weights."""
    weight, groups = convolution.weight, convolution.groups
    if len(x.shape) != 4 or x.channels != weight.shape[1] * groups:
        got = f"{x.channels}" if len(x.shape) == 4 else f"a value of shape {x.shape}"
        raise module.error("takes a different number of channels", expected=f"{weight.shape[1] * groups}", got=got)
    if x.pending is not None and groups == 1:
        weight = weight[:, list(x.pending.channels)] * x.pending.factors
        inputs = [x]
    else:
        inputs = [builder.settle(x)]
    hw = slide(module, x, weight.shape[2:], convolution)
    inputs.append(builder.constant(f"{module.place}.weight", weight))
    if convolution.bias is not None:
        inputs.append(builder.constant(f"{module.place}.bias", convolution.bias))
    shape = (x.shape[0], convolution.out_channels, *hw)
    return builder.unsettled(
        "Conv",
        module.place,
        inputs,
        (shape,),
        kernel_shape=weight.shape[2:],
        strides=convolution.stride,
        pads=convolution.pads,
        dilations=convolution.dilation,
        group=groups,
    )[0]


def slide(module: ModuleView, x: Wire, kernel: tuple[int, ...], window: Window) -> tuple[int, int]:
    """Height and width of a sliding window's output: the floor form in torch's documentation."""
    sizes = []
    for axis in range(2):
        reach = window.dilation[axis] * (kernel[axis] - 1) + 1
        room = x.hw[axis] + window.pads[axis] + window.pads[axis + 2] - reach
        if room < 0:
            raise module.error("window is larger than its input", expected=f"at least {reach}", got=x.hw[axis])
        sizes.append(room // window.stride[axis] + 1)
    return sizes[0], sizes[1]


def is_linear(module: ModuleView) -> bool:
    """Whether this is torch's own linear layer."""
    return module.torch_name in {"Linear", "NonDynamicallyQuantizableLinear"}


def read_linear(module: ModuleView, inputs: int, outputs: int | None = None) -> tuple[Array, Array | None]:
    """Weight (out, in) and bias (out,) of a torch.nn Linear."""
    if not is_linear(module):
        raise module.error("is not supported in this place", expected="torch.nn.Linear")
    weight = module.array("weight", outputs, inputs)
    return weight, module.optional_array("bias", weight.shape[0])


def emit_linear(builder: Builder, module: ModuleView, weight: Array, bias: Array | None, x: Wire) -> Wire:
    """Write weight·x + bias for each pixel, under the name of `module`."""
    return emit_convolution(builder, module, Convolution(weight[:, :, None, None], bias), x)


def emit_conv_norm(builder: Builder, conv: ModuleView, norm: ModuleView | None, x: Wire) -> Wire:
    """Write a Conv2d and its norm, if it has one. Both become one node if the norm is a plain batch-norm."""
    convolution, left = folded(conv, norm)
    y = emit_convolution(builder, conv, convolution, x)
    return y if left is None else emit_norm(builder, left, y)


def emit_norm(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write a normalising layer of torch.nn.

    Raises:
        GraphError: it is another layer.
    """
    if module.torch_name == "GroupNorm":
        return _group_norm(builder, module, x)
    if not is_norm(module):
        raise module.error("is not supported in this place", expected="torch.nn.BatchNorm2d or GroupNorm")
    if not has_statistics(module):
        return _batch_statistics(builder, module, x)
    scale, shift = read_norm(module, x.channels)
    factor = builder.constant(f"{module.place}.scale", scale.reshape(-1, 1, 1))
    scaled = builder.node("Mul", f"{module.place}.mul", (x, factor), x.shape)
    return builder.node(
        "Add", module.place, (scaled, builder.constant(f"{module.place}.shift", shift.reshape(-1, 1, 1))), x.shape
    )


def _batch_statistics(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Batch-norm without running statistics: it uses mean and variance of the whole batch, also in evaluation."""
    if not isinstance(x.shape[0], int):
        raise module.error(
            "takes its statistics from the whole batch, so an image's result would depend on the others in its run",
            expected="a fixed batch", got="a dynamic one", hint="export it with batch 1 (--batch 1)",
        )  # fmt: skip
    return _affine(builder, module, _standardised(builder, module, x, module.place, ((0, 2, 3),)))


def _group_norm(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Wu and He, Group Normalization, 2018: the channels of a group share mean and variance, image by image."""
    groups, place = module.integer("num_groups", 1, 1 << 20), module.place
    if x.channels % groups:
        raise module.error("groups do not divide the channels", got=f"{x.channels} in {groups} groups")
    height, width = x.hw
    each = x.channels // groups
    flat = builder.constant(f"{place}.groups.shape", np.array([0, groups, each, -1]), "int64")
    grouped_shape = (x.shape[0], groups, each, height * width)
    grouped = builder.node("Reshape", f"{place}.groups", (x, flat), grouped_shape)
    normal = _standardised(builder, module, grouped, f"{place}.normal", ((3,), (2,)))
    if builder.dynamic_hw:
        back = builder.node("Shape", f"{place}.shape", (x,), (4,), "int64")
    else:
        back = builder.constant(f"{place}.shape", np.array([0, x.channels, height, width]), "int64")
    return _affine(builder, module, builder.node("Reshape", place, (normal, back), x.shape))


def _standardised(builder: Builder, module: ModuleView, x: Wire, name: str, steps: tuple[tuple[int, ...], ...]) -> Wire:
    """(x - mean) / sqrt(variance + eps), with mean and variance over these axes.

    The mean is taken in several steps over equal parts, because sums in float32 lose digits as they grow. In one step
    over 1.6 million values of mean 20 and deviation 3, the result is off by 1.4e-4, and so is that of ONNX's
    InstanceNormalization (ONNX Runtime 1.32).
    """
    place = module.place
    mean = _mean(builder, x, f"{place}.mean", steps)
    centred = builder.node("Sub", f"{place}.centred", (x, mean), x.shape)
    squared = builder.node("Mul", f"{place}.squared", (centred, centred), x.shape)
    variance = _mean(builder, squared, f"{place}.variance", steps)
    eps = builder.constant(f"{place}.eps", np.float64(_eps(module)))
    spread = builder.node("Add", f"{place}.spread", (variance, eps), variance.shape)
    deviation = builder.node("Sqrt", f"{place}.deviation", (spread,), spread.shape)
    return builder.node("Div", name, (centred, deviation), x.shape)


def _mean(builder: Builder, x: Wire, name: str, steps: tuple[tuple[int, ...], ...]) -> Wire:
    for axes in steps:
        shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
        x = builder.node("ReduceMean", name, (x,), shape, axes=axes, keepdims=1)
    return x


def _affine(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Weight and bias of each channel, if the layer has them."""
    for op, name in (("Mul", "weight"), ("Add", "bias")):
        values = module.optional_array(name, x.channels)
        if values is not None:
            constant = builder.constant(f"{module.place}.{name}", values.reshape(-1, 1, 1))
            x = builder.node(op, f"{module.place}.{name}", (x, constant), x.shape)
    return x


def _eps(module: ModuleView) -> float:
    eps = module.number("eps")
    if eps < 0:
        raise module.error("bad 'eps'", expected="a number that is not negative", got=eps)
    return eps
