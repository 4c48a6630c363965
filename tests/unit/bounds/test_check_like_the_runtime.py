"""What is computed from constants to know sizes is what ONNX Runtime computes, or is not relied on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloship.bounds import check_bounds, read_outline
from yoloship.errors import SessionError

node = helper.make_node


def whole(*values: int) -> Any:
    return np.array(values, np.int64)


def expanding(nodes: list[onnx.NodeProto], constants: dict[str, Any], last: str, count: int) -> bytes:
    """A graph that expands a tensor of one element, or of none, to so many."""
    nodes = [
        *nodes,
        node("Expand", [last, "count"], ["big"]),
        node("ReduceSum", ["big"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "big")],
        [numpy_helper.from_array(value, name) for name, value in {**constants, "count": whole(count)}.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


CLAMPED = [
    node("Max", ["q", "zero"], ["q1"]),
    node("Min", ["q1", "one"], ["q2"]),
    node("ConstantOfShape", ["q2"], ["z"]),
]
LIMITS = {"zero": whole(0), "one": whole(1)}
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "a slice that goes backwards from before the start": (
        [node("Slice", ["d", "start", "end", "axis", "step"], ["z"])],
        {"d": np.ones(10, np.float32), "start": whole(-100), "end": whole(-1000), "axis": whole(0), "step": whole(-1)},
    ),
    "a quotient of more digits than a float holds": (
        [node("Div", ["a", "b"], ["q"]), *CLAMPED],
        {"a": whole(2**63 - 1), "b": whole(1), **LIMITS},
    ),
    "a remainder with the sign of the dividend": (
        [node("Mod", ["a", "b"], ["q"], fmod=1), *CLAMPED],
        {"a": whole(7), "b": whole(-3), **LIMITS},
    ),
    "a power that overflows": (
        [node("Pow", ["a", "b"], ["p"]), node("Neg", ["p"], ["n"]), node("Sub", ["n", "one"], ["q"]), *CLAMPED],
        {"a": whole(2), "b": whole(64), **LIMITS},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes_on_which_runtimes_and_python_differ_are_not_taken_for_nothing(name: str) -> None:
    nodes, constants = CASES[name]
    small = expanding(nodes, constants, "z", 1000)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        found = ort.InferenceSession(small, options).run(["big"], {"x": np.zeros((1, 3, 64, 64), np.float32)})[0]
    except ort.capi.onnxruntime_pybind11_state.Fail:
        found = np.zeros(1000)  # refused by this version; others may take it
    assert found.size in {0, 1000}
    if found.size:
        with pytest.raises(SessionError):
            check_bounds(read_outline(expanding(nodes, constants, "z", 10**12), "x"), "x", [(1, 3, 64, 64)])


@pytest.mark.parametrize("divisor", [-1, 0])
def test_a_division_of_integers_that_could_end_the_process_is_refused(divisor: int) -> None:
    nodes = [node("Div", ["a", "b"], ["q"]), *CLAMPED]
    model = expanding(nodes, {"a": whole(-(2**63)), "b": whole(divisor), **LIMITS}, "z", 4)
    with pytest.raises(SessionError):
        check_bounds(read_outline(model, "x"), "x", [(1, 3, 64, 64)])
