"""What a graph costs: shapes, arithmetic and memory (`graph_costs`).

A multiply-add counts as two operations, as in published tables.

The memory is an estimate, made without a runtime. It assumes that nodes run in the file's order, and that a value lives
from the node that makes it to the last node that reads it. Real runtimes fuse operators, reuse the memory of dead
inputs and keep scratch memory of their own, so they take more or less than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship.bounds import exact_shapes
from yoloship.bounds.check import MAX_NODES
from yoloship.graph.body import inputs_of
from yoloship.graph.build import trace
from yoloship.graph.builder import ShapesOnly
from yoloship.graph.config import GraphConfig
from yoloship.graph.known_transform import CLASSIFY, OPEN
from yoloship.graph.onnx_file import element_count, tensor_spec
from yoloship.model import FASTEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import onnx

    from yoloship.checkpoint import Checkpoint
    from yoloship.model import TensorSpec


MAX_CHANNELS: Final = 16
"""The most channels of an input; longer axes are heights and widths."""
COUNTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2, 17: 1, 18: 1, 19: 1, 20: 1}
)
"""Bytes of an element, by onnx.TensorProto's number of its type. Source: onnx.proto, TensorProto.DataType."""
_WEIGHTED = COUNTED | {"BatchNormalization", "PRelu"}
"""Operators whose constant inputs are weights. The constant inputs of other operators are shapes, grids and scales."""
_INTEGER_FORMS = MappingProxyType(
    {
        "QLinearConv": ("Conv", 3),
        "QLinearMatMul": ("MatMul", 3),
        "ConvInteger": ("Conv", 1),
        "MatMulInteger": ("MatMul", 1),
    }
)
"""Integer forms of weighted operators, and which of their inputs holds the weights."""
_INTEGER_WEIGHTS = MappingProxyType(
    {
        "QLinearConv": (0, 3, 8),
        "QLinearMatMul": (0, 3),
        "QGemm": (0, 3, 6),
        "ConvInteger": (0, 1),
        "MatMulInteger": (0, 1),
    }
)
"""For operators that also take scales and zero points: which inputs are data or weights."""
_PASSING = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape"})
"""Operators that pass on the elements of their first input."""


class Value(NamedTuple):
    """What is known about a value.

    Attributes:
        shape: All extents.
        element_type: By onnx.TensorProto's number; 0 if unknown.
    """

    shape: tuple[int, ...]
    element_type: int


def one_image(
    inputs: Sequence[TensorSpec], dynamic_hw: tuple[int, int]
) -> tuple[tuple[int, int] | None, tuple[int, ...]]:
    """The input's shape for one image.

    Args:
        inputs: The inputs of a graph.
        dynamic_hw: (height, width) in pixels, used if they are open.

    Returns:
        (height, width) and the whole shape; None and an empty shape if the graph does not take one image.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None, ()
    shape = inputs[0].shape
    if isinstance(shape[1], int) and shape[1] <= MAX_CHANNELS:
        height, width = 2, 3
    elif isinstance(shape[3], int) and shape[3] <= MAX_CHANNELS:
        height, width = 1, 2
    else:
        return None, ()
    fixed = [extent if isinstance(extent, int) else 0 for extent in shape]
    fixed[0] = 1
    for axis, extent in zip((height, width), dynamic_hw, strict=True):
        fixed[axis] = fixed[axis] or extent
    return (fixed[height], fixed[width]), tuple(fixed)


def infer_values(model: onnx.ModelProto, name: str, shape: Sequence[int]) -> dict[str, Value] | None:
    """Shapes of all values with the input fixed.

    Args:
        model: A graph of any exporter. It is not changed.
        name: Its only input.
        shape: The shape of that input.

    Returns:
        Values by name, without those whose shape cannot be known. None if the graph has other inputs, too.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    if any(value.name != name and value.name not in stored for value in model.graph.input):
        return None
    found = exact_shapes(model, {name: tuple(shape)})
    return {key: Value(extent.shape, extent.code) for key, extent in found.items()}


def checkpoint_flops(checkpoint: Checkpoint, input_hw: tuple[int, int] = (640, 640)) -> int:
    """Operations for one image, without the decoding of the head.

    Args:
        checkpoint: A detector.
        input_hw: (height, width) in model pixels.

    Raises:
        GraphError: the network has a block that cannot be written, or the size does not fit.
    """
    config = GraphConfig(input_hw=input_hw, output_form=FASTEST)
    if checkpoint.task == CLASSIFY:
        config = replace(config, transform=OPEN)  # it adds no arithmetic worth counting
    graph = trace(checkpoint, config, ShapesOnly())
    shapes = {name: wire.shape for name, wire in graph.wires.items()}
    shapes |= {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}
    shapes |= {name: array.shape for name, array in graph.constants.items()}
    total = 0
    for node in graph.nodes:
        inputs = [shapes.get(name, ()) for name in node.inputs[:2]]
        total += _node_flops(node.op, inputs, shapes[node.outputs[0]]) or 0  # type: ignore[arg-type]  # all are fixed
    return total


def _node_flops(op: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Operations of one node.

    Args:
        op: ONNX operator name.
        inputs: Shapes of the first two inputs, data and weights.
        output: Shape of the first output.

    Returns:
        0 for operators that are not counted.
    """
    if op not in COUNTED or len(inputs) < 2:
        return 0
    data, weight = inputs
    if op == "Conv":
        return 2 * math.prod(output) * math.prod(weight[1:])
    if op == "ConvTranspose":
        return 2 * math.prod(data) * math.prod(weight[1:])
    inner = data[-1] if data else 0
    if op == "Gemm" and output and data:
        inner = math.prod(data) // max(1, output[0])
    return 2 * math.prod(output) * inner


class Activations(NamedTuple):
    """The memory of a graph's activations.

    Attributes:
        peak_bytes: The most at one time. Input and outputs count, weights do not.
        unsized: How many values are missing from that figure because their size is not known.
    """

    peak_bytes: int
    unsized: int


def peak_activations(model: onnx.ModelProto, values: Mapping[str, Value]) -> Activations:
    """Find how much memory is in use at one time.

    Args:
        model: A graph of any exporter. It is not changed.
        values: As `infer_values` gives them.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    last_use = {value.name: -1 for value in graph.input}
    for place, node in enumerate(graph.node):
        last_use.update({name: place for name in inputs_of(node) if name in last_use})  # a subgraph's own are not there
        last_use.update(dict.fromkeys(node.output, place))
    last_use.update({value.name: len(graph.node) for value in graph.output if value.name in last_use})
    ends: dict[int, list[str]] = {}
    for name, place in last_use.items():
        ends.setdefault(place, []).append(name)

    sizes: dict[str, int] = {}
    unsized = 0
    for name in last_use.keys() - stored - {""}:
        value = values.get(name)
        each = _BYTES.get(value.element_type) if value is not None else None
        if value is None or each is None:
            unsized += 1
        else:
            sizes[name] = math.prod(value.shape) * each
    live = peak = sum(sizes[value.name] for value in graph.input if value.name in sizes)
    for place, node in enumerate(graph.node):
        live += sum(sizes.get(name, 0) for name in node.output)
        peak = max(peak, live)
        live -= sum(sizes.get(name, 0) for name in ends.get(place, ()))
    return Activations(peak, unsized)


@dataclass(frozen=True, slots=True)
class GraphCosts:
    """What a graph holds and what one image costs.

    Attributes:
        parameter_count: Elements of its weights.
        flops: Operations for one image, multiply-add as two; None if shapes are not known.
        flops_hw: (height, width) in pixels that `flops` holds for; None if `flops` is.
        activations: The memory of the activations while one image of that size runs; None if shapes are not known.
    """

    parameter_count: int
    flops: int | None
    flops_hw: tuple[int, int] | None
    activations: Activations | None


def graph_costs(model: onnx.ModelProto, *, dynamic_hw: tuple[int, int] = (640, 640), subject: str) -> GraphCosts:
    """Count what a graph costs, without running it.

    Args:
        model: As `parse_onnx` gives it.
        dynamic_hw: (height, width) in pixels to count operations for, if the graph leaves them open.
        subject: Its name, for messages.

    Raises:
        GraphError: its inputs or stored tensors are of an impossible type or shape.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(tensor_spec(value, subject) for value in graph.input if value.name not in weights)
    counts = {name: element_count(tensor, subject) for name, tensor in _stored(graph)}
    input_hw, fixed = one_image(inputs, dynamic_hw)
    followed = input_hw is not None and len(graph.node) <= MAX_NODES  # no runtime here takes more
    values = infer_values(model, inputs[0].name, fixed) if followed else None
    flops = count_flops(graph.node, values) if values is not None else None
    return GraphCosts(
        parameter_count=sum(counts[name] for name in _weights(graph, counts)),
        flops=flops,
        flops_hw=input_hw if flops is not None else None,
        activations=peak_activations(model, values) if values is not None and flops is not None else None,
    )


def count_flops(nodes: Iterable[onnx.NodeProto], values: Mapping[str, Value]) -> int | None:
    """Operations of some nodes of a graph, multiply-add as two; None if a shape that counts is not known.

    Args:
        nodes: Those to count; operators without weights count as nothing.
        values: What is known about the graph's values, as `infer_values` gives it.
    """
    total = 0
    for node in nodes:
        kind, weights = _INTEGER_FORMS.get(node.op_type, (node.op_type, 1))
        if kind in COUNTED and node.domain in {"", "ai.onnx"} and node.output and len(node.input) > weights:
            needed = [values.get(name) for name in (node.input[0], node.input[weights], node.output[0])]
            known = [value.shape for value in needed if value is not None]
            if len(known) != 3:
                return None
            total += _node_flops(kind, known[:2], known[2])
    return total


def _stored(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Constant tensors, each with the name under which nodes use it: initializers and the tensors of Constant nodes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            yield from ((node.output[0], entry.t) for entry in node.attribute if entry.HasField("t"))


def _weights(graph: onnx.GraphProto, stored: Collection[str]) -> set[str]:
    """Names of the stored tensors that layers use as weights, also through operators in between.

    A quantized file dequantizes its weights before a layer, and a file in half precision may cast them. Scales and zero
    points are not weights.
    """
    made_by = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name for node in graph.node for name in _weight_inputs(node)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in stored:
            found.add(name)
        elif (node := made_by.get(name)) is not None and node.op_type in _PASSING and node.input:
            waiting.append(node.input[0])
    return found


def _weight_inputs(node: onnx.NodeProto) -> list[str]:
    if (places := _INTEGER_WEIGHTS.get(node.op_type)) is not None:
        return [node.input[place] for place in places if place < len(node.input)]
    return list(node.input) if node.op_type in _WEIGHTED else []
