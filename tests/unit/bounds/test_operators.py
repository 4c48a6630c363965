"""What the rules say about shapes and contents, held against what ONNX Runtime really gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloship.bounds import exact_shapes, read_outline
from yoloship.bounds.follow import RULES, Follower
from yoloship.bounds.outline import Unknown

IMAGE = np.random.default_rng(0).random((2, 3, 16, 24)).astype(np.float32)
Case = tuple[str, dict[str, Any], list[Any]]
"""Operator, attributes, and the inputs behind the image; None leaves one out, ``-`` starts without the image."""


def i64(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).random(shape).astype(np.float32)


CASES: list[Case] = [
    ("Add", {}, [f32(24)]),
    ("Mul", {}, [f32(3, 1, 1)]),
    ("Clip", {}, [np.array(0.1, np.float32), np.array(0.5, np.float32)]),
    ("Sigmoid", {}, []),
    ("Softmax", {"axis": 1}, []),
    ("Greater", {}, [np.array(0.5, np.float32)]),
    ("Cast", {"to": TensorProto.INT64}, []),
    ("BatchNormalization", {}, [f32(3), f32(3), f32(3), f32(3)]),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, []),
    ("ReduceMax", {"keepdims": 0}, []),
    ("ReduceSum", {}, [i64(-1)]),
    ("ArgMax", {"axis": 1, "keepdims": 0}, []),
    ("MatMul", {}, [f32(24, 5)]),
    ("MatMul", {}, [f32(24)]),
    ("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, [f32(8, 3, 3, 3)]),
    ("Conv", {"dilations": [2, 3], "pads": [0, 1, 2, 3]}, [f32(8, 3, 3, 3), f32(8)]),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [3, 2]}, [f32(8, 3, 5, 5)]),
    ("Conv", {"auto_pad": "VALID"}, [f32(8, 3, 5, 5)]),
    ("Conv", {"group": 3}, [f32(6, 1, 3, 3)]),
    ("ConvTranspose", {"strides": [2, 2]}, [f32(3, 4, 2, 2)]),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, [f32(3, 4, 3, 3)]),
    ("ConvTranspose", {"group": 3, "strides": [2, 2]}, [f32(3, 2, 2, 2)]),
    ("MaxPool", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}, []),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, []),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [0, 0, 1, 1]}, []),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 1]}, []),
    ("GlobalAveragePool", {}, []),
    ("Resize", {"mode": "nearest"}, [None, np.array([1, 1, 2, 2], np.float32)]),
    ("Resize", {"mode": "linear"}, [None, np.array([1, 1, 1.5, 0.3], np.float32)]),
    ("Resize", {"mode": "nearest"}, [None, None, i64(2, 3, 33, 7)]),
    ("Reshape", {}, [i64(2, -1, 8)]),
    ("Reshape", {}, [i64(0, 0, 384)]),
    ("Flatten", {"axis": 2}, []),
    ("Flatten", {"axis": -1}, []),
    ("Unsqueeze", {}, [i64(0, -1)]),
    ("Transpose", {"perm": [0, 2, 3, 1]}, []),
    ("Transpose", {}, []),
    ("Concat", {"axis": 1}, [f32(2, 5, 16, 24)]),
    ("Concat", {"axis": -1}, [f32(2, 3, 16, 1), f32(2, 3, 16, 2)]),
    ("Split", {"axis": 3}, [i64(4, 20)]),
    ("Slice", {}, [i64(1, -5), i64(9, 2**62), i64(2, 3), i64(2, 1)]),
    ("Slice", {}, [i64(-1), i64(-(2**62)), i64(3), i64(-1)]),
    ("Slice", {}, [i64(0), i64(-1)]),
    ("Slice", {}, [i64(20), i64(3), i64(3), i64(-3)]),
    ("Gather", {"axis": 1}, [i64(0, 2, 1, 1)]),
    ("Gather", {"axis": -1}, [np.array(3, np.int64)]),
    ("GatherElements", {"axis": 3}, [np.zeros((2, 3, 16, 2), np.int64)]),
    ("GatherND", {}, [i64(0, 1).reshape(1, 2)]),
    ("GatherND", {"batch_dims": 1}, [np.zeros((2, 4, 1), np.int64)]),
    ("Expand", {}, [i64(4, 1, 3, 1, 1)]),
    ("Tile", {}, [i64(1, 2, 1, 3)]),
    ("Pad", {}, [i64(0, 1, 2, 0, 0, 0, 3, 4)]),
    ("Pad", {}, [i64(0, 0, -1, 0, 0, 0, -2, 4)]),
    ("DepthToSpace", {"blocksize": 1}, []),
    ("SpaceToDepth", {"blocksize": 4}, []),
    ("Shape", {}, []),
    ("Shape", {"start": 1, "end": -1}, []),
    ("Size", {}, []),
    ("TopK", {"axis": 2}, [i64(5)]),
    ("OneHot", {"axis": 1}, ["-", i64(0, 2, 1), np.array(4, np.int64), np.array([0, 1], np.float32)]),
    ("NonZero", {}, []),
    ("GridSample", {}, [f32(2, 5, 7, 2)]),
    ("Einsum", {"equation": "bchw,dc->bdhw"}, [f32(4, 3)]),
    ("Einsum", {"equation": "ij,jk->"}, ["-", f32(3, 4), f32(4, 5)]),
    ("NonMaxSuppression", {}, ["-", f32(2, 9, 4), f32(2, 3, 9), np.array(4, np.int64), np.array(0.5, np.float32)]),
    ("NonMaxSuppression", {}, ["-", f32(2, 9, 4), f32(2, 3, 9)]),
    ("Range", {}, ["-", np.array(2, np.int64), np.array(11, np.int64), np.array(3, np.int64)]),
    ("Range", {}, ["-", np.array(2, np.float32), np.array(-1, np.float32), np.array(-0.7, np.float32)]),
    ("ConstantOfShape", {}, ["-", i64(3, 4)]),
    ("Squeeze", {}, ["-", f32(1, 3, 1), i64(0)]),
    ("Squeeze", {}, ["-", f32(1, 3, 1)]),
    ("Gemm", {"transB": 1}, ["-", f32(3, 4), f32(5, 4), f32(5)]),
    ("Gemm", {"transA": 1}, ["-", f32(3, 4), f32(3, 2)]),
    ("Where", {}, ["-", np.array([[True], [False]]), f32(1, 3), f32(2, 1)]),
    ("Div", {}, ["-", i64(-7, 7, 9), i64(2, -2, 4)]),
    ("Mod", {}, ["-", i64(-7, 7, 9), i64(2, -2, 4)]),
    ("Equal", {}, ["-", i64(1, -1), i64(-1)]),
    ("ReduceProd", {"keepdims": 0}, ["-", i64(3, 4, 5)]),
    ("Concat", {"axis": 0}, ["-", i64(3, 4), i64(5)]),
    ("Slice", {}, ["-", i64(3, 4, 5, 6), i64(1), i64(3)]),
    ("Gather", {}, ["-", i64(3, 4, 5, 6), np.array(-1, np.int64)]),
    ("Unsqueeze", {}, ["-", np.array(3, np.int64), i64(0)]),
    ("Max", {}, ["-", i64(3, 4), i64(9, 1), i64(5)]),
    ("Cast", {"to": TensorProto.FLOAT}, ["-", i64(3, 4)]),
    ("Floor", {}, ["-", f32(4) * 9]),
]


def single(case: Case) -> tuple[onnx.ModelProto, int]:
    op, attributes, inputs = case
    alone = bool(inputs) and isinstance(inputs[0], str)
    names = [] if alone else ["images"]
    stored = []
    for place, value in enumerate(inputs[1:] if alone else inputs):
        names.append("" if value is None else f"in{place}")
        if value is not None:
            stored.append(numpy_helper.from_array(np.asarray(value), f"in{place}"))
    count = {"TopK": 2, "Split": 2}.get(op, 1)
    outputs = [f"out{place}" for place in range(count)]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, **attributes), helper.make_node("Identity", ["images"], ["same"])], "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGE.shape)],
        [onnx.ValueInfoProto(name=name) for name in (*outputs, "same")], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), count


@pytest.mark.parametrize("case", CASES, ids=[f"{place}-{case[0]}" for place, case in enumerate(CASES)])
def test_a_rule_says_what_the_runtime_gives_or_more(case: Case) -> None:
    made, count = single(case)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    real = session.run(None, {"images": IMAGE})[:count]
    follower = Follower(read_outline(made.SerializeToString(), "x"), {"images": IMAGE.shape})
    follower.follow(follower.graph.node[0])
    for place, array in enumerate(real):
        found = follower.extents[f"out{place}"]
        assert len(found.shape) == array.ndim
        if found.exact:
            assert found.shape == array.shape
        assert all(most >= side for most, side in zip(found.shape, array.shape, strict=True))
        assert found.nbytes >= array.nbytes
        if found.values is not None:
            np.testing.assert_allclose(found.values.astype(np.float64), array.astype(np.float64), rtol=1e-6)
    if case[2] and isinstance(case[2][0], str) and case[0] not in {"OneHot", "Gemm", "Einsum", "NonMaxSuppression"}:
        assert follower.extents["out0"].values is not None  # small contents are followed


def test_most_rules_are_tried() -> None:
    tried = {case[0] for case in CASES}
    shaping = {name for name in RULES if RULES[name].__name__ not in {"_elementwise", "_compared", "_same", "_paired"}}
    missing = {name for name in shaping - tried if "::" not in name and not name.startswith(("Reduce", "Q", "D"))}
    assert missing <= {"ArgMin", "CastLike", "Constant", "ConvInteger", "GlobalMaxPool", "MatMulInteger", "Upsample"}


def test_a_size_that_depends_on_the_image_is_not_known() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["count", "zero"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], [numpy_helper.from_array(i64(0), "zero")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = exact_shapes(made, {"images": IMAGE.shape})
    assert found["shape"].shape == (1,)
    assert "out" not in found
    follower = Follower(made, {"images": IMAGE.shape})
    with pytest.raises(Unknown):
        for node in follower.in_order():
            follower.follow(node)
