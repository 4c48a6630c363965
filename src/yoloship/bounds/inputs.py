"""What rules ask of a node's inputs; what is not there or not known raises `Unknown`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from yoloship.bounds.values import Extent, Unknown

Attributes: TypeAlias = Mapping[str, Any]
"""Of a node, by name; ``outputs`` is how many it has."""
Inputs: TypeAlias = list[Extent | None]
"""None for one that is left out."""
Outputs: TypeAlias = list[Extent]


def first(inputs: Inputs, place: int = 0) -> Extent:
    """An input that has to be there."""
    found = inputs[place] if place < len(inputs) else None
    if found is None:
        raise Unknown
    return found


def shape_values(inputs: Inputs, place: int) -> list[int]:
    """Contents of an input that is a shape, sizes or axes."""
    values = first(inputs, place).values
    if values is None:
        raise Unknown
    return [int(value) for value in values.reshape(-1).tolist()]


def axes_of(attributes: Attributes, inputs: Inputs, place: int) -> list[int] | None:
    """Axes, from an attribute or an input; None if there are none."""
    if "axes" in attributes:
        return list(attributes["axes"])
    return shape_values(inputs, place) if place < len(inputs) and inputs[place] is not None else None


def place_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise Unknown
    return axis % max(rank, 1)


def broadcast(*extents: Extent) -> tuple[int, ...]:
    """The shape of an element by element operation."""
    rank = max(len(extent.shape) for extent in extents)
    shapes = [(1,) * (rank - len(extent.shape)) + extent.shape for extent in extents]
    return tuple(0 if 0 in sides else max(sides) for sides in zip(*shapes, strict=True))


def all_exact(*extents: Extent) -> bool:
    """Whether all extents are exact."""
    return all(extent.exact for extent in extents)
