"""Activations, each as the operators that ONNX has for it.

(p1 − p2)·x·σ(β·(p1 − p2)·x) + p2·x. β is a parameter (ACON-C), or two small convolutions compute it from the means of
the channels (meta-ACON, section 3.3).
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yoloship.graph.convolution import emit_conv_norm, emit_convolution, read_conv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.graph.builder import Builder, Wire
    from yoloship.graph.module_view import ModuleView

    Activation: TypeAlias = Callable[[Builder, ModuleView, Wire], Wire]


def acon(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write ACON-C."""
    beta = builder.constant(f"{module.place}.beta", module.array("beta", 1, x.channels, 1, 1))
    return _gated(builder, module, x, beta)


def meta_acon(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write meta-ACON."""
    means = builder.node("GlobalAveragePool", f"{module.place}.means", (x,), (x.shape[0], x.channels, 1, 1))
    for name in ("fc1", "fc2"):
        means = emit_convolution(builder, module.child(name), read_conv(module.child(name)), means)
    if means.channels != x.channels:
        raise module.error("its switch has another number of channels", expected=str(x.channels), got=means.channels)
    return _gated(builder, module, x, builder.node("Sigmoid", f"{module.place}.switch", (means,), means.shape))


def _gated(builder: Builder, module: ModuleView, x: Wire, beta: Wire) -> Wire:
    place = module.place
    first, second = (module.array(name, 1, x.channels, 1, 1) for name in ("p1", "p2"))
    slope = builder.constant(f"{place}.slope", first - second)
    scaled = builder.node("Mul", f"{place}.scaled", (x, slope), x.shape)
    gate = builder.node("Mul", f"{place}.beta.scaled", (scaled, beta), x.shape)
    gate = builder.node("Sigmoid", f"{place}.gate", (gate,), x.shape)
    gated = builder.node("Mul", f"{place}.gated", (scaled, gate), x.shape)
    if not np.any(second):
        return gated
    rest = builder.node("Mul", f"{place}.rest", (x, builder.constant(f"{place}.p2", second)), x.shape)
    return builder.node("Add", place, (gated, rest), x.shape)


def activate(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write an activation.

    Raises:
        GraphError: it is not one that can be written.
    """
    found = find(module)
    if found is None:
        hint = "nothing was guessed"
        if module.torch_name is None:
            name = module.class_path[:80]
            hint += "; if it is a known one under another name, say so with "
            hint += f"--alias {name}=utils.activations.NAME (aliases in Python)"
        raise module.error("is not an activation that this version can write", hint=hint)
    return written(found, builder, module, x)


def written(activation: Activation, builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Write an activation. If torch computes it in place, its later users get the changed value as well."""
    y = activation(builder, module, x)
    if module.torch_name in TORCH and module.optional_value("inplace"):  # torch asks for its truth: 1 counts as well
        builder.overwrite(x, y)
    return y


def find(module: ModuleView) -> Activation | None:
    """The function that writes this activation; None if it cannot be written."""
    path, name = module.class_path, module.class_name
    if module.torch_name is not None:
        return TORCH.get(name)
    if path == f"utils.activations.{name}" or path.endswith(f".utils.activations.{name}"):
        return YOLO.get(name)
    if path == f"models.common.{name}" or path.endswith(f".models.common.{name}"):
        return COMMON.get(name)
    return None


def _silu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    gate = builder.node("Sigmoid", f"{module.place}.sigmoid", (x,), x.shape)
    return builder.node("Mul", module.place, (x, gate), x.shape)


def _mish(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """x·tanh(softplus(x)). ONNX has one operator for it only since opset 18."""
    soft = builder.node("Softplus", f"{module.place}.softplus", (x,), x.shape)
    gate = builder.node("Tanh", f"{module.place}.tanh", (soft,), x.shape)
    return builder.node("Mul", module.place, (x, gate), x.shape)


def _leaky_relu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return builder.node("LeakyRelu", module.place, (x,), x.shape, alpha=module.number("negative_slope"))


def _elu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return builder.node("Elu", module.place, (x,), x.shape, alpha=module.number("alpha"))


def _celu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return builder.node("Celu", module.place, (x,), x.shape, alpha=module.number("alpha"))


def _selu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Klambauer et al., Self-Normalizing Neural Networks, 2017, with its two constants."""
    return builder.node("Selu", module.place, (x,), x.shape, alpha=_SELU_ALPHA, gamma=_SELU_SCALE)


def _rrelu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """In evaluation, the slope is the middle of the range from which training draws it."""
    slope = (module.number("lower") + module.number("upper")) / 2
    return builder.node("LeakyRelu", module.place, (x,), x.shape, alpha=slope)


def _clip(builder: Builder, module: ModuleView, x: Wire, low: float, high: float) -> Wire:
    bounds = [builder.constant(f"{module.place}.{name}", np.float64(v)) for name, v in (("min", low), ("max", high))]
    return builder.node("Clip", module.place, (x, *bounds), x.shape)


def _relu6(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """A Hardtanh with the bounds 0 and 6. They are attributes, so somebody may have changed them."""
    return _hardtanh(builder, module, x) if module.has("max_val") else _clip(builder, module, x, 0.0, 6.0)


def _hardtanh(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    low, high = module.number("min_val"), module.number("max_val")
    if low > high:
        raise module.error("bounds are the wrong way round", got=f"{low:g} to {high:g}")
    return _clip(builder, module, x, low, high)


def _gelu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """Hendrycks and Gimpel, Gaussian Error Linear Units, 2016: x·Φ(x), or its form with tanh."""
    place = module.place
    module.require("approximate", "none", "tanh", None)  # torch before 1.12 has no attribute

    def constant(name: str, value: float) -> Wire:
        return builder.constant(f"{place}.{name}", np.float64(value))

    if module.optional_value("approximate") == "tanh":
        square = builder.node("Mul", f"{place}.square", (x, x), x.shape)
        cubic = builder.node("Mul", f"{place}.cubic", (square, constant("third", _GELU_CUBIC)), x.shape)
        inner = builder.node("Add", f"{place}.inner", (cubic, constant("one", 1.0)), x.shape)
        inner = builder.node("Mul", f"{place}.product", (inner, x), x.shape)
        inner = builder.node("Mul", f"{place}.scaled", (inner, constant("root", math.sqrt(2 / math.pi))), x.shape)
        gate = builder.node("Tanh", f"{place}.tanh", (inner,), x.shape)
    else:
        inner = builder.node("Mul", f"{place}.scaled", (x, constant("root", math.sqrt(0.5))), x.shape)
        gate = builder.node("Erf", f"{place}.erf", (inner,), x.shape)
    gate = builder.node("Add", f"{place}.gate", (gate, constant("shift", 1.0)), x.shape)
    half = builder.node("Mul", f"{place}.half", (x, constant("factor", 0.5)), x.shape)
    return builder.node("Mul", place, (half, gate), x.shape)


def _softplus(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """log(1 + exp(beta·x)) / beta; x itself if beta·x is above the threshold."""
    place, beta, threshold = module.place, module.number("beta"), module.number("threshold")
    if beta == 0:
        raise module.error("bad 'beta'", expected="a number other than 0", got=beta)
    scaled = x
    if beta != 1:
        scaled = builder.node(
            "Mul", f"{place}.beta", (x, builder.constant(f"{place}.factor", np.float64(beta))), x.shape
        )
    soft = builder.node("Softplus", f"{place}.softplus", (scaled,), x.shape)
    if beta != 1:
        soft = builder.node(
            "Div", f"{place}.back", (soft, builder.constant(f"{place}.divisor", np.float64(beta))), x.shape
        )
    if threshold >= _SOFTPLUS_EXACT:
        return soft
    limit = builder.constant(f"{place}.threshold", np.float64(threshold))
    above = builder.node("Greater", f"{place}.above", (scaled, limit), x.shape, "bool")
    return builder.node("Where", place, (above, x, soft), x.shape)


def _prelu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    slope = module.array("weight", None)
    if slope.size not in {1, x.channels}:
        raise module.error("takes a different number of channels", expected=str(slope.size), got=x.channels)
    weight = builder.constant(f"{module.place}.weight", slope.reshape(-1, 1, 1))
    return builder.node("PRelu", module.place, (x, weight), x.shape)


def _frelu(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """max(x, BN(depthwise(x))): Ma, Zhang and Sun, Funnel Activation for Visual Recognition, 2020, section 3."""
    condition = emit_conv_norm(builder, module.child("conv"), module.child("bn"), x)
    if condition.shape != x.shape:
        raise module.error("its condition has another shape", expected=str(x.shape), got=condition.shape)
    return builder.node("Max", module.place, (x, condition), x.shape)


def _simple(op: str) -> Activation:
    def emit(builder: Builder, module: ModuleView, x: Wire) -> Wire:
        return builder.node(op, module.place, (x,), x.shape)

    return emit


def _hardsigmoid(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    return builder.node("HardSigmoid", module.place, (x,), x.shape, alpha=1 / 6, beta=0.5)


def _identity(builder: Builder, module: ModuleView, x: Wire) -> Wire:  # noqa: ARG001 - the signature of all
    return x


def _h_sigmoid(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """relu6(x + 3) / 6: Howard et al., Searching for MobileNetV3, 2019, section 5.2."""
    inner = module.child("relu")
    if inner.torch_name != "ReLU6":
        raise inner.error("is not supported in this place", expected="torch.nn.ReLU6")
    inner.require("min_val", 0.0, 0, None)
    inner.require("max_val", 6.0, 6, None)
    return _hardsigmoid(builder, module, x)


def _h_swish(builder: Builder, module: ModuleView, x: Wire) -> Wire:
    """The value times its h_sigmoid."""
    gate = activate(builder, module.child("sigmoid"), x)
    return builder.node("Mul", module.place, (x, gate), x.shape)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_GELU_CUBIC = 0.044715
_SOFTPLUS_EXACT = 20.0
"""From here on log(1 + exp(x)) is x, rounded to float32."""

TORCH: Mapping[str, Activation] = MappingProxyType(
    {
        "SiLU": _silu,
        "Mish": _mish,
        "ReLU": _simple("Relu"),
        "ReLU6": _relu6,
        "LeakyReLU": _leaky_relu,
        "ELU": _elu,
        "CELU": _celu,
        "SELU": _selu,
        "GELU": _gelu,
        "Softplus": _softplus,
        "Hardtanh": _hardtanh,
        "RReLU": _rrelu,
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
        "Swish": _silu,
        "FReLU": _frelu,
        "AconC": acon,
        "MetaAconC": meta_acon,
    }
)
"""By class name, of the training repository's ``utils.activations``."""

COMMON: Mapping[str, Activation] = MappingProxyType({"h_sigmoid": _h_sigmoid, "h_swish": _h_swish, "SiLU": _silu})
"""By class name, of ``models.common``, where forks for small devices keep theirs."""
