"""Activations, each as the operators that ONNX has for it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yoloship.graph.convolution import emit_convolution, read_conv_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.graph.builder import Builder
    from yoloship.graph.ir import Wire
    from yoloship.graph.part import Part

    Activation: TypeAlias = Callable[[Builder, Part, Wire], Wire]


def activate(builder: Builder, part: Part, x: Wire) -> Wire:
    """Write an activation.

    Raises:
        GraphError: it is none that is known.
    """
    found = find(part)
    if found is None:
        raise part.error("is no activation that is known")
    return found(builder, part, x)


def find(part: Part) -> Activation | None:
    """What writes this module, None where it is no activation that is known."""
    path, name = part.module.class_path, part.module.class_name
    if part.torch_name is not None:
        return TORCH.get(name)
    if path == f"utils.activations.{name}" or path.endswith(f".utils.activations.{name}"):
        return YOLO.get(name)
    return None


def _silu(builder: Builder, part: Part, x: Wire) -> Wire:
    gate = builder.node("Sigmoid", f"{part.place}.sigmoid", (x,), x.shape)
    return builder.node("Mul", part.place, (x, gate), x.shape)


def _mish(builder: Builder, part: Part, x: Wire) -> Wire:
    """x·tanh(softplus(x)); ONNX has it as one operator only from opset 18."""
    soft = builder.node("Softplus", f"{part.place}.softplus", (x,), x.shape)
    gate = builder.node("Tanh", f"{part.place}.tanh", (soft,), x.shape)
    return builder.node("Mul", part.place, (x, gate), x.shape)


def _leaky_relu(builder: Builder, part: Part, x: Wire) -> Wire:
    return builder.node("LeakyRelu", part.place, (x,), x.shape, alpha=part.number("negative_slope"))


def _elu(builder: Builder, part: Part, x: Wire) -> Wire:
    return builder.node("Elu", part.place, (x,), x.shape, alpha=part.number("alpha"))


def _relu6(builder: Builder, part: Part, x: Wire) -> Wire:
    low = builder.constant(f"{part.place}.min", np.float64(0))
    high = builder.constant(f"{part.place}.max", np.float64(6))
    return builder.node("Clip", part.place, (x, low, high), x.shape)


def _prelu(builder: Builder, part: Part, x: Wire) -> Wire:
    slope = part.array("weight", None)
    if slope.size not in {1, x.channels}:
        raise part.error("takes another number of channels", expected=str(slope.size), got=x.channels)
    weight = builder.constant(f"{part.place}.weight", slope.reshape(-1, 1, 1))
    return builder.node("PRelu", part.place, (x, weight), x.shape)


def _frelu(builder: Builder, part: Part, x: Wire) -> Wire:
    """max(x, BN(depthwise(x))): Ma, Zhang and Sun, Funnel Activation for Visual Recognition, 2020, section 3."""
    condition = emit_convolution(builder, part.child("conv"), read_conv_norm(part.child("conv"), part.child("bn")), x)
    if condition.shape != x.shape:
        raise part.error("its condition has another shape", expected=str(x.shape), got=condition.shape)
    return builder.node("Max", part.place, (x, condition), x.shape)


def _simple(op: str) -> Activation:
    def emit(builder: Builder, part: Part, x: Wire) -> Wire:
        return builder.node(op, part.place, (x,), x.shape)

    return emit


def _hardsigmoid(builder: Builder, part: Part, x: Wire) -> Wire:
    return builder.node("HardSigmoid", part.place, (x,), x.shape, alpha=1 / 6, beta=0.5)


def _identity(builder: Builder, part: Part, x: Wire) -> Wire:  # noqa: ARG001 - the signature of all
    return x


TORCH: Mapping[str, Activation] = MappingProxyType(
    {
        "SiLU": _silu,
        "Mish": _mish,
        "ReLU": _simple("Relu"),
        "ReLU6": _relu6,
        "LeakyReLU": _leaky_relu,
        "ELU": _elu,
        "PReLU": _prelu,
        "Hardswish": _simple("HardSwish"),
        "Hardsigmoid": _hardsigmoid,
        "Sigmoid": _simple("Sigmoid"),
        "Tanh": _simple("Tanh"),
        "Identity": _identity,
    }
)
"""By class name, of torch.nn."""

YOLO: Mapping[str, Activation] = MappingProxyType(
    {
        "SiLU": _silu,
        "Hardswish": _simple("HardSwish"),
        "Mish": _mish,
        "MemoryEfficientMish": _mish,
        "MemoryEfficientSwish": _silu,
        "FReLU": _frelu,
    }
)
"""By class name, of the training repository's ``utils.activations``."""
