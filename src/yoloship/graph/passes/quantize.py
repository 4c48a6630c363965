"""INT8 and FP8 written into a graph: pairs of QuantizeLinear and DequantizeLinear around convolutions.

The form is the one that TensorRT 10, 11 and RTX take: signed and symmetric codes (zero points 0), one scale for each
activation and one for each output channel of weights, and biases in float32. The head's last convolutions are not
quantized. Weights are stored as codes. Between the pairs the graph is float32. A runtime fuses the pairs into integer
kernels, or computes them literally.

Source: ONNX operators QuantizeLinear and DequantizeLinear; NVIDIA TensorRT
documentation, "Working with Quantized Types": quantize the inputs of weighted operators.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from yoloship.bounds.outline import FLOAT, FLOAT8, INT8
from yoloship.errors import GraphError, InputError
from yoloship.graph.body import body, element_types, implicit_inputs, inline_constants, last_heavy
from yoloship.graph.onnx_file import FLOAT8_MAX, float8_bits, float8_values, stored_values
from yoloship.graph.passes.half import FLOAT16_MAX, KEPT_KEY, at_opset, note_precision
from yoloship.model import Placement

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt
    import onnx


QuantizedPrecision: TypeAlias = Literal["int8", "float8"]

INT8_MAX: Final = 127
FLOAT16_SCALE_LEAST: Final = 2.0**-20
"""Smaller scales stay float32: among float16's subnormals, 2⁻²⁴ apart, rounding up would cost codes."""
FLOAT8_OPSET: Final = 19
"""The first opset with E4M3FN in QuantizeLinear."""
_PER_CHANNEL_OPSET: Final = 13
_SUFFIXES: Final = ("", ".codes", ".scale", ".zero")
"""Endings of the names of the values that a pair adds."""
_BROKEN: Final = "the training has diverged, or the file is damaged"
_MODULE = re.compile(r"model\.\d+")


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution that can be quantized.

    Attributes:
        name: The name of its node.
        module: The module that it belongs to: ``model.4``; its own name if the graph does not say.
        activation: The name of its input.
        weight: The name of its stored weight.
        output: The name of its output.
    """

    name: str
    module: str
    activation: str
    weight: str
    output: str


def layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Convolutions that can be quantized, in the graph's order: all with stored float32 weights, except the last ones.

    Raises:
        GraphError: no convolution can be quantized, or the graph is quantized already.
    """
    if any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph.node):
        raise GraphError("is quantized already", subject=model.graph.name[:60], expected="a float32 graph")
    types = element_types(model)
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    stored |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    floats = {name for name, element in types.items() if element == FLOAT}
    last = last_heavy(model, types)
    found = []
    for place in body(model, types):
        node = model.graph.node[place]
        if node.op_type == "Conv" and place not in last and node.input[1] in stored & floats:
            module = _MODULE.search(node.name)
            name = node.name or node.output[0]
            found.append(Layer(name, module.group() if module else name, node.input[0], node.input[1], node.output[0]))
    if not found:
        raise GraphError("has no float32 convolution that could be quantized", subject=model.graph.name[:60])
    return tuple(found)


def values_to_watch(found: Collection[Layer], placement: Placement) -> tuple[str, ...]:
    """Names of the activations whose ranges `quantize` needs."""
    names = {layer.activation: None for layer in found}
    if placement == "inputs_and_outputs":
        names.update({layer.output: None for layer in found})
    return tuple(names)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    precision: QuantizedPrecision = "int8",
    *,
    placement: Placement = "inputs",
    means: Mapping[str, npt.NDArray[np.float64]] | None = None,
    keep: Collection[str] = (),
) -> onnx.ModelProto:
    """Write a graph's convolutions in INT8 or FP8.

    Args:
        model: A float32 graph with its weights inside the file. It is not changed.
        ranges: The magnitude that each activation reaches; see `yoloship.precision.calibrate`.
        precision: Type of the codes.
        placement: Where the pairs go.
        means: For each layer's activation, the mean of each channel, (channels,). With them, biases correct the mean
            error of the rounded weights (Nagel et al., Data-Free Quantization, 2019, section 4.2).
        keep: Names of layers that stay float32.

    Returns:
        A new model with the same inputs and outputs. FP8 raises the operator set to 19.

    Raises:
        GraphError: nothing can be quantized, a range is missing or not finite, or a layer to keep does not exist.
        InputError: `precision` or `placement` has an unknown value.
    """
    from onnx import ModelProto

    for name, value, choices in (
        ("precision", precision, get_args(QuantizedPrecision)),
        ("placement", placement, get_args(Placement)),
    ):
        if value not in choices:
            raise InputError("no such choice", subject=name, expected=" or ".join(choices), got=repr(value))
    all_layers = layers(model)
    kept = set(keep)
    if unknown := sorted(kept - {layer.name for layer in all_layers}):
        raise GraphError("has no such layer to keep", subject=model.graph.name[:60], got=", ".join(unknown)[:80])
    chosen = {layer.output: layer for layer in all_layers if layer.name not in kept}
    if missing := [name for name in values_to_watch(chosen.values(), placement) if name not in ranges]:
        raise GraphError("an activation has not been calibrated", subject=missing[0][:80])
    if wild := next((name for name, reach in ranges.items() if not np.isfinite(reach)), None):
        raise GraphError("reaches to what is not finite", subject=wild[:80], hint=_BROKEN)
    quantized = ModelProto()
    quantized.CopyFrom(model)
    inline_constants(quantized.graph)
    quantized = at_opset(quantized, FLOAT8_OPSET if precision == "float8" else _PER_CHANNEL_OPSET)
    _Writer(quantized, ranges, precision, means or {}).write(chosen, placement)
    note_precision(quantized, precision, {KEPT_KEY: json.dumps(sorted(kept))} if kept else {})
    return quantized


class _Writer:
    """Puts the pairs into one graph, in place."""

    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Mapping[str, float],
        precision: QuantizedPrecision,
        means: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        self._graph = model.graph
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._means = means
        self._ranges = ranges
        self._precision: QuantizedPrecision = precision
        self._nodes: list[onnx.NodeProto] = []
        self._pairs: dict[str, str] = {}
        self._taken = {name for node in self._graph.node for name in (*node.input, *node.output)}
        self._taken |= {*self._stored, *implicit_inputs(self._graph), *(value.name for value in self._graph.input)}
        self._errors: dict[str, npt.NDArray[np.float64]] = {}

    def write(self, chosen: Mapping[str, Layer], placement: Placement) -> None:
        from onnx import NodeProto

        for node in self._graph.node:
            layer = chosen.get(node.output[0]) if node.output else None
            changed = NodeProto()
            changed.CopyFrom(node)
            if layer is not None:
                changed.input[0] = self._activation(layer.activation)
                changed.input[1] = self._weight(self._stored[layer.weight])
                self._correct_bias(changed, layer)
                if placement == "inputs_and_outputs":
                    changed.output[0] = self._fresh(f"{layer.output}.float")
            self._nodes.append(changed)
            if layer is not None and placement == "inputs_and_outputs":
                self._pair(changed.output[0], layer.output, layer.output)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._graph.node for name in node.input} | set(implicit_inputs(self._graph))
        left = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(left)
        del self._graph.value_info[:]

    def _activation(self, name: str) -> str:
        """The name of a value after its pair. All nodes that take the value share one pair."""
        if name not in self._pairs:
            self._pairs[name] = self._fresh(f"{name}.{self._precision}")
            self._pair(name, self._pairs[name], name)
        return self._pairs[name]

    def _pair(self, source: str, target: str, ranged: str) -> None:
        scale = np.float32(self._scale(self._ranges[ranged]))
        names = [self._store(f"{target}.scale", scale), self._zero(f"{target}.zero", ())]
        self._node("QuantizeLinear", f"{target}.quantize", [source, *names], f"{target}.codes")
        self._node("DequantizeLinear", f"{target}.dequantize", [f"{target}.codes", *names], target)

    def _weight(self, tensor: onnx.TensorProto) -> str:
        """Store a weight as codes, with a scale for each output channel; the name of the dequantized weight."""
        if tensor.name not in self._pairs:
            target = self._fresh(f"{tensor.name}.{self._precision}")
            values = stored_values(tensor).astype(np.float32)
            if not np.isfinite(values).all():
                raise GraphError("holds weights that are not finite", subject=tensor.name[:80], hint=_BROKEN)
            largest = np.abs(values).reshape(len(values), -1).max(axis=1)
            scales = np.array([self._scale(value) for value in largest], np.float32)
            codes = values / scales.reshape(-1, *[1] * (values.ndim - 1))
            names = [
                self._codes(f"{target}.codes", codes),
                self._store(f"{target}.scale", scales),
                self._zero(f"{target}.zero", scales.shape),
            ]
            self._node("DequantizeLinear", f"{target}.dequantize", names, target, axis=0)
            spread = scales.reshape(-1, *[1] * (values.ndim - 1))
            self._errors[tensor.name] = self._rounded(codes).astype(np.float64) * spread - values
            self._pairs[tensor.name] = target
        return self._pairs[tensor.name]

    def _correct_bias(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Subtract the mean effect of the weights' rounding errors from the bias."""
        bias = node.input[2] if len(node.input) > 2 else ""
        if layer.activation not in self._means or (bias and bias not in self._stored):
            return
        error = self._errors[layer.weight].sum(axis=tuple(range(2, self._errors[layer.weight].ndim)))
        out, width = error.shape
        groups = len(self._means[layer.activation]) // width
        means = self._means[layer.activation].reshape(groups, width).repeat(out // groups, axis=0)
        values = stored_values(self._stored[bias]) if bias else np.zeros(out)
        bias_name = self._fresh(f"{layer.output}.bias.{self._precision}")
        name = self._store(bias_name, values - (error * means).sum(axis=1))
        del node.input[2:]
        node.input.append(name)

    def _fresh(self, name: str) -> str:
        """A name that is free, also with the endings of a pair; of two equal names, runtimes take the last."""
        while any(f"{name}{suffix}" in self._taken for suffix in _SUFFIXES):
            name += "_"
        self._taken.update(f"{name}{suffix}" for suffix in _SUFFIXES)
        return name

    def _scale(self, magnitude: float) -> float:
        """The magnitude divided by the largest code, rounded up to a value that float16 holds exactly.

        So the codes are the same for other layers in float16 and in float32.

        It is never 0, and never so small that dividing by it overflows. All zeros stay zeros with any scale.
        """
        scale = float(magnitude) / (INT8_MAX if self._precision == "int8" else FLOAT8_MAX)
        if not FLOAT16_SCALE_LEAST <= scale <= FLOAT16_MAX:
            return scale if magnitude > 1e-30 else 1.0
        half = np.float16(scale)
        return float(half if half >= scale else np.nextafter(half, np.float16(np.inf)))

    def _rounded(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values rounded to the codes, in steps of the scale."""
        if self._precision == "float8":
            return float8_values(float8_bits(values))
        rounded: npt.NDArray[np.float32] = np.clip(np.rint(values), -INT8_MAX, INT8_MAX)
        return rounded

    def _codes(self, name: str, values: npt.NDArray[np.float32]) -> str:
        from onnx import TensorProto

        if self._precision == "int8":
            element, raw = INT8, self._rounded(values).astype(np.int8).tobytes()
        else:
            element, raw = FLOAT8, float8_bits(values).tobytes()
        self._graph.initializer.append(TensorProto(name=name, dims=values.shape, data_type=element, raw_data=raw))
        return name

    def _zero(self, name: str, shape: tuple[int, ...]) -> str:
        from onnx import TensorProto

        element = INT8 if self._precision == "int8" else FLOAT8
        raw = bytes(int(np.prod(shape, dtype=np.int64)))
        self._graph.initializer.append(TensorProto(name=name, dims=shape, data_type=element, raw_data=raw))
        return name

    def _store(self, name: str, values: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def _node(self, op: str, name: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        from onnx import helper

        node = helper.make_node(op, inputs, [output], name)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
