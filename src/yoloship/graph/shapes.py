"""Shapes of all values in somebody's ONNX graph while one picture runs: `infer_values`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship.bounds import exact_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from yoloship.tensors import TensorSpec

MAX_CHANNELS: Final = 16
"""Of an input; longer axes are heights and widths."""


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
    """Shapes of all values with the input fixed.

    Args:
        model: Whoever made it; not changed.
        name: Its one input.
        shape: What goes in there.

    Returns:
        By name; a value whose shape cannot be known is left out. None if the graph has other inputs, too.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    if any(value.name != name and value.name not in stored for value in model.graph.input):
        return None
    found = exact_shapes(model, {name: tuple(shape)})
    return {key: Value(extent.shape, extent.code) for key, extent in found.items()}
