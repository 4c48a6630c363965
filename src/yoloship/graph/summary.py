"""What an ONNX file says about itself: sizes, tensors, metadata, arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})
_FEW = 16
"""Initializers of at most this many elements that feed other operators are shapes, axes and scales, not weights."""


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """The facts of an ONNX graph.

    Attributes:
        producer: Name and version of the program that wrote it.
        opset: Of the default operator set.
        nodes: Number of operators.
        parameters: Elements of its weights.
        gflops: 10⁹ floating-point operations of one run, a multiplication and an addition being two, counted over
            convolutions and matrix products; None where a size that it needs is dynamic.
        inputs: Name, type and shape, as text.
        outputs: The same.
        metadata: Texts embedded in the file; untrusted.
    """

    producer: str
    opset: int
    nodes: int
    parameters: int
    gflops: float | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]


def read_summary(path: Path) -> GraphSummary:
    """Summarise a file.

    Args:
        path: An ONNX file; weights beside it are not read.

    Raises:
        GraphError: it is missing or no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no stubs

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise GraphError(f"cannot be read: {error.strerror or error}", subject=str(path)) from error
    except (DecodeError, ValueError) as error:
        raise GraphError("is no ONNX file", subject=str(path)) from error
    if not model.graph.node:
        raise GraphError("is no ONNX file, or one without a graph", subject=str(path))
    return summarise(model)


def summarise(model: onnx.ModelProto) -> GraphSummary:
    """Summarise a graph in memory; it is not changed."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    return GraphSummary(
        producer=f"{model.producer_name} {model.producer_version}".strip() or "unknown",
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        nodes=len(graph.node),
        parameters=_parameters(model),
        gflops=_gflops(model),
        inputs=tuple(_text(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_text(value) for value in graph.output),
        metadata=MappingProxyType({entry.key: entry.value for entry in model.metadata_props}),
    )


def _parameters(model: onnx.ModelProto) -> int:
    used_as_weight = {name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input}
    sizes = ((tensor.name, math.prod(tensor.dims)) for tensor in model.graph.initializer)
    return sum(size for name, size in sizes if name in used_as_weight or size > _FEW)


def _gflops(model: onnx.ModelProto) -> float | None:
    shapes = _shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        out, weight, left = shapes.get(node.output[0]), shapes.get(node.input[1]), shapes.get(node.input[0])
        if out is None or weight is None or left is None:
            return None
        if node.op_type == "Conv":  # (out, in / groups, kernel…): each output element sums over all but the first
            total += 2 * math.prod(out) * math.prod(weight[1:])
        else:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            total += 2 * math.prod(out) * left[-2 if transposed else -1]
    return total / 1e9


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The fixed shapes of all tensors; inferred where the file does not state them."""
    graph = model.graph
    stated = {value.name for value in (*graph.value_info, *graph.output)}
    if any(node.output[0] not in stated for node in graph.node if node.output):
        import onnx

        try:
            graph = onnx.shape_inference.infer_shapes(model).graph
        except (RuntimeError, ValueError):  # a file that contradicts itself is still worth the rest of its summary
            graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _text(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    kind = {"float": "float32", "double": "float64"}.get(kind, kind)
    sides = (
        str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    )
    return f"{value.name} {kind}({', '.join(sides)})"
