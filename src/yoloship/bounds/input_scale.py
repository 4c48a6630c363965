"""Whether a graph itself scales its images down from 0..255: `takes_bytes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.bounds.values import FLOATS, Unknown, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.bounds.outline import Outline
    from yoloship.bounds.values import Array

_MOVES: Final = frozenset(
    {"Cast", "Concat", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that leave the values as they are, or add others beside them."""
_LEAST_DIVISOR: Final = 50.0
"""The deviations of image sets are about 57 in units of 0..255, and 0.2 in units of 0..1."""
_LARGEST_FACTOR: Final = 1 / _LEAST_DIVISOR
_LARGEST_SHIFT: Final = 2.0
"""Means are about 120 in units of 0..255, and at most 1 in units of 0..1."""


def takes_bytes(model: Outline) -> bool:
    """Whether the first arithmetic on a floating-point input is one that only makes sense for values of 0..255.

    Args:
        model: A graph whose size was checked.
    """
    constants = _constants(model)
    named = {tensor.name for tensor in model.graph.initializer}
    reached = {
        value.name
        for value in model.graph.input
        if value.name not in named and value.type.tensor_type.elem_type in FLOATS
    }
    waiting = list(model.graph.node)
    while True:  # nodes need not be sorted
        here = [node for node in waiting if not reached.isdisjoint(node.input)]
        if any(_scales_bytes(node, reached, constants) for node in here):
            return True
        moved = {name for node in here if node.op_type in _MOVES for name in node.output}
        if moved <= reached:
            return False
        reached |= moved
        done = set(map(id, here))
        waiting = [node for node in waiting if id(node) not in done]


def _scales_bytes(node: Outline, reached: set[str], constants: Mapping[str, Array]) -> bool:
    if node.op_type not in {"Add", "Div", "Mul", "Sub"} or len(node.input) != 2:
        return False
    first, second = node.input
    other = constants.get(second if first in reached else first)
    if other is None or other.size == 0 or other.dtype.kind not in "fiu":
        return False
    sizes = np.abs(other.astype(np.float64))
    if node.op_type == "Div":
        return first in reached and bool(sizes.min() >= _LEAST_DIVISOR)
    if node.op_type == "Mul":
        return bool(0 < sizes.max() <= _LARGEST_FACTOR)
    return bool(sizes.max() > _LARGEST_SHIFT)


def _constants(model: Outline) -> dict[str, Array]:
    """Small stored tensors, and what Constant nodes give."""
    tensors = [(tensor.name, tensor) for tensor in model.graph.initializer]
    found: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type != "Constant" or len(node.output) != 1:
            continue
        for entry in node.attribute:
            if entry.name == "value":
                tensors.append((node.output[0], entry.t))
            elif entry.name == "value_float":
                found[node.output[0]] = np.array(entry.f)
    for name, tensor in tensors:
        try:
            values = stored(tensor).values
        except Unknown:
            continue
        if values is not None:
            found[name] = values
    return found
