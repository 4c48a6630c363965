"""Writing a graph node by node: `Builder` keeps names unique, shapes known and pictures normalised."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from yoloship.errors import GraphError
from yoloship.graph.constants import InMemory
from yoloship.graph.ir import Attribute, Graph, Node, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from yoloship.graph.constants import Constants
    from yoloship.graph.part import Part
    from yoloship.tensors import Axis, DType, TensorSpec

MAX_NODES = 50_000
"""A network of a release has a few hundred; a tree whose modules share children could ask for any number."""
MAX_DEPTH = 64
MAX_CONSTANT_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message ends at 2 GiB."""
MAX_VALUE_ELEMENTS = 1 << 33
"""Of one value in between; only a network that cannot run has more."""


class Builder:
    """Collects nodes and constants.

    Args:
        dynamic_hw: Whether height and width are open; then wires carry a probe size, and no constant may hold it.
        constants: Where they are kept; in memory by default.
    """

    def __init__(self, *, dynamic_hw: bool, constants: Constants | None = None) -> None:
        self.dynamic_hw = dynamic_hw
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

    def visit(self, part: Part) -> None:
        """Count a module that is being written.

        Raises:
            GraphError: too many, or too deep.
        """
        self._visits += 1
        if self._visits > MAX_NODES or part.place.count(".") > MAX_DEPTH:
            raise part.error("too many modules", expected=f"at most {MAX_NODES}, {MAX_DEPTH} deep")

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
            name: Where it comes from; a number is added where it is taken.
            inputs: In order; pictures are normalised first.
            shape: Of the output.
            dtype: Of the output.
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
        """Write an operator with an output for each shape, of one element type or of one each; see `node`."""
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
        """Write an operator that takes pictures as they are; see `nodes`."""
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
        """Note that a layer of the training code works in place: whoever takes the wire from now on gets the result."""
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
        """Normalise a picture by nodes, where no convolution could take that into its weights."""
        pending = wire.pending
        if pending is None:
            return wire
        if wire.name not in self._settled:
            ordered = replace(wire, pending=None)
            order = np.argsort(pending.channels)
            if (order != np.arange(order.size)).any():
                index = self.constant(f"{wire.name}.channels", order, "int64")
                ordered = self.node("Gather", f"{wire.name}.order", (ordered, index), wire.shape, axis=1)
            scale = self.constant(f"{wire.name}.scale.factor", np.float64(pending.scale))
            self._settled[wire.name] = self.node("Mul", f"{wire.name}.scale", (ordered, scale), wire.shape)
        return self._settled[wire.name]

    def output(self, wire: Wire, spec: TensorSpec) -> None:
        """Make a wire a graph output under the name that users see."""
        wire = self._current(self.settle(wire))
        if wire.name in self._outputs or wire.name not in self._wires:
            wire = self.node("Identity", spec.name, (wire,), wire.shape, wire.dtype)
        self._outputs[wire.name] = (wire, spec)

    def finish(self, name: str) -> Graph:
        """The graph; the builder is done with."""
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
        """The name, with a number where it is taken."""
        unique = name
        while unique in self._names:
            self._taken[name] = self._taken.get(name, 1) + 1
            unique = f"{name}#{self._taken[name]}"
        self._names.add(unique)
        return unique
