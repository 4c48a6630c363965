"""What an ONNX file says about itself: `describe_onnx`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from yoloship.model import ModelInfo
    from yoloship.tensors import TensorSpec

MAX_INFERRED_BYTES = 1 << 26
"""Of a graph without its weights, above which shapes are not inferred."""
_SMALL = 1024
"""Elements up to which an initializer may be a shape that inference needs."""


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
    metadata: Mapping[str, str]
    info: ModelInfo | None

    @property
    def operator_count(self) -> int:
        """Nodes of the graph."""
        return sum(self.operators.values())


def describe_onnx(source: Path | str | bytes, *, dynamic_hw: tuple[int, int] = (640, 640)) -> GraphSummary:
    """Read what an ONNX file says about itself; nothing is run.

    Args:
        source: The file, or its bytes.
        dynamic_hw: (height, width) in pixels to count operations for, where the file leaves them open.

    Raises:
        GraphError: it is no ONNX model, or one whose inputs or outputs cannot be described.
    """
    if isinstance(source, bytes):
        subject, data = "ONNX model in memory", source
    else:
        subject, data = str(source), read_file(Path(source))
    model = parse_onnx(data, subject)
    graph = model.graph
    metadata = read_metadata(model)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(tensor_spec(value, subject) for value in graph.input if value.name not in weights)
    counts = {tensor.name: element_count(tensor, subject) for tensor in graph.initializer}
    flops, flops_hw = _flops(model, inputs, dynamic_hw)
    return GraphSummary(
        inputs=inputs,
        outputs=tuple(tensor_spec(value, subject) for value in graph.output),
        opset=opset(model),
        ir_version=model.ir_version,
        producer=producer(model),
        operators=MappingProxyType(dict(Counter(node.op_type for node in graph.node).most_common())),
        parameter_count=sum(counts.get(name, 0) for name in _weights(graph)),
        flops=flops,
        flops_hw=flops_hw,
        metadata=MappingProxyType(metadata),
        info=read_model_info(metadata, subject),
    )


def _weights(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node if node.op_type in _WEIGHTED for name in node.input}


def _flops(
    model: onnx.ModelProto, inputs: tuple[TensorSpec, ...], dynamic_hw: tuple[int, int]
) -> tuple[int | None, tuple[int, int] | None]:
    """Operations, and the size they hold for."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None, None
    shape = inputs[0].shape
    if shape[1] == 3:
        height, width = 2, 3
    elif shape[3] == 3:
        height, width = 1, 2
    else:
        return None, None
    fixed = [extent if isinstance(extent, int) else 0 for extent in shape]
    fixed[0] = 1
    for axis, extent in zip((height, width), dynamic_hw, strict=True):
        fixed[axis] = fixed[axis] or extent
    hw = fixed[height], fixed[width]
    shapes = _infer(model, inputs[0].name, fixed)
    if shapes is None:
        return None, None
    total = 0
    for node in model.graph.node:
        if node.op_type in COUNTED and node.domain in {"", "ai.onnx"} and node.output:
            needed = [shapes.get(name) for name in (*node.input[:2], node.output[0])]
            known = [one for one in needed if one is not None]
            if len(known) != 3:
                return None, None
            total += node_flops(node.op_type, known[:2], known[2])
    return total, hw


def _infer(model: onnx.ModelProto, name: str, shape: list[int]) -> dict[str, tuple[int, ...]] | None:
    """Shapes of all values with the input fixed, None where inference fails. Weights are replaced by their shapes."""
    from onnx import ModelProto, helper, shape_inference

    light = ModelProto()
    light.ir_version = max(4, model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(
        helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
        for value in model.graph.output
    )
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name == name:
            light.graph.input.append(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, shape))
        elif value.name not in weights:
            return None
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in model.graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    if light.ByteSize() > MAX_INFERRED_BYTES:
        return None
    try:
        inferred = shape_inference.infer_shapes(light, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError):  # a file that contradicts itself has no figure
        return None
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor_type = value.type.tensor_type
        axes = tensor_type.shape.dim
        if tensor_type.HasField("shape") and all(axis.HasField("dim_value") and axis.dim_value >= 0 for axis in axes):
            shapes.setdefault(value.name, tuple(int(axis.dim_value) for axis in axes))
    return shapes


_WEIGHTED = COUNTED | {"BatchNormalization", "DequantizeLinear", "PRelu"}
"""Operators whose constant inputs are weights; those of others are shapes, grids and scales."""
