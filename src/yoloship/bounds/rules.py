"""The shape that each operator gives, at most: a closed table, `RULES`.

Operators that are not in the table are not run in foreign detectors: their memory and time are not known. A rule may
say more than an operator gives, never less.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.bounds import layout
from yoloship.bounds.inputs import all_exact, axes_of, broadcast, first
from yoloship.bounds.spatial import convolved, pooled, resized, transposed_convolved
from yoloship.bounds.values import BOOL, FLOAT, FLOATS, INT64, UINT8, Extent, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.bounds.inputs import Attributes, Inputs, Outputs


def _elementwise(_: Attributes, inputs: Inputs) -> Outputs:
    there = [extent for extent in inputs if extent is not None]
    if not there:
        raise Unknown
    return [Extent(broadcast(*there), there[-1].code, all_exact(*there))]  # the last one of Where is a value


def _paired(attributes: Attributes, inputs: Inputs) -> Outputs:
    if len(inputs) != 2:
        raise Unknown
    return _elementwise(attributes, inputs)


def _divided(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Integers only by what is known, and neither 0 nor -1: the lowest integer by -1 ends the process with a signal."""
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


def _product(one: Extent, other: Extent) -> Extent:
    left = one.shape if len(one.shape) > 1 else (1, *one.shape)
    right = other.shape if len(other.shape) > 1 else (*other.shape, 1)
    if len(left) < 2 or len(right) < 2:
        raise Unknown
    batch = broadcast(Extent(left[:-2]), Extent(right[:-2]))
    shape = (*batch, *left[-2 : -1 if len(one.shape) > 1 else -2], *right[-1 : None if len(other.shape) > 1 else -1])
    return Extent(shape, one.code if one.code in FLOATS else FLOAT, all_exact(one, other))


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
        "Expand": layout.expand,
        "Flatten": layout.flatten,
        "Gather": layout.gather,
        "GatherElements": layout.gather_elements,
        "GatherND": layout.gather_nd,
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
"""By operator; those of other domains with the domain in front."""
