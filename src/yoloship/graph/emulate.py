"""What half precision does to a network's numbers, on a machine that has none: `emulate`.

ONNX Runtime on a CPU has no kernels for bfloat16, and runs float16 by casting: its optimiser then drops the casts
between two operators, so that neither rounding nor overflow shows (measured on 1.32: a product of 90,000 in float16
comes out finite). Here every value that a graph keeps in half precision is computed in float32 and then rounded by a
pair of casts of its own, which the optimiser leaves alone. Kernels that fuse operators round less often than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yoloship.graph.search import FLOAT, element_types
from yoloship.graph.stored import stored_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import onnx

FLOAT16, BFLOAT16 = 10, 16
"""onnx.TensorProto's element types."""
_HALF = frozenset({FLOAT16, BFLOAT16})


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph keeps weights in half precision."""
    stored = [*model.graph.initializer, *(entry.t for node in model.graph.node for entry in node.attribute)]
    return any(tensor.data_type in _HALF for tensor in stored)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph that gives what a graph in half precision gives.

    Args:
        model: As `yoloship.graph.precision` writes it. Not changed.

    Returns:
        A new model. Values keep their names; inputs and outputs of half precision become float32.
    """
    from onnx import ModelProto, NodeProto

    types = element_types(model)
    emulated = ModelProto()
    emulated.CopyFrom(model)
    graph = emulated.graph
    for tensor in graph.initializer:
        if tensor.data_type in _HALF:
            tensor.CopyFrom(_widened(tensor))
    stored = {tensor.name for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rounded_inputs: dict[str, str] = {}
    for place, value in enumerate((*graph.input, *graph.output)):
        element = value.type.tensor_type.elem_type
        if element in _HALF:
            value.type.tensor_type.elem_type = FLOAT
            if place < len(graph.input) and value.name not in stored:
                rounded_inputs[value.name] = f"{value.name}.in"
                nodes.extend(_rounding(value.name, f"{value.name}.in", element))
    for node in model.graph.node:
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[:] = [rounded_inputs.get(name, name) for name in node.input]
        for attribute in changed.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALF:
                attribute.i = FLOAT
            if attribute.HasField("t") and attribute.t.data_type in _HALF:
                attribute.t.CopyFrom(_widened(attribute.t))
        nodes.append(changed)
        for place, name in enumerate(node.output):
            element = types.get(name, 0)
            if element in _HALF:
                changed.output[place] = f"{name}.exact"
                nodes.extend(_rounding(f"{name}.exact", name, element))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return emulated


def _rounding(source: str, name: str, element: int) -> Iterator[onnx.NodeProto]:
    """Two casts: to half precision and back."""
    from onnx import helper

    yield helper.make_node("Cast", [source], [f"{name}.rounded"], f"{name}.round", to=element)
    yield helper.make_node("Cast", [f"{name}.rounded"], [name], f"{name}.widen", to=FLOAT)


def overflows(emulated: onnx.ModelProto, infinite: Collection[str]) -> frozenset[str]:
    """Nodes that must not compute in half precision because values stop being finite there.

    Args:
        emulated: As `emulate` gives it.
        infinite: Names of the values that held anything that is not finite, of those of `half_values`.

    Returns:
        Names of nodes: those that give such a value and take none; and where a value of float32 was too large when it
        was cast, those that take it.
    """
    exact = {f"{name}.exact": name for name in infinite}
    found: set[str] = set()
    for node in emulated.graph.node:
        values = [exact[name] for name in node.output if name in exact]
        if values and not set(infinite).intersection(node.input):
            if node.op_type == "Cast":
                found.update(other.name for other in emulated.graph.node if set(values).intersection(other.input))
            else:
                found.add(node.name)
    return frozenset(found)


def half_values(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the values that a graph computes in half precision."""
    types = element_types(model)
    return tuple(name for node in model.graph.node for name in node.output if types.get(name, 0) in _HALF)


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    from onnx import numpy_helper

    values = stored_values(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)
