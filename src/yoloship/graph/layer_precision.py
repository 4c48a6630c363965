"""What each weighted layer of an ONNX graph computes in: `layer_precisions`; and most of them: `body_precision`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.graph.file import all_graphs, dtype_name
from yoloship.graph.search import element_types, is_heavy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from yoloship.model import Precision

UNKNOWN = "unknown"

_PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8_e4m3fn": "float8"}
)
"""By element type; all others count as float32."""


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """A convolution or a matrix product.

    Attributes:
        name: Of its node, or of its output where that has none.
        operator: ``Conv``, ``MatMul``, …
        precision: Element type of its activations; behind a DequantizeLinear the type that was quantized.
    """

    name: str
    operator: str
    precision: str


def layer_precisions(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """Weighted layers in the graph's order, with what they compute in.

    Args:
        model: Its types are inferred where it does not state them; not changed.
    """
    types = element_types(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    stored = {tensor.name: tensor.data_type for graph in all_graphs(model.graph) for tensor in graph.initializer}
    known = {**stored, **types}
    return tuple(
        LayerPrecision(node.name or node.output[0], node.op_type, _precision(node.input[0], makers, known))
        for node in model.graph.node
        if is_heavy(node) and node.input and node.output
    )


def body_precision(model: onnx.ModelProto) -> Precision:
    """What most of the weighted layers compute in; float32 where there are none.

    Args:
        model: See `layer_precisions`.
    """
    counts = Counter(_PRECISIONS.get(layer.precision, "float32") for layer in layer_precisions(model))
    return counts.most_common(1)[0][0] if counts else "float32"


def _precision(value: str, makers: Mapping[str, onnx.NodeProto], types: Mapping[str, int]) -> str:
    maker = makers.get(value)
    if maker is not None and maker.op_type == "DequantizeLinear" and maker.input:
        zero = maker.input[2] if len(maker.input) > 2 else ""
        for name in (maker.input[0], zero):
            if name in types:
                return dtype_name(types[name])
        return UNKNOWN
    return dtype_name(types[value]) if value in types else UNKNOWN
