from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from helpers.networks import float_network, half_network, network, quantized_network
from yoloship.graph.body import LayerPrecision, body_precision, layer_precisions


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (float_network(), "float32"),
        (half_network(TensorProto.FLOAT16), "float16"),
        (half_network(TensorProto.BFLOAT16), "bfloat16"),
        (quantized_network(TensorProto.INT8), "int8"),
        (quantized_network(TensorProto.FLOAT8E4M3FN), "float8_e4m3fn"),
    ],
)
def test_each_weighted_layer_says_what_it_computes_in(model: onnx.ModelProto, precision: str) -> None:
    assert layer_precisions(model) == (LayerPrecision("conv", "Conv", precision),)
    assert body_precision(model) == {"float8_e4m3fn": "float8"}.get(precision, precision)


def test_a_graph_without_weighted_layers_counts_as_float32() -> None:
    assert body_precision(network([helper.make_node("Relu", ["images"], ["output0"])])) == "float32"


def test_a_layer_without_a_name_goes_by_its_output_and_the_rest_is_left_out() -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["positive"]),
        helper.make_node("MatMul", ["positive", "positive"], ["output0"]),
    ]
    assert layer_precisions(network(nodes)) == (LayerPrecision("output0", "MatMul", "float32"),)
