"""The graph as plain records, and `Builder`, which writes it node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from yoloship.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.graph.blocks import BlockTable
    from yoloship.graph.module_view import ModuleView
    from yoloship.model import Axis, DType, TensorSpec


Attribute: TypeAlias = "int | float | str | tuple[int, ...]"
Array = npt.NDArray[np.generic]
MAX_NODES = 50_000
"""A network of a release has a few hundred. A hostile tree whose modules share children could ask for any number."""
MAX_DEPTH = 64
MAX_CONSTANT_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message cannot be longer than 2 GiB."""
MAX_VALUE_ELEMENTS = 1 << 33
"""The most elements of one intermediate value. Only a network that cannot run has more."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What an image still needs before it is the network's input: channels in another order, values to be scaled.

    The first convolution takes both into its weights. For any other operator, `Builder` writes nodes that do it.

    Attributes:
        channels: Entry j is the network's channel for channel j of the image.
        scale: The factor from the image's values to the network's: one for all channels, or one for each channel of
            the image.
    """

    channels: tuple[int, ...]
    scale: float | tuple[float, ...]

    @property
    def factors(self) -> npt.NDArray[np.float64]:
        """The factors as an array that is multiplied with (…, C, height, width)."""
        scale = np.asarray(self.scale, np.float64)
        return scale if scale.ndim == 0 else scale[:, None, None]


@dataclass(frozen=True, slots=True)
class Wire:
    """One value on its way through the graph.

    Attributes:
        name: Unique in its graph.
        shape: Extents. If height and width are dynamic, they are those of the probe size: use them in checks, never in
            constants.
        dtype: Element type.
        pending: The normalisation that an image still needs; None for other values.
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
"""Stands for an omitted optional input."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        op: ONNX operator name.
        name: Where it comes from: ``model.9.cv2.conv``.
        inputs: Names of wires and constants; an empty name for an omitted input.
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
        constants: Arrays by name. Do not write to them.
        wires: Everything known about intermediate values, by name; empty if height and width are dynamic.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[np.generic]]
    wires: Mapping[str, Wire]


class Constants(Protocol):
    """Arrays by name, in the order in which they were added."""

    def add(self, name: str, values: Array) -> None:
        """Keep an array under a new name. The caller must not change it afterwards."""

    def mapping(self) -> Mapping[str, Array]:
        """All arrays by name. Do not write to them."""


class InMemory:
    """Keeps the arrays as they are."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        self._arrays[name] = values

    def mapping(self) -> Mapping[str, Array]:
        """See `Constants`."""
        return self._arrays


class ShapesOnly(InMemory):
    """Keeps only shapes and element types: arrays of zeros that share one element. Used to count operations."""

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        super().add(name, np.broadcast_to(np.zeros((), values.dtype), values.shape))


class InFile(Mapping[str, Array]):
    """Keeps the arrays' bytes in a file, one after the other, and reads an array back when somebody asks for it.

    Args:
        file: Empty, open for writing and reading. The caller closes it after the last array has been read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, np.dtype[np.generic], tuple[int, ...]]] = {}
        self._end = 0

    def add(self, name: str, values: Array) -> None:
        """See `Constants`."""
        self._file.seek(self._end)
        self._file.write(raw_bytes(values))
        self._places[name] = (self._end, values.dtype, values.shape)
        self._end += values.nbytes

    def mapping(self) -> Mapping[str, Array]:
        """See `Constants`."""
        return self

    def __getitem__(self, name: str) -> Array:
        start, dtype, shape = self._places[name]
        count = int(np.prod(shape, dtype=np.int64))
        self._file.seek(start)
        return np.frombuffer(self._file.read(count * dtype.itemsize), dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def raw_bytes(values: Array) -> memoryview:
    """The bytes of an array in C order, without a copy if the array is in that order already."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).data


class Builder:
    """Collects nodes and constants.

    Args:
        dynamic_hw: Whether height and width are open. If so, wires carry a probe size, and no constant may hold it.
        constants: Where constants are kept; in memory by default.
        blocks: Writes the modules of the network's family; None if no module will be written.
    """

    def __init__(
        self, *, dynamic_hw: bool, constants: Constants | None = None, blocks: BlockTable | None = None
    ) -> None:
        self.dynamic_hw = dynamic_hw
        self.blocks = blocks
        self.divisions: dict[str, tuple[int, ...]] = {}
        """By name of a value that stands for several: how many channels each of them has."""
        self._nodes: list[Node] = []
        self._constants: Constants = InMemory() if constants is None else constants
        self._wires: dict[str, Wire] = {}
        self._inputs: list[TensorSpec] = []
        self._outputs: dict[str, tuple[Wire, TensorSpec]] = {}
        self._names: set[str] = set()
        self._taken: dict[str, int] = {}
        self._settled: dict[str, Wire] = {}
        self._overwritten: dict[str, Wire] = {}
        self._bytes = 0
        self._visits = 0

    def visit(self, module: ModuleView) -> None:
        """Count a module that is being written.

        Raises:
            GraphError: too many, or too deep.
        """
        self._visits += 1
        if self._visits > MAX_NODES or module.place.count(".") > MAX_DEPTH:
            raise module.error("too many modules", expected=f"at most {MAX_NODES}, {MAX_DEPTH} deep")

    def input(self, spec: TensorSpec, shape: tuple[Axis, ...]) -> Wire:
        """Declare a graph input.

        Args:
            spec: As users see it, dynamic axes named.
            shape: The same with the probe size in place of dynamic heights and widths.
        """
        self._names.add(spec.name)
        self._inputs.append(spec)
        return Wire(spec.name, shape, spec.dtype)

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[Wire],
        shape: tuple[Axis, ...],
        dtype: DType = "float32",
        **attributes: Attribute,
    ) -> Wire:
        """Write an operator with one output.

        Args:
            op: ONNX operator name.
            name: Where it comes from. A number is added if the name is taken.
            inputs: In order; images are normalised first.
            shape: The shape of the output.
            dtype: The element type of the output.
            attributes: As ONNX has them.
        """
        return self.nodes(op, name, inputs, (shape,), dtype, **attributes)[0]

    def nodes(
        self,
        op: str,
        name: str,
        inputs: Sequence[Wire],
        shapes: Sequence[tuple[Axis, ...]],
        dtype: DType | tuple[DType, ...] = "float32",
        **attributes: Attribute,
    ) -> tuple[Wire, ...]:
        """Write an operator with one output for each shape; see `node`. `dtype` is one for all outputs, or one each."""
        settled = [self.settle(wire) for wire in inputs]
        return self.unsettled(op, name, settled, shapes, dtype, **attributes)

    def unsettled(
        self,
        op: str,
        name: str,
        inputs: Sequence[Wire],
        shapes: Sequence[tuple[Axis, ...]],
        dtype: DType | tuple[DType, ...] = "float32",
        **attributes: Attribute,
    ) -> tuple[Wire, ...]:
        """Write an operator that takes images without normalising them first; see `nodes`."""
        if len(self._nodes) >= MAX_NODES:
            raise GraphError("too many operators", subject=name, expected=f"at most {MAX_NODES}")
        for shape in shapes:
            elements = 1
            for extent in shape:
                elements *= extent if isinstance(extent, int) else 1
            if elements > MAX_VALUE_ELEMENTS:
                raise GraphError("value is too large to compute", subject=name, got=str(shape))
        name = self._unique(name)
        names = [name] if len(shapes) == 1 else [self._unique(f"{name}.{index}") for index in range(len(shapes))]
        dtypes = dtype if isinstance(dtype, tuple) else (dtype,) * len(shapes)
        wires = tuple(Wire(*facts) for facts in zip(names, shapes, dtypes, strict=True))
        self._nodes.append(
            Node(op, name, tuple(self._current(w).name for w in inputs), tuple(names), MappingProxyType(attributes))
        )
        self._wires.update((wire.name, wire) for wire in wires)
        return wires

    def overwrite(self, wire: Wire, result: Wire) -> None:
        """Note that a layer of the training code works in place: later users of the wire get the result."""
        if wire.pending is None and wire.name != result.name:
            self._overwritten[wire.name] = result

    def _current(self, wire: Wire) -> Wire:
        while wire.name in self._overwritten:
            wire = self._overwritten[wire.name]
        return wire

    def constant(self, name: str, array: npt.ArrayLike, dtype: DType = "float32") -> Wire:
        """Add an initializer.

        Args:
            name: Where it comes from: ``model.9.cv2.conv.weight``.
            array: Its values; cast to `dtype`, rounding to nearest.
            dtype: One that NumPy has.
        """
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(np.asarray(array), dtype=dtype)
        if dtype == "float32" and not np.isfinite(values).all():
            raise GraphError("weights do not fit into float32", subject=name, hint="the training has diverged")
        values = values.reshape(np.shape(array))  # ascontiguousarray makes a scalar one-dimensional
        self._bytes += values.nbytes
        if self._bytes > MAX_CONSTANT_BYTES:
            raise GraphError("weights are too large for one ONNX file", subject=name, expected="less than 2 GiB in all")
        name = self._unique(name)
        self._constants.add(name, values)
        return Wire(name, values.shape, dtype)

    def settle(self, wire: Wire) -> Wire:
        """Normalise an image by nodes, for operators that cannot take the normalisation into their weights."""
        pending = wire.pending
        if pending is None:
            return wire
        if wire.name not in self._settled:
            ordered = replace(wire, pending=None)
            order = np.argsort(pending.channels)
            if (order != np.arange(order.size)).any():
                index = self.constant(f"{wire.name}.channels", order, "int64")
                ordered = self.node("Gather", f"{wire.name}.order", (ordered, index), wire.shape, axis=1)
            factors = pending.factors[order] if pending.factors.ndim else pending.factors
            scale = self.constant(f"{wire.name}.scale.factor", factors)
            self._settled[wire.name] = self.node("Mul", f"{wire.name}.scale", (ordered, scale), wire.shape)
        return self._settled[wire.name]

    def output(self, wire: Wire, spec: TensorSpec) -> None:
        """Make a wire a graph output under the name that users see."""
        wire = self._current(self.settle(wire))
        if wire.name in self._outputs or wire.name not in self._wires:
            wire = self.node("Identity", spec.name, (wire,), wire.shape, wire.dtype)
        self._outputs[wire.name] = (wire, spec)

    def build(self, name: str) -> Graph:
        """The finished graph; nothing can be added to it afterwards."""
        public = {wire: spec.name for wire, (_, spec) in self._outputs.items()}
        nodes = tuple(
            replace(
                node,
                inputs=tuple(public.get(wire, wire) for wire in node.inputs),
                outputs=tuple(public.get(wire, wire) for wire in node.outputs),
            )
            if public.keys() & {*node.inputs, *node.outputs}
            else node
            for node in self._nodes
        )
        wires: Mapping[str, Wire] = {} if self.dynamic_hw else self._wires
        return Graph(
            name=name,
            inputs=tuple(self._inputs),
            outputs=tuple(spec for _, spec in self._outputs.values()),
            nodes=nodes,
            constants=MappingProxyType(self._constants.mapping()),
            wires=MappingProxyType({key: wire for key, wire in wires.items() if key not in public}),
        )

    def _unique(self, name: str) -> str:
        """The name, with a number if it is taken."""
        unique = name
        while unique in self._names:
            self._taken[name] = self._taken.get(name, 1) + 1
            unique = f"{name}#{self._taken[name]}"
        self._names.add(unique)
        return unique
