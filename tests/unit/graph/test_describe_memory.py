from __future__ import annotations

from itertools import pairwise

import onnx
import pytest
from onnx import TensorProto, helper

from helpers.networks import float_network, half_network, network
from yoloship.graph import graph_costs
from yoloship.graph.describe import Activations

IMAGE = 3 * 32 * 32 * 4
"""Bytes of one value of the input's size in float32."""


def activations(model: onnx.ModelProto) -> Activations | None:
    return graph_costs(model, subject="x").activations


def test_a_chain_holds_two_neighbours_at_a_time() -> None:
    names = ["images", "a", "b", "c", "output0"]
    chain = [helper.make_node("Relu", [x], [y]) for x, y in pairwise(names)]
    assert activations(network(chain)) == Activations(2 * IMAGE, 0)


def test_a_value_lives_until_its_last_reader() -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["early"]),
        helper.make_node("Sigmoid", ["early"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),  # early, a and b
        helper.make_node("Add", ["early", "b"], ["output0"]),
    ]
    assert activations(network(nodes)) == Activations(3 * IMAGE, 0)


def test_weights_do_not_count_and_a_dynamic_batch_counts_as_one_image() -> None:
    grown = 8 * 32 * 32 * 4
    for batch in (1, "batch"):
        assert activations(float_network(batch=batch)) == Activations(2 * grown, 0)


@pytest.mark.parametrize("element_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_takes_half(element_type: int) -> None:
    found, whole = activations(half_network(element_type)), activations(float_network())
    assert found is not None
    assert whole is not None
    assert found.peak_bytes < whole.peak_bytes


def test_a_value_that_only_a_subgraph_reads_is_alive_until_there() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["early"], ["chosen"])],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True]))
    nodes = [
        helper.make_node("Relu", ["images"], ["early"]),
        helper.make_node("Sigmoid", ["images"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),  # early, a and b
        yes,
        helper.make_node("If", ["yes"], ["picked"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["picked", "b"], ["output0"]),
    ]
    assert activations(network(nodes)) == Activations(3 * IMAGE, 2)  # nothing is known about what an If gives


def test_values_whose_size_cannot_be_inferred_are_counted_and_left_out() -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["a"]),
        helper.make_node("NonZero", ["a"], ["places"]),
        helper.make_node("Sigmoid", ["a"], ["output0"]),
    ]
    assert activations(network(nodes)) == Activations(2 * IMAGE, 1)
