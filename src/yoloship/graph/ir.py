"""The graph before it becomes ONNX: plain records, so that building it needs no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from yoloship.tensors import Axis, DType, TensorSpec

Attribute: TypeAlias = "int | float | str | tuple[int, ...]"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What a picture still needs before it is the network's input: channels in another order, values to be scaled.

    The first convolution takes both into its weights (`layers.emit_conv`); anything else makes `Builder` write nodes.

    Attributes:
        channels: At place j stands the network's channel that the picture's channel j is.
        scale: The factor from the picture's values to the network's.
    """

    channels: tuple[int, ...]
    scale: float


@dataclass(frozen=True, slots=True)
class Wire:
    """One value on its way through the graph.

    Attributes:
        name: Unique in its graph.
        shape: Extents. Where height and width are dynamic, those of the probe size: good for checks, not for constants.
        dtype: Element type.
        pending: What is left to be done to a picture.
    """

    name: str
    shape: tuple[Axis, ...]
    dtype: DType = "float32"
    pending: Normalisation | None = None

    @property
    def channels(self) -> int:
        """The second extent, always fixed."""
        return self.fixed(1)

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of a (B, C, H, W) value."""
        return self.fixed(2), self.fixed(3)

    def fixed(self, axis: int) -> int:
        """An extent that is never dynamic."""
        extent = self.shape[axis]
        assert isinstance(extent, int), self
        return extent


OMITTED = Wire("", ())
"""Stands for an optional input that is left out."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        op: ONNX operator name.
        name: Where it comes from: ``model.9.cv2.conv``.
        inputs: Names of wires and constants; empty for one left out.
        outputs: Names of wires.
        attributes: As ONNX has them.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole graph, nodes in an order in which they can run.

    Attributes:
        name: For people and profilers.
        inputs: In order.
        outputs: In order.
        nodes: Topologically sorted.
        constants: Arrays by name; not to be written to.
        wires: Everything known about values in between, by name; empty where height and width are dynamic.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[np.generic]]
    wires: Mapping[str, Wire]
