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
    from collections.abc import Collection

    import onnx

FLOAT16, BFLOAT16 = 10, 16
"""onnx.TensorProto's element types."""
_HALF = frozenset({FLOAT16, BFLOAT16})


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph keeps weights in half precision."""
    return any(tensor.data_type in _HALF for tensor in model.graph.initializer)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph that gives what a graph in half precision gives.

    Args:
        model: As `yoloship.graph.precision` writes it. Not changed.

    Returns:
        A new model. Values keep their names.
    """
    from onnx import ModelProto, NodeProto, helper

    types = element_types(model)
    emulated = ModelProto()
    emulated.CopyFrom(model)
    graph = emulated.graph
    for tensor in graph.initializer:
        if tensor.data_type in _HALF:
            tensor.CopyFrom(_widened(tensor))
    nodes = []
    for node in model.graph.node:
        changed = NodeProto()
        changed.CopyFrom(node)
        for attribute in changed.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALF:
                attribute.i = FLOAT
        nodes.append(changed)
        for place, name in enumerate(node.output):
            element = types.get(name, 0)
            if element in _HALF:
                changed.output[place], rounded = f"{name}.exact", f"{name}.rounded"
                nodes.append(helper.make_node("Cast", [f"{name}.exact"], [rounded], f"{name}.round", to=element))
                nodes.append(helper.make_node("Cast", [rounded], [name], f"{name}.widen", to=FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return emulated


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
