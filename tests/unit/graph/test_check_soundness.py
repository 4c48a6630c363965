from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from helpers.networks import double_network, float_network, half_network, network, quantized_network
from yoloship.errors import GraphError
from yoloship.graph.check import check_sound

RELU = helper.make_node("Relu", ["images"], ["output0"], name="relu")


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(GraphError) as caught:
        check_sound(model, "m")
    return str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        float_network(batch="batch"),
        double_network(),
        half_network(TensorProto.BFLOAT16),
        quantized_network(TensorProto.FLOAT8E4M3FN),
        network([helper.make_node("Magic", ["images"], ["output0"], domain="acme")]),
    ],
)
def test_a_graph_that_holds_together_passes(model: onnx.ModelProto) -> None:
    check_sound(model, "m")


def test_a_node_without_outputs_is_refused_which_would_end_the_process_in_tensorrt() -> None:
    lost = helper.make_node("Relu", ["images"], [], name="lost")
    assert refusal(network([lost, RELU])) == "m: node 0 (Relu, lost): has no output"


def test_a_value_that_nothing_defines_is_named() -> None:
    node = helper.make_node("Relu", ["ghost"], ["output0"])
    assert refusal(network([node])) == (
        "m: node 0 (Relu, without a name): uses a value that nothing before it defines: got 'ghost'"
    )


def test_a_value_that_is_defined_later_counts_as_undefined() -> None:
    late = [helper.make_node("Relu", ["x"], ["output0"]), helper.make_node("Relu", ["images"], ["x"])]
    assert "uses a value that nothing before it defines: got 'x'" in refusal(network(late))


def test_an_output_that_nothing_defines_is_named() -> None:
    other = helper.make_node("Relu", ["images"], ["other"])
    assert refusal(network([other])) == "m: names an output that nothing defines: got 'output0'"


def test_a_node_that_does_not_fit_its_operator_is_named() -> None:
    node = helper.make_node("Conv", ["images"], ["output0"], name="conv")
    assert refusal(network([node])).startswith("m: node 0 (Conv, conv): does not fit its operator: got ")


def test_an_operator_that_onnx_does_not_have_is_named() -> None:
    node = helper.make_node("Rellu", ["images"], ["output0"], name="typo")
    assert refusal(network([node])).startswith(
        "m: node 0 (Rellu, typo): does not fit its operator: got No Op registered"
    )


def test_a_stored_tensor_whose_bytes_do_not_fit_its_shape_is_named() -> None:
    model = float_network()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    assert refusal(model).startswith("m: weight: stored tensor is damaged: got ")


def test_a_branch_sees_what_was_defined_around_it() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "b", [], [out])
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["flag"], ["output0"], then_branch=branch, else_branch=branch)
    check_sound(network([node], [flag]), "m")
    branch.node[0].input[0] = "ghost"
    node = helper.make_node("If", ["flag"], ["output0"], then_branch=branch, else_branch=branch)
    assert "got 'ghost'" in refusal(network([node], [flag]))


def test_graphs_that_nest_without_end_are_refused() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "b", [], [out])
    for _ in range(20):
        node = helper.make_node("Wrap", ["images"], ["out"], body=inner, domain="acme")
        inner = helper.make_graph([node], "b", [], [out])
    wrap = helper.make_node("Wrap", ["images"], ["output0"], body=inner, domain="acme")
    assert refusal(network([wrap])) == "m: nests its graphs too deeply: expected at most 16 levels"


def test_the_file_of_a_real_export_passes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(float_network(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    check_sound(onnx.load(path, load_external_data=False), "m")
