"""The body of a network, found by search, and the element type in which each of its layers computes.

The body is the last convolutions and matrix products, and every operator before them. The operators after them decode
the detection head. They are not part of the body, because they hold pixel coordinates, and a number with eleven bits of
precision would move boxes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.bounds.outline import FLOAT
from yoloship.graph.onnx_file import all_graphs, dtype_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    from yoloship.model import Precision


HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators with weights. Nearly all of the arithmetic is in them."""

_SMALL = 1024
"""Elements up to which a stored tensor may be a shape, which inference needs."""
_STANDARD = frozenset({"", "ai.onnx"})
UNKNOWN = "unknown"
_PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {"float16": "float16", "bfloat16": "bfloat16", "int8": "int8", "float8_e4m3fn": "float8"}
)
"""By element type; all others count as float32."""


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value whose type is known, as onnx.TensorProto numbers them."""
    from onnx import ModelProto, helper, shape_inference

    light = ModelProto()
    light.ir_version = max(4, model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.graph.name = "types"
    light.graph.node.extend(model.graph.node)
    types: dict[str, int] = {}
    for tensor in model.graph.initializer:
        types[tensor.name] = tensor.data_type
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    light.graph.input.extend(value for value in model.graph.input if value.name not in types)
    light.graph.output.extend(model.graph.output)
    try:
        light = shape_inference.infer_shapes(light)
    except (shape_inference.InferenceError, RuntimeError, ValueError):  # fewer types are known then
        light.graph.value_info.extend(model.graph.value_info)
    for value in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    return types


def is_heavy(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution or a matrix product of the standard."""
    return node.op_type in HEAVY and node.domain in _STANDARD


def body(model: onnx.ModelProto, types: Mapping[str, int]) -> tuple[int, ...]:
    """Places of the body's nodes, in the graph's order.

    Args:
        model: Nodes topologically sorted, as the format wants them.
        types: As `element_types` gives them. Only float32 values, and their codes in a quantized graph, count as the
            network's signal.
    """
    wanted: set[str] = set()
    found = []
    for place in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[place]
        if is_heavy(node) or any(name in wanted for name in node.output):
            found.append(place)
            wanted.update(_ways_in(node, types))
    return tuple(reversed(found))


def last_heavy(model: onnx.ModelProto, types: Mapping[str, int]) -> frozenset[int]:
    """Places of the convolutions and products that no other follows: a detector's head, one for each level."""
    before: set[str] = set()
    last = []
    for place in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[place]
        feeds_one = any(name in before for name in node.output)
        if is_heavy(node) and not feeds_one:
            last.append(place)
        if is_heavy(node) or feeds_one:
            before.update(_ways_in(node, types))
    return frozenset(last)


def _ways_in(node: onnx.NodeProto, types: Mapping[str, int]) -> Iterator[str]:
    """Values that carry the network's signal into a node: float32 values, and codes that are dequantized to float32."""
    if node.op_type == "DequantizeLinear":
        yield node.input[0]
    else:
        yield from (name for name in inputs_of(node) if types.get(name) == FLOAT)


def inputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """Names of a node's inputs, and of the outer values that its subgraphs use."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            for nested in inner.node:
                yield from inputs_of(nested)
            yield from (value.name for value in inner.output)


def implicit_inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the subgraphs of a graph's nodes use. Names that a subgraph defines itself are included."""
    for node in graph.node:
        if has_subgraph(node):
            yield from inputs_of(node)


def inline_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into stored tensors, in place. Some exporters write weights as Constant nodes."""
    from onnx import TensorProto

    nodes = []
    for node in graph.node:
        value = next((entry.t for entry in node.attribute if entry.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            nodes.append(node)
            continue
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(nodes) != len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


def has_subgraph(node: onnx.NodeProto) -> bool:
    """Whether a node holds graphs of its own: If, Loop, Scan."""
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """A convolution or a matrix product.

    Attributes:
        name: The node's name, or its output's if the node has none.
        operator: ``Conv``, ``MatMul``, …
        precision: Element type of its activations; behind a DequantizeLinear the type that was quantized.
    """

    name: str
    operator: str
    precision: str


def layer_precisions(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """Weighted layers in the graph's order, each with the element type in which it computes.

    Args:
        model: Its types are inferred if it does not state them. It is not changed.
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
    """The element type in which most of the weighted layers compute; float32 if there are none.

    Args:
        model: Its types are inferred if it does not state them. It is not changed.
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
