"""How much of a network is quantized: `quantized_share`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yoloship.graph.file import tensor_spec
from yoloship.graph.flops import node_flops
from yoloship.graph.search import is_heavy
from yoloship.graph.shapes import infer_values, one_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from yoloship.graph.shapes import Value

_OPEN_HW: Final = (640, 640)
"""(height, width) to count for, if the graph leaves them open; shares hardly depend on it."""


@dataclass(frozen=True, slots=True)
class QuantizedShare:
    """How many of a network's weighted layers compute in codes.

    Attributes:
        quantized: Convolutions and matrix products whose data and weights are both quantized.
        layers: All convolutions and matrix products.
        arithmetic: The share of operations in the quantized ones, in [0, 1]; None if shapes are not known.
    """

    quantized: int
    layers: int
    arithmetic: float | None

    def __str__(self) -> str:
        text = f"{self.quantized} of {self.layers} convolutions"
        return text if self.arithmetic is None else f"{text}, {self.arithmetic:.0%} of the arithmetic"


def quantized_share(model: onnx.ModelProto) -> QuantizedShare:
    """Count the layers that compute in codes.

    Args:
        model: A graph, quantized or not. Not changed.
    """
    decoded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.output}
    heavy = [node for node in model.graph.node if is_heavy(node) and len(node.input) > 1 and node.output]
    quantized = [node for node in heavy if decoded.issuperset(node.input[:2])]
    values = _values(model)
    total, inside = _flops(heavy, values), _flops(quantized, values)
    return QuantizedShare(len(quantized), len(heavy), inside / total if total and inside is not None else None)


def _values(model: onnx.ModelProto) -> Mapping[str, Value]:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(tensor_spec(value, "graph") for value in model.graph.input if value.name not in stored)
    input_hw, fixed = one_picture(inputs, _OPEN_HW)
    return (infer_values(model, inputs[0].name, fixed) if input_hw is not None else None) or {}


def _flops(nodes: list[onnx.NodeProto], values: Mapping[str, Value]) -> int | None:
    total = 0
    for node in nodes:
        needed = [values.get(name) for name in (*node.input[:2], node.output[0])]
        known = [value.shape for value in needed if value is not None]
        if len(known) != 3:
            return None
        total += node_flops(node.op_type, known[:2], known[2])
    return total
