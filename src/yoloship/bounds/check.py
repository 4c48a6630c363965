"""Refuses a foreign graph that asks for more memory or time than a detector needs: `check_bounds`.

A file of a few hundred bytes can make a runtime take any amount of memory, or compute for years, and a running runtime
ignores Ctrl-C. So the size of every value is computed first, from the shapes. Control flow and functions are refused,
because their work cannot be computed that way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from yoloship.bounds.follow import RULES, Follower, attributes_of, operator
from yoloship.bounds.operators import einsum_sides, kept_by_suppression, weights_of
from yoloship.bounds.outline import Unknown, is_target_size, stored_bytes
from yoloship.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.bounds.outline import Inputs, Outline, Outputs

MAX_NODES: Final = 10_000
"""The largest official detectors have 1,500. The time of the runtime's optimiser grows with the square."""
MAX_LINKS: Final = 200_000
"""Inputs and outputs of all nodes, and stored tensors."""
MAX_METADATA_CHARS: Final = 1 << 24
_FREE_BYTES: Final = 1 << 27
_USUAL_INPUT_BYTES: Final = 4 * 3 * 1280 * 1280
_BYTES_PER_INPUT_BYTE: Final = 64
"""YOLOv5x needs 20 bytes of activations for each byte of its input. Smaller models need less."""
_BYTES_PER_LARGE_INPUT_BYTE: Final = 16
"""For each byte by which an input is larger than usual."""
_CONSTANT_BYTES_PER_INPUT_BYTE: Final = 2
"""For values computed from constants alone, such as grids. YOLOv5 needs an eighth of a byte for each byte of input."""
_BYTES_PER_WEIGHT_BYTE: Final = 8
"""Quantized weights become four times as large, and are in memory twice during the conversion."""
_FREE_WORK: Final = 5 * 10**10
_WORK_PER_PIXEL: Final = 2_000_000
"""For each pixel of an image. YOLOv5x6 does 512,000 operations for each pixel of its input."""
_WORK_PER_ELEMENT: Final = 32
"""The time to read or write an element, in operations of a convolution."""
_HINT: Final = "foreign files run only if their memory and time are known beforehand; export the plain detector"
_KERNEL_OPS: Final = frozenset({"AveragePool", "MaxPool"})
_WORK_PER_POOLED: Final = 16
_WORK_PER_SAMPLE: Final = 64
_WORK_PER_IOU: Final = 16
"""The time for one element in a pooling kernel, in operations of a convolution. No runtime pools large kernels fast.
Measured: 1.1 ns with ONNX Runtime 1.32 on two cores, while a convolution did 60 operations in that time."""


class UnsizedError(SessionError):
    """A graph whose memory and time cannot be known before it runs."""


def refuse_unbounded(model: Outline, subject: str) -> None:
    """Refuse a graph whose work has no bound in any runtime.

    Args:
        model: An outline, or an `onnx.ModelProto`.
        subject: The file, for messages.

    Raises:
        SessionError: it has control flow, functions of its own, or far too many parts.
    """
    graph = model.graph
    if model.functions:
        raise SessionError("defines functions of its own", subject=subject, hint=_HINT)
    links = sum(len(node.input) + len(node.output) for node in graph.node)
    links += len(graph.initializer) + len(graph.input) + len(graph.output)
    if len(graph.node) > MAX_NODES or links > MAX_LINKS:
        raise SessionError(
            "has too many nodes for a detector",
            subject=subject,
            expected=f"at most {MAX_NODES} nodes, and {MAX_LINKS} inputs, outputs and stored tensors",
            got=f"{len(graph.node)} and {links}",
        )
    if sum(len(entry.key) + len(entry.value) for entry in model.metadata_props) > MAX_METADATA_CHARS:
        raise SessionError(
            "has too much metadata", subject=subject, expected=f"at most {MAX_METADATA_CHARS:,} characters"
        )
    if graph.sparse_initializer:
        raise SessionError("stores sparse tensors", subject=subject, hint=_HINT)
    for node in graph.node:
        if any(
            entry.HasField("g") or entry.graphs or entry.HasField("sparse_tensor") or entry.sparse_tensors
            for entry in node.attribute
        ):
            raise SessionError(f"has control flow (operator {operator(node)[:60]})", subject=subject, hint=_HINT)


def check_bounds(model: Outline, subject: str, shapes: Iterable[tuple[int, ...]]) -> int:
    """Refuse what cannot be run within the memory and the time of a detector.

    Args:
        model: An outline, or an `onnx.ModelProto`.
        subject: The file, for messages.
        shapes: Shapes of its image input with which it should run.

    Returns:
        Operations of the largest run.

    Raises:
        UnsizedError: it uses operators that are not known here, or values whose size depends on the image's content.
        SessionError: its work has no bound, or is too much.
    """
    refuse_unbounded(model, subject)
    for node in model.graph.node:
        if operator(node) not in RULES:
            raise _unsized(subject, f"uses the operator {operator(node)[:60]}, which is not known here")
    return max((_Bookkeeping(model, subject, shape).run() for shape in shapes), default=0)


def _unsized(subject: str, problem: str, got: str | None = None) -> UnsizedError:
    return UnsizedError(f"is not run: it {problem}", subject=subject, got=got, hint=_HINT)


class _Bookkeeping:
    """Adds up the memory and the arithmetic of a graph's nodes while their shapes are followed."""

    def __init__(self, model: Outline, subject: str, shape: tuple[int, ...]) -> None:
        self._subject = subject
        stored = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in stored]
        images = [value for value in inputs if not is_target_size(value)]
        if len(images) != 1 or len(inputs) > 2:
            raise _unsized(subject, "does not take one image", f"{len(inputs)} inputs")
        batch = shape[0] if shape else 1
        shapes = {value.name: shape if value in images else (batch, 2) for value in inputs}
        try:
            self._follower = Follower(model, shapes)
        except Unknown as error:
            raise _unsized(subject, "stores a tensor of an impossible shape") from error
        weights = sum(map(stored_bytes, model.graph.initializer))
        elements = math.prod(shape)
        usual = min(4 * elements, _USUAL_INPUT_BYTES)
        self._max_bytes = _FREE_BYTES + _BYTES_PER_WEIGHT_BYTE * weights
        self._max_bytes += _BYTES_PER_INPUT_BYTE * usual + _BYTES_PER_LARGE_INPUT_BYTE * (4 * elements - usual)
        self._max_work = _FREE_WORK * max(1, shape[0] if shape else 1) + _WORK_PER_PIXEL * elements // 3
        self._max_constant_bytes = _FREE_BYTES + _BYTES_PER_WEIGHT_BYTE * weights
        self._max_constant_bytes += _CONSTANT_BYTES_PER_INPUT_BYTE * 4 * elements
        self._live_bytes = self._constant_bytes = self._work = 0

    def run(self) -> int:
        """Go through the graph.

        Returns:
            The number of operations.

        Raises:
            UnsizedError: a size cannot be known.
            SessionError: the graph needs too much memory or arithmetic.
        """
        uses, extents = self._uses(), self._follower.extents
        node, done = None, 0
        try:
            for node in self._follower.in_order():
                done += 1
                outputs = self._follower.follow(node)
                self._count(node, self._follower.inputs_of(node), outputs)
                for name in node.input:
                    if name:
                        uses[name] -= 1
                        if uses[name] == 0 and not extents[name].constant:  # a runtime keeps constants
                            self._live_bytes -= extents[name].nbytes
        except Unknown as error:
            if node is None:
                raise _unsized(self._subject, "has two values with the same name") from error
            raise _unsized(self._subject, f"has a value whose size is not known beforehand ({_named(node)})") from error
        if done < len(self._follower.graph.node):
            raise _unsized(self._subject, "uses values that nothing defines")
        return self._work

    def _uses(self) -> dict[str, int]:
        uses: dict[str, int] = {}
        for name in (name for node in self._follower.graph.node for name in node.input):
            uses[name] = uses.get(name, 0) + 1
        for value in self._follower.graph.output:
            uses[value.name] = uses.get(value.name, 0) + 1
        return uses

    def _count(self, node: Outline, inputs: Inputs, outputs: Outputs) -> None:
        self._live_bytes += sum(extent.nbytes for extent in outputs)
        self._constant_bytes += sum(extent.nbytes for extent in outputs if extent.constant)
        read = [extent for extent in inputs if extent is not None]
        elements = sum(extent.elements for extent in (*outputs, *read))
        self._work += _WORK_PER_ELEMENT * (elements + 1000) + _arithmetic(node, inputs, outputs)
        if self._live_bytes > self._max_bytes:
            raise self._over("needs too much memory", node, self._live_bytes, self._max_bytes, "MB")
        if self._constant_bytes > self._max_constant_bytes:
            problem = "computes too much from constants"
            raise self._over(problem, node, self._constant_bytes, self._max_constant_bytes, "MB")
        if self._work > self._max_work:
            raise self._over("needs too much arithmetic", node, self._work, self._max_work, "GFLOPs")

    def _over(self, problem: str, node: Outline, got: int, most: int, unit: Literal["MB", "GFLOPs"]) -> SessionError:
        scale = 10**6 if unit == "MB" else 10**9
        return SessionError(
            f"{problem} for a detector ({_named(node)})",
            subject=self._subject,
            expected=f"at most {_shown(most, scale)} {unit}",
            got=f"{_shown(got, scale)} {unit}",
        )


def _named(node: Outline) -> str:
    return f"{operator(node)[:40]} {node.name[:40]}".strip()


def _shown(count: int, unit: int) -> str:
    return f"{count // unit:,}" if count < 1 << 80 else "more than 2^80"


def _arithmetic(node: Outline, inputs: Inputs, outputs: Outputs) -> int:
    """Operations of a node. A multiply-add counts as two."""
    kind = node.op_type
    if not outputs or not inputs or inputs[0] is None:
        return 0
    if kind in {"Conv", "ConvInteger", "QLinearConv", "FusedConv"}:
        weights = weights_of(inputs)
        return 2 * outputs[0].elements * math.prod(weights.shape[1:])
    if kind == "ConvTranspose" and inputs[1] is not None:
        return 2 * inputs[0].elements * math.prod(inputs[1].shape[1:])
    if kind in {"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"}:
        inner = max(inputs[0].shape, default=1) if kind == "Gemm" else inputs[0].shape[-1]
        return 2 * outputs[0].elements * inner
    if kind in _KERNEL_OPS:
        below = math.prod(map(int, attributes_of(node).get("kernel_shape") or [1]))
        return _WORK_PER_POOLED * outputs[0].elements * below
    if kind == "GridSample":
        return _WORK_PER_SAMPLE * outputs[0].elements
    if kind == "Einsum":
        return 2 * math.prod(einsum_sides(attributes_of(node), inputs).values())
    if kind == "NonMaxSuppression" and inputs[1] is not None:
        boxes, rows = inputs[1].elements, inputs[1].shape[-1]
        return _WORK_PER_IOU * boxes * kept_by_suppression(inputs, rows)
    if kind == "LRN":
        return outputs[0].elements * max(1, int(attributes_of(node).get("size", 1)))
    return 0
