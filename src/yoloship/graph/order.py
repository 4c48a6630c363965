"""Nodes in an order in which they can run: `sort_nodes`.

ONNX asks for it, but converters to float16 append their casts at the end of the list. ONNX Runtime and TensorRT sort
such graphs without a word, so they are sorted here, too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from yoloship.errors import GraphError

if TYPE_CHECKING:
    import onnx


def sort_nodes(graph: onnx.GraphProto, subject: str) -> None:
    """Sort a graph's nodes in place, if they need it. Those that are in order keep their places.

    Args:
        graph: As parsed. Values that nothing in it makes count as known: they come from outside, or are missing.
        subject: The file, for messages.

    Raises:
        GraphError: nodes wait for each other in a circle.
    """
    needs = [_needed(node) for node in graph.node]
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    if all(maker.get(name, -1) < place for place, names in enumerate(needs) for name in names):
        return
    waiting = [0] * len(needs)
    takers: dict[int, list[int]] = {}
    for place, names in enumerate(needs):
        for source in {maker[name] for name in names if name in maker}:
            waiting[place] += 1
            takers.setdefault(source, []).append(place)
    ready = deque(place for place, count in enumerate(waiting) if count == 0)
    order = []
    while ready:
        place = ready.popleft()
        order.append(place)
        for taker in takers.get(place, ()):
            waiting[taker] -= 1
            if waiting[taker] == 0:
                ready.append(taker)
    if len(order) < len(needs):
        stuck = graph.node[next(place for place, count in enumerate(waiting) if count)]
        raise GraphError(
            "has nodes that wait for each other in a circle",
            subject=subject,
            got=f"{stuck.op_type[:40]} ({stuck.name[:60] or 'without a name'})",
        )
    nodes = [graph.node[place] for place in order]
    copies = [type(node)() for node in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def _needed(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node takes, those that its branches take from around them included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            made = {name for inner in branch.node for name in inner.output}
            for inner in branch.node:
                names |= _needed(inner) - made
            names |= {value.name for value in branch.output} - made
    return names
