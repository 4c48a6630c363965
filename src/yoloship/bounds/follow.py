"""Follows shapes through a graph, from its input to its outputs, without running anything.

A foreign graph with an operator that is not in the table is not run, because its memory and time are not known. A rule
may overestimate the output of an operator, but never underestimate it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship.bounds import operators as layout
from yoloship.bounds.operators import convolved, pooled, resized, transposed_convolved
from yoloship.bounds.outline import (
    BOOL,
    FLOAT,
    FLOATS,
    INT64,
    MAX_KNOWN,
    MAX_RANK,
    UINT8,
    Extent,
    Unknown,
    all_exact,
    as_type,
    axes_of,
    broadcast,
    evaluate,
    first,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from yoloship.bounds.outline import Array, Attributes, Inputs, Outline, Outputs

_STANDARD: Final = frozenset({"", "ai.onnx"})
_MOVES: Final = frozenset(
    {"Cast", "Concat", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that do not change values, or that add other values beside them."""
_LEAST_DIVISOR: Final = 50.0
"""The deviations of image sets are about 57 in units of 0..255, and 0.2 in units of 0..1."""
_LARGEST_FACTOR: Final = 1 / _LEAST_DIVISOR
_LARGEST_SHIFT: Final = 2.0
"""Means are about 120 in units of 0..255, and at most 1 in units of 0..1."""


def _elementwise(_: Attributes, inputs: Inputs) -> Outputs:
    given = [extent for extent in inputs if extent is not None]
    if not given:
        raise Unknown
    return [Extent(broadcast(*given), given[-1].code, all_exact(*given))]  # the last one of Where is a value


def _paired(attributes: Attributes, inputs: Inputs) -> Outputs:
    if len(inputs) != 2:
        raise Unknown
    return _elementwise(attributes, inputs)


def _divided(attributes: Attributes, inputs: Inputs) -> Outputs:
    """An integer divisor must be known, and be neither 0 nor -1: the lowest integer divided by -1 ends the process."""
    if first(inputs).code not in FLOATS | {11}:
        divisor = first(inputs, 1).values
        if divisor is None or np.isin(divisor, (0, -1)).any():
            raise Unknown
    return _paired(attributes, inputs)


def _compared(attributes: Attributes, inputs: Inputs) -> Outputs:
    (found,) = _elementwise(attributes, inputs)
    return [Extent(found.shape, BOOL, found.exact)]


def _same(_: Attributes, inputs: Inputs) -> Outputs:
    data = first(inputs)
    return [Extent(data.shape, data.code, data.exact)] * 5  # BatchNormalization once had five outputs


def _dequantized(_: Attributes, inputs: Inputs) -> Outputs:
    return [Extent(first(inputs).shape, first(inputs, 1).code, first(inputs).exact)]


def _quantized(attributes: Attributes, inputs: Inputs) -> Outputs:
    data, zero = first(inputs), inputs[2] if len(inputs) > 2 else None
    code = zero.code if zero is not None else attributes.get("output_dtype", 0) or UINT8
    return [Extent(data.shape, code, data.exact)]


def _quantized_at_once(_: Attributes, inputs: Inputs) -> Outputs:
    return [Extent(first(inputs).shape, UINT8, first(inputs).exact), Extent(()), Extent((), UINT8)]


def _cast(attributes: Attributes, inputs: Inputs) -> Outputs:
    return [Extent(first(inputs).shape, attributes.get("to", FLOAT), first(inputs).exact)]


def _cast_like(_: Attributes, inputs: Inputs) -> Outputs:
    return [Extent(first(inputs).shape, first(inputs, 1).code, first(inputs).exact)]


def _quantized_pair(_: Attributes, inputs: Inputs) -> Outputs:
    one, other = first(inputs), first(inputs, 3)
    return [Extent(broadcast(one, other), one.code, all_exact(one, other))]


def _quantized_concat(attributes: Attributes, inputs: Inputs) -> Outputs:
    return layout.concatenated(attributes, inputs[2::3])


def _reduced(attributes: Attributes, inputs: Inputs) -> Outputs:
    data = first(inputs)
    axes = axes_of(attributes, inputs, 1)
    if axes is None and not attributes.get("noop_with_empty_axes", 0):
        axes = list(range(len(data.shape)))
    return [layout.without(data, axes or [], keep=bool(attributes.get("keepdims", 1)), code=data.code)]


def _arg(attributes: Attributes, inputs: Inputs) -> Outputs:
    keep = bool(attributes.get("keepdims", 1))
    return [layout.without(first(inputs), [attributes.get("axis", 0)], keep=keep, code=INT64)]


def _matmul(_: Attributes, inputs: Inputs) -> Outputs:
    return [_product(first(inputs), first(inputs, 1))]


def _quantized_matmul(_: Attributes, inputs: Inputs) -> Outputs:
    return [_product(first(inputs), first(inputs, 3))]


def _product(a: Extent, b: Extent) -> Extent:
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    if len(left) < 2 or len(right) < 2:
        raise Unknown
    batch = broadcast(Extent(left[:-2]), Extent(right[:-2]))
    shape = (*batch, *left[-2 : -1 if len(a.shape) > 1 else -2], *right[-1 : None if len(b.shape) > 1 else -1])
    return Extent(shape, a.code if a.code in FLOATS else FLOAT, all_exact(a, b))


def _gemm(attributes: Attributes, inputs: Inputs) -> Outputs:
    one, other = first(inputs), first(inputs, 1)
    if len(one.shape) != 2 or len(other.shape) != 2:
        raise Unknown
    rows = one.shape[1 if attributes.get("transA", 0) else 0]
    columns = other.shape[0 if attributes.get("transB", 0) else 1]
    return [Extent((rows, columns), one.code, all_exact(one, other))]


def _group(names: str, rule: Callable[[Attributes, Inputs], Outputs]) -> dict[str, Callable[..., Outputs]]:
    return dict.fromkeys(names.split(), rule)


RULES: Final[Mapping[str, Callable[[Attributes, Inputs], Outputs]]] = MappingProxyType(
    {
        **_group(
            "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
            "HardSwish Identity LeakyRelu Log Max Mean Min Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid "
            "Sign Sin Sinh Softplus Softsign Sqrt Sum Swish Tan Tanh ThresholdedRelu Where",
            _elementwise,
        ),
        **_group("Add Mul PRelu Pow Sub", _paired),
        **_group("Div Mod", _divided),
        **_group("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor", _compared),
        **_group(
            "BatchNormalization CumSum Dropout GroupNormalization Hardmax InstanceNormalization LRN "
            "LayerNormalization LogSoftmax LpNormalization MeanVarianceNormalization RMSNormalization "
            "Scatter ScatterElements ScatterND Softmax Trilu "
            "com.microsoft::QLinearSigmoid com.microsoft::QLinearLeakyRelu",
            _same,
        ),
        **_group("DequantizeLinear com.microsoft::DequantizeLinear", _dequantized),
        **_group("QuantizeLinear com.microsoft::QuantizeLinear", _quantized),
        "DynamicQuantizeLinear": _quantized_at_once,
        **_group("Cast", _cast),
        **_group("CastLike", _cast_like),
        **_group("com.microsoft::QLinearAdd com.microsoft::QLinearMul", _quantized_pair),
        **_group("com.microsoft::QLinearConcat", _quantized_concat),
        **_group(
            "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
            "ReduceSumSquare",
            _reduced,
        ),
        **_group("ArgMax ArgMin", _arg),
        **_group("MatMul MatMulInteger", _matmul),
        **_group("QLinearMatMul", _quantized_matmul),
        **_group("Gemm", _gemm),
        **_group("Conv ConvInteger QLinearConv com.microsoft::FusedConv", convolved),
        **_group("ConvTranspose", transposed_convolved),
        **_group("AveragePool GlobalAveragePool GlobalMaxPool MaxPool", pooled),
        **_group("Resize Upsample", resized),
        "Concat": layout.concatenated,
        "Constant": layout.constant,
        "ConstantOfShape": layout.constant_of_shape,
        "DepthToSpace": layout.depth_to_space,
        "Einsum": layout.einsum,
        "Expand": layout.expand,
        "Flatten": layout.flatten,
        "Gather": layout.gather,
        "GatherElements": layout.gather_elements,
        "GatherND": layout.gather_nd,
        "GridSample": layout.grid_sample,
        "NonMaxSuppression": layout.non_max_suppression,
        "NonZero": layout.non_zero,
        "OneHot": layout.one_hot,
        "Pad": layout.pad,
        "Range": layout.ranged,
        "Reshape": layout.reshape,
        "Shape": layout.shape_of,
        "Size": layout.size_of,
        "Slice": layout.sliced,
        "SpaceToDepth": layout.space_to_depth,
        "Split": layout.split,
        "Squeeze": layout.squeeze,
        "Tile": layout.tile,
        "TopK": layout.top_k,
        "Transpose": layout.transpose,
        "Unsqueeze": layout.unsqueeze,
    }
)
"""The rule of each operator. Operators of other domains have the domain before the name."""


class Follower:
    """Knowledge about the values of a graph, collected node by node.

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
        """The nodes in an order in which they can run, without nodes that can never run.

        Raises:
            Unknown: two values have the same name.
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
        """What is known about the inputs of a node; None for an omitted input.

        Raises:
            Unknown: nothing is known about an input.
        """
        try:
            return [self.extents[name] if name else None for name in node.input]
        except KeyError as error:
            raise Unknown from error

    def follow(self, node: Outline) -> Outputs:
        """Compute what can be known about the outputs of a node, and store it.

        Raises:
            Unknown: their size cannot be known.
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
    """Values of a graph whose shapes are known exactly, by name.

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
    """An operator's name, with its domain before it if that is not the standard one."""
    return str(node.op_type) if node.domain in _STANDARD else f"{node.domain}::{node.op_type}"


def attributes_of(node: Outline) -> dict[str, Any]:
    """A node's attributes by name, and its number of outputs under ``outputs``."""
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


def takes_bytes(model: Outline) -> bool:
    """Whether the first arithmetic on a floating-point input makes sense only for values of 0..255.

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
    """Small stored tensors, and the values of Constant nodes."""
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
