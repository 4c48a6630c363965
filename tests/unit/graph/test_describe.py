"""What an ONNX file says about itself, and what bytes that are none get."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from helpers.modules import Maker, around, checkpoint
from yoloship.errors import GraphError, InputError
from yoloship.graph import (
    GraphConfig,
    OnnxFile,
    build_graph,
    checkpoint_flops,
    graph_bytes,
    graph_costs,
    model_info,
    read_onnx,
)
from yoloship.graph.describe import one_image
from yoloship.graph.onnx_file import parse_onnx
from yoloship.model import TensorSpec

if TYPE_CHECKING:
    from yoloship.graph import GraphCosts

MAKE = Maker()
HAND = around(MAKE.conv(8, 8, 3), 8, 8)
SMALL = checkpoint([(MAKE.conv(3, 8, 8, 8, padding=(0, 0)), -1), (MAKE.detect([8], [8]), [-1])])
GOOD = graph_bytes(build_graph(SMALL, GraphConfig((32, 32))))


def costs(data: bytes, dynamic_hw: tuple[int, int] = (640, 640)) -> GraphCosts:
    return graph_costs(parse_onnx(data, "x.onnx"), dynamic_hw=dynamic_hw, subject="x.onnx")


@pytest.mark.parametrize("input_hw", [(64, 96), None])
@pytest.mark.parametrize("input_form", ["float", "image"])
def test_our_own_file_is_described_in_full(input_hw: tuple[int, int] | None, input_form: str, tmp_path: Path) -> None:
    config = GraphConfig(input_hw, None, input_form)  # type: ignore[arg-type]  # the two that there are
    model = build_graph(HAND, config)
    path = tmp_path / "best.onnx"
    path.write_bytes(graph_bytes(model))
    summary, found = read_onnx(path), costs(graph_bytes(model), (64, 96))
    assert summary.info == model_info(HAND, config)
    assert summary.outputs == (TensorSpec("output0", "float32", ("batch", 288 if input_hw else "boxes", 8)),)
    assert summary.inputs[0].name == "images"
    assert (summary.opset, summary.ir_version) == (17, 8)
    assert summary.producer.startswith("yoloship ")
    assert sum(summary.operators.values()) == len(model.graph.node)
    assert summary.operators["Conv"] == 3
    # each batch-norm leaves a bias behind
    assert found.parameter_count == (8 * 3 * 64 + 8) + (8 * 8 * 9 + 8) + (24 * 8 + 24)
    assert found.flops == checkpoint_flops(HAND, (64, 96))
    assert found.flops_hw == (64, 96)
    assert summary.metadata["task"] == "detect"


def test_a_graph_that_we_wrote_is_described_as_its_file_is(tmp_path: Path) -> None:
    model = build_graph(HAND, GraphConfig())
    path = tmp_path / "best.onnx"
    path.write_bytes(graph_bytes(model))
    assert OnnxFile.of(model, graph_bytes(model), path) == read_onnx(path)
    assert graph_costs(model, subject="x.onnx") == costs(graph_bytes(model))


def foreign(**changes: object) -> onnx.ModelProto:
    """A matrix product over an input of no image's shape, written by someone else."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(np.zeros((4, 2), np.float16), "w")],
    )
    return helper.make_model(graph, **changes)


def test_a_foreign_file_has_no_record_and_no_figure_where_sizes_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(foreign().SerializeToString())
    summary, found = read_onnx(tmp_path / "x.onnx"), costs(foreign().SerializeToString())
    assert summary.info is None
    assert found.flops is None
    assert found.parameter_count == 8
    assert summary.inputs == (TensorSpec("x", "float16", ("n", "axis1")),)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    model = foreign()
    model.metadata_props.add(key="yoloship.model", value="{}")
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="model record of another schema"):
        read_onnx(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello there\n", "is a text file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04rest", "is a checkpoint, not an ONNX model"),
        (b"\x08\x08", "no nodes, no outputs, no operator set"),
        (bytes(range(128, 256)), "is not a valid ONNX file: it is damaged or truncated"),
    ],
)
def test_bytes_that_are_no_model_are_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        costs(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [b"images", b"output0", b"model.0.conv.weight", b"names", b"yoloship", b"Conv"])
def test_a_name_that_is_no_text_is_refused(name: bytes) -> None:
    with pytest.raises(GraphError, match="a name in it is not text"):
        costs(GOOD.replace(name, b"\xff" + name[1:], 1))


def test_two_values_of_one_name_are_refused() -> None:
    model = build_graph(SMALL, GraphConfig((32, 32)))
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    second.output[0] = first.output[0]
    with pytest.raises(
        GraphError, match=f"has two values with the same name: got '{first.output[0]}'; export the model again"
    ):
        costs(model.SerializeToString())


def long_chain(count: int) -> bytes:
    model = build_graph(SMALL, GraphConfig((32, 32)))
    last = model.graph.output[0].name
    for index in range(count):
        model.graph.node.add(op_type="Identity", input=[last], output=[f"chain{index}"])
        last = f"chain{index}"
    return bytes(model.SerializeToString())


@pytest.mark.timeout(60)
def test_what_no_runtime_here_takes_is_described_without_estimates() -> None:
    data = long_chain(10_000)
    model = parse_onnx(data, "x.onnx")
    found = graph_costs(model, subject="x.onnx")
    assert OnnxFile.of(model, data, Path("x.onnx")).operators["Identity"] >= 10_000
    assert (found.flops, found.activations) == (None, None)


@pytest.mark.timeout(60)
def test_a_graph_of_far_too_many_nodes_is_refused() -> None:
    with pytest.raises(GraphError, match="has too many nodes for a detector: expected at most 100,000, got 100,0"):
        costs(long_chain(100_000))


def test_a_graph_that_contradicts_itself_has_no_figure() -> None:
    model = build_graph(SMALL, GraphConfig((32, 32)))
    product = next(node for node in model.graph.node if node.op_type == "Mul")
    del product.input[1:]
    assert costs(graph_bytes(model)).flops is None


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path, tmp_path / "nul\0"):
        with pytest.raises(InputError):
            read_onnx(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_a_file_cut_anywhere_is_described_or_refused(length: int) -> None:
    with suppress(GraphError):
        costs(GOOD[:length])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_file_with_changed_bytes_is_described_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    with suppress(GraphError):
        costs(bytes(data))


def convolution_of(nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto]) -> bytes:
    """A graph from `images` to `output0`, both (1, 3, 8, 8) float32."""
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "output0")]
    graph = helper.make_graph(nodes, "g", edges[:1], edges[1:], stored)
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_the_weights_of_every_kind_of_quantized_or_narrow_file_are_counted() -> None:
    weight = np.ones((3, 3, 1, 1), np.float32)
    scale, zero = numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.int8(0), "z")
    codes = numpy_helper.from_array(weight.astype(np.int8), "w")
    float32 = numpy_helper.from_array(weight, "w")
    float16 = numpy_helper.from_array(weight.astype(np.float16), "w")
    conv = helper.make_node("Conv", ["images", "v"], ["output0"])
    to_codes = helper.make_node("QuantizeLinear", ["images", "s", "z"], ["x"])
    linear = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"])
    back = helper.make_node("DequantizeLinear", ["y", "s", "z"], ["output0"])
    cases = {
        "dequantized": ([helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]), conv], [codes, scale, zero]),
        "quantized when it runs": (
            [
                helper.make_node("QuantizeLinear", ["w", "s", "z"], ["c"]),
                helper.make_node("DequantizeLinear", ["c", "s", "z"], ["v"]),
                conv,
            ],
            [float32, scale, zero],
        ),
        "in integers": ([to_codes, linear, back], [codes, scale, zero]),
        "cast": ([helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT), conv], [float16]),
        "in a constant": ([helper.make_node("Constant", [], ["v"], value=float32), conv], []),
    }
    assert {name: costs(convolution_of(*case)).parameter_count for name, case in cases.items()} == dict.fromkeys(
        cases, 9
    )


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((1, 1, "h", "w"), ((64, 96), (1, 1, 64, 96))),
        (("b", "h", "w", 1), ((64, 96), (1, 64, 96, 1))),
        ((1, 4, 32, 3), ((32, 3), (1, 4, 32, 3))),
        (("b", 20, "h", "w"), (None, ())),
    ],
)
def test_one_image_of_any_number_of_channels_is_understood(shape: tuple[int | str, ...], found: object) -> None:
    assert one_image((TensorSpec("images", "float32", shape),), (64, 96)) == found


def test_integer_convolutions_are_counted_like_others() -> None:
    names = ["images", "scale", "zero", "w", "scale", "zero", "scale", "zero"]
    nodes = [helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1])]
    stored = [
        numpy_helper.from_array(np.array(1, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.uint8), "w"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4, 8, 8])], stored,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    summary = costs(made.SerializeToString())
    assert summary.flops == 2 * 4 * 64 * 27
    assert summary.parameter_count == 4 * 27
