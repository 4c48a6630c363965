"""Shapes of all values in somebody's ONNX graph while one picture runs: `infer_values`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from yoloship.tensors import TensorSpec

MAX_INFERRED_BYTES: Final = 1 << 26
"""Of a graph without its weights, above which shapes are not inferred."""
MAX_CHANNELS: Final = 16
"""Of an input; longer axes are heights and widths."""
_SMALL: Final = 1024
"""Elements up to which an initializer may be a shape that inference needs."""


class Value(NamedTuple):
    """What is known about a value.

    Attributes:
        shape: All extents.
        element_type: By onnx.TensorProto's number; 0 where unknown.
    """

    shape: tuple[int, ...]
    element_type: int


def one_picture(
    inputs: Sequence[TensorSpec], dynamic_hw: tuple[int, int]
) -> tuple[tuple[int, int] | None, tuple[int, ...]]:
    """The input's shape for one picture.

    Args:
        inputs: Of a graph.
        dynamic_hw: (height, width) in pixels where they are open.

    Returns:
        (height, width) and the whole shape; None and nothing where the graph does not take one picture.
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
    """Shapes of all values with the input fixed. Weights are replaced by their shapes.

    Args:
        model: Whoever made it; not changed.
        name: Its one input.
        shape: What goes in there.

    Returns:
        By name; a value whose shape cannot be inferred is left out. None where inference fails.
    """
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
    values: dict[str, Value] = {}
    for tensor in model.graph.initializer:
        values[tensor.name] = Value(tuple(tensor.dims), tensor.data_type)
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
            extents = tuple(int(axis.dim_value) for axis in axes)
            values.setdefault(value.name, Value(extents, tensor_type.elem_type))
    return values
