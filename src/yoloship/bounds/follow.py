"""Following shapes through a graph, from its input to its outputs, without running anything: `Follower`."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from yoloship.bounds.rules import RULES
from yoloship.bounds.values import MAX_KNOWN, MAX_RANK, Extent, Unknown, as_type, evaluate, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.bounds.inputs import Inputs, Outputs
    from yoloship.bounds.outline import Outline

_STANDARD: Final = frozenset({"", "ai.onnx"})


class Follower:
    """What is known about the values of a graph while its nodes are gone through.

    Args:
        model: An outline, or an `onnx.ModelProto`.
        inputs: Shapes of its inputs, by name.

    Raises:
        Unknown: a stored tensor has an impossible shape.
    """

    def __init__(self, model: Outline, inputs: dict[str, tuple[int, ...]]) -> None:
        self.graph = model.graph
        self.extents: dict[str, Extent] = {}
        for tensor in self.graph.initializer:
            self.extents[tensor.name] = stored(tensor)
        for value in self.graph.input:
            if value.name in inputs:
                self.extents[value.name] = Extent(inputs[value.name], value.type.tensor_type.elem_type)

    def in_order(self) -> Iterator[Outline]:
        """The nodes in an order in which they can run, as far as there is one.

        Raises:
            Unknown: two values bear one name.
        """
        nodes, given = self.graph.node, set(self.extents)
        made = [name for node in nodes for name in node.output if name]
        if len(set(made)) < len(made) or not given.isdisjoint(made):
            raise Unknown
        takers: dict[str, list[int]] = {}
        missing = [0] * len(nodes)
        for place, node in enumerate(nodes):
            for name in {name for name in node.input if name and name not in given}:
                missing[place] += 1
                takers.setdefault(name, []).append(place)
        ready = deque(place for place, count in enumerate(missing) if count == 0)
        while ready:
            place = ready.popleft()
            yield nodes[place]
            for taker in (taker for name in nodes[place].output for taker in takers.get(name, ())):
                missing[taker] -= 1
                if missing[taker] == 0:
                    ready.append(taker)

    def inputs_of(self, node: Outline) -> Inputs:
        """What is known about the inputs of a node; None for those that are left out.

        Raises:
            Unknown: nothing is known about one of them.
        """
        try:
            return [self.extents[name] if name else None for name in node.input]
        except KeyError as error:
            raise Unknown from error

    def follow(self, node: Outline) -> Outputs:
        """Find out about the outputs of a node whose inputs are known, and remember it.

        Raises:
            Unknown: that cannot be found out.
        """
        inputs, attributes = self.inputs_of(node), attributes_of(node)
        rule = RULES.get(operator(node))
        if rule is None:
            raise Unknown
        try:
            outputs = rule(attributes, inputs)
        except (KeyError, ValueError, TypeError, IndexError, StopIteration, AttributeError) as error:
            raise Unknown from error
        if any(len(extent.shape) > MAX_RANK for extent in outputs):
            raise Unknown
        constant = all(extent is None or extent.constant for extent in inputs)
        outputs = [replace(extent, constant=constant) for extent in outputs]
        known = [extent.values for extent in inputs if extent is not None and extent.values is not None]
        small = outputs[0].exact and outputs[0].elements <= MAX_KNOWN and outputs[0].values is None
        if small and inputs and len(known) == len(inputs):
            outputs[0] = _with_contents(outputs[0], evaluate(operator(node), attributes, known))
        for name, extent in zip(node.output, outputs, strict=False):
            if name:
                self.extents[name] = extent
        return outputs[: len(node.output)]


def exact_shapes(model: Outline, inputs: dict[str, tuple[int, ...]]) -> dict[str, Extent]:
    """Values of a graph whose shapes are known exactly, by name; others are left out.

    Args:
        model: An outline, or an `onnx.ModelProto`.
        inputs: Shapes of its inputs, by name.
    """
    try:
        follower = Follower(model, inputs)
        for node in follower.in_order():
            with suppress(Unknown):
                follower.follow(node)
    except Unknown:
        return {}
    return {name: extent for name, extent in follower.extents.items() if extent.exact}


def operator(node: Outline) -> str:
    """An operator's name, with its domain in front unless that is the standard."""
    return str(node.op_type) if node.domain in _STANDARD else f"{node.domain}::{node.op_type}"


def attributes_of(node: Outline) -> dict[str, Any]:
    """A node's attributes by name, and under ``outputs`` how many outputs it has."""
    found: dict[str, Any] = {"outputs": len(node.output)}
    for entry in node.attribute:
        if entry.HasField("t"):
            found[entry.name] = entry.t
        elif entry.HasField("s"):
            found[entry.name] = bytes(entry.s)
        elif entry.HasField("i"):
            found[entry.name] = int(entry.i)
        elif entry.HasField("f"):
            found[entry.name] = float(entry.f)
        else:
            found[entry.name] = list(entry.ints) or list(entry.floats)
    return found


def _with_contents(extent: Extent, contents: Any) -> Extent:
    if contents is None or contents.shape != extent.shape or as_type(extent.code) is None:
        return extent
    return replace(extent, values=contents)
