"""What an ONNX file says about itself: `describe_onnx`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.bounds.check import MAX_NODES
from yoloship.graph.file import (
    element_count,
    opset,
    parse_onnx,
    producer,
    read_file,
    read_metadata,
    read_model_info,
    tensor_spec,
)
from yoloship.graph.flops import COUNTED, node_flops
from yoloship.graph.memory import Activations, peak_activations
from yoloship.graph.shapes import infer_values, one_picture

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import onnx

    from yoloship.graph.shapes import Value
    from yoloship.model import ModelInfo
    from yoloship.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """What an ONNX file is.

    Attributes:
        inputs: In order.
        outputs: In order.
        opset: Version of ONNX's operators.
        ir_version: Version of the format.
        producer: Who wrote it, with version; may be empty.
        operators: How many nodes of each operator, most frequent first.
        parameter_count: Elements of its weights.
        flops: Operations for one picture, multiply-add as two; None where shapes are not known.
        flops_hw: (height, width) that `flops` holds for.
        activations: What they take while one picture of that size runs; None where shapes are not known.
        metadata: As embedded.
        info: Our own record, None in a file that is not ours.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int
    producer: str
    operators: Mapping[str, int]
    parameter_count: int
    flops: int | None
    flops_hw: tuple[int, int] | None
    activations: Activations | None
    metadata: Mapping[str, str]
    info: ModelInfo | None

    @property
    def operator_count(self) -> int:
        """Nodes of the graph."""
        return sum(self.operators.values())


def describe_onnx(
    source: Path | str | bytes, *, dynamic_hw: tuple[int, int] = (640, 640), subject: str = "ONNX model in memory"
) -> GraphSummary:
    """Read what an ONNX file says about itself; nothing is run.

    Args:
        source: The file, or its bytes.
        dynamic_hw: (height, width) in pixels to count operations for, where the file leaves them open.
        subject: What messages call bytes.

    Raises:
        GraphError: it is no ONNX model, or one whose inputs or outputs cannot be described.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source))
    subject = subject if isinstance(source, bytes) else str(source)
    model = parse_onnx(data, subject)
    graph = model.graph
    metadata = read_metadata(model)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(tensor_spec(value, subject) for value in graph.input if value.name not in weights)
    counts = {name: element_count(tensor, subject) for name, tensor in _stored(graph)}
    input_hw, fixed = one_picture(inputs, dynamic_hw)
    followed = input_hw is not None and len(graph.node) <= MAX_NODES  # no runtime here takes more
    values = infer_values(model, inputs[0].name, fixed) if followed else None
    flops = _flops(model, values) if values is not None else None
    return GraphSummary(
        inputs=inputs,
        outputs=tuple(tensor_spec(value, subject) for value in graph.output),
        opset=opset(model),
        ir_version=model.ir_version,
        producer=producer(model),
        operators=MappingProxyType(dict(Counter(node.op_type for node in graph.node).most_common())),
        parameter_count=sum(counts[name] for name in _weights(graph, counts)),
        flops=flops,
        flops_hw=input_hw if flops is not None else None,
        activations=peak_activations(model, values) if values is not None and flops is not None else None,
        metadata=MappingProxyType(metadata),
        info=read_model_info(metadata, subject),
    )


def _stored(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Constant tensors by the name they are used by: initializers, and what Constant nodes hold."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            yield from ((node.output[0], entry.t) for entry in node.attribute if entry.HasField("t"))


def _weights(graph: onnx.GraphProto, stored: Collection[str]) -> set[str]:
    """Names of the stored tensors that layers compute with, whatever stands in between.

    A quantized file dequantizes its weights on the way to a layer, a half precision one may cast them. Their scales
    and zero points are not weights.
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


def _flops(model: onnx.ModelProto, values: Mapping[str, Value]) -> int | None:
    total = 0
    for node in model.graph.node:
        kind, weights = _INTEGER_FORMS.get(node.op_type, (node.op_type, 1))
        if kind in COUNTED and node.domain in {"", "ai.onnx"} and node.output and len(node.input) > weights:
            needed = [values.get(name) for name in (node.input[0], node.input[weights], node.output[0])]
            known = [one.shape for one in needed if one is not None]
            if len(known) != 3:
                return None
            total += node_flops(kind, known[:2], known[2])
    return total


_WEIGHTED = COUNTED | {"BatchNormalization", "PRelu"}
"""Operators whose constant inputs are weights; those of others are shapes, grids and scales."""
_INTEGER_FORMS = MappingProxyType(
    {
        "QLinearConv": ("Conv", 3),
        "QLinearMatMul": ("MatMul", 3),
        "ConvInteger": ("Conv", 1),
        "MatMulInteger": ("MatMul", 1),
    }
)
"""Operators that compute what others do, in integers, and which of their inputs holds the weights."""
_INTEGER_WEIGHTS = MappingProxyType(
    {
        "QLinearConv": (0, 3, 8),
        "QLinearMatMul": (0, 3),
        "QGemm": (0, 3, 6),
        "ConvInteger": (0, 1),
        "MatMulInteger": (0, 1),
    }
)
"""The inputs that are data or weights, of operators that take scales and zero points beside them."""
_PASSING = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape"})
"""Operators that hand the elements of their first input on."""
