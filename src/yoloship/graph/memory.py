"""How much memory a graph's activations take at once: `peak_activations`.

An estimate that needs no runtime: nodes run in the file's order, which the format wants to be a topological one, and a
value lives from the node that makes it to the last that reads it. Runtimes fuse operators, reuse a dead input's memory
for the output and keep scratch memory of their own, so what they take differs either way.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship.graph.search import inputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from yoloship.graph.shapes import Value

_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2, 17: 1, 18: 1, 19: 1, 20: 1}
)
"""Of an element, by onnx.TensorProto's number of its type. Source: onnx.proto, TensorProto.DataType."""


class Activations(NamedTuple):
    """What a graph's activations take.

    Attributes:
        peak_bytes: Most at one time; weights are not counted, input and outputs are.
        unsized: Values that are left out of it because their size is not known.
    """

    peak_bytes: int
    unsized: int


def peak_activations(model: onnx.ModelProto, values: Mapping[str, Value]) -> Activations:
    """Find how much is alive at once.

    Args:
        model: Whoever made it; not changed.
        values: See `yoloship.graph.shapes.infer_values`.
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
