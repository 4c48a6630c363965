"""Half precision written into graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from helpers.graphs import foreign, kept_layers, ours
from yoloship.checkpoint import read_checkpoint
from yoloship.errors import GraphError, InputError
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.graph.body import element_types
from yoloship.graph.onnx_file import opset, read_metadata, read_model_info
from yoloship.graph.passes.half import HalfPrecision, convert_precision, emulate, half_values
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

HALF: dict[HalfPrecision, int] = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
both = pytest.mark.parametrize("precision", ["float16", "bfloat16"])


def run(model: onnx.ModelProto, seed: int = 1) -> list[np.ndarray]:
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        shape = [extent if isinstance(extent, int) else 1 for extent in session.inputs[0].shape]
        image = np.random.default_rng(seed).random(shape, np.float32)
        return list(session.run({session.inputs[0].name: image}))


def scaled(model: onnx.ModelProto, factors: dict[str, float]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in factors:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factors[tensor.name]), tensor.name)
            )
    return changed


@both
def test_every_convolution_is_narrow_and_what_decodes_is_not(precision: HalfPrecision) -> None:
    model = convert_precision(ours(), precision)
    onnx.checker.check_model(model, full_check=True)
    types = element_types(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert {types[name] for name in (*node.input, *node.output)} == {HALF[precision]}
        if node.name.startswith("model.24.") and node.op_type in {"Sigmoid", "Mul", "Add"}:
            assert types[node.output[0]] == TensorProto.FLOAT
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}


@both
@pytest.mark.parametrize("output", ["raw", "heads", "compact", "nms"])
def test_the_edges_keep_their_types_names_and_order(precision: HalfPrecision, output: str) -> None:
    before = ours(output, "image")
    after = convert_precision(before, precision)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)


@both
def test_numbers_stay_those_of_float32_within_the_precision(precision: HalfPrecision) -> None:
    (want,) = run(ours())
    (have,) = run(emulate(convert_precision(ours(), precision)))
    share = 0.01 if precision == "float16" else 0.06
    assert 0 < np.abs(have[..., 4:] - want[..., 4:]).max() < share
    assert np.abs(have[..., :4] - want[..., :4]).max() < 100 * share


def test_only_bfloat16_asks_for_a_later_operator_set() -> None:
    assert opset(convert_precision(ours(), "float16")) == opset(ours())
    assert opset(convert_precision(ours("compact"), "bfloat16")) == 22


@both
def test_the_record_says_the_precision(precision: HalfPrecision) -> None:
    metadata = read_metadata(convert_precision(ours(), precision))
    info = read_model_info(metadata, "x")
    assert info is not None
    assert info.precision == precision
    assert metadata["names"] == read_metadata(ours())["names"]
    assert kept_layers(metadata) == ()


def test_a_layer_whose_weights_do_not_fit_into_float16_stays_float32_and_is_named() -> None:
    factors = {"model.1.conv.weight": 1e6, "model.2.cv1.conv.weight": 1e-6, "model.2.cv2.conv.weight": 1e-6}
    large = scaled(ours(), factors)
    model = convert_precision(large, "float16")
    assert kept_layers(read_metadata(model)) == ("model.1.conv",)
    onnx.checker.check_model(model, full_check=True)
    assert kept_layers(read_metadata(convert_precision(large, "bfloat16"))) == ()


def test_layers_are_kept_float32_on_request() -> None:
    model = convert_precision(ours(), "float16", keep=["model.0.conv", "model.3.conv"])
    types = element_types(model)
    kept = [node.name for node in model.graph.node if node.op_type == "Conv" and types[node.output[0]] == 1]
    assert kept == ["model.0.conv", "model.3.conv"]
    onnx.checker.check_model(model, full_check=True)


@both
def test_a_resize_keeps_its_scales_in_float32(precision: HalfPrecision) -> None:
    model = convert_precision(ours(), precision)
    types = element_types(model)
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert resizes
    assert {types[node.input[2]] for node in resizes} == {TensorProto.FLOAT}
    assert {types[node.output[0]] for node in resizes} == {HALF[precision]}


@both
def test_a_foreign_graph_is_converted_round_its_constants_norms_and_branches(precision: HalfPrecision) -> None:
    model = convert_precision(foreign(), precision)
    onnx.checker.check_model(model, full_check=True)
    types = element_types(model)
    by_name = {node.name: node for node in model.graph.node}
    assert types[by_name["first"].output[0]] == types[by_name["last"].output[0]] == HALF[precision]
    assert {types[by_name[name].output[0]] for name in ("norm", "sigmoid", "decode")} == {TensorProto.FLOAT}
    (want,) = run(foreign())
    (have,) = run(emulate(model))
    assert np.abs(have - want).max() < (1 if precision == "float16" else 8)  # of a few hundred


def test_nothing_of_the_given_model_is_changed() -> None:
    model = foreign()
    before = graph_bytes(model)
    convert_precision(model, "bfloat16")
    assert graph_bytes(model) == before


def test_a_graph_is_built_in_half_precision_at_once() -> None:
    from helpers.shared import GENERATED, require

    checkpoint = read_checkpoint(require(GENERATED / "v7-yolov5n.pt"))
    built = build_graph(checkpoint, GraphConfig((64, 96), precision="float16"))
    assert graph_bytes(built) == graph_bytes(convert_precision(ours(), "float16"))


def external() -> onnx.ModelProto:
    model = foreign()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


@pytest.mark.parametrize(
    ("model", "keep", "words"),
    [
        (lambda: convert_precision(ours(), "float16"), (), "computes in half precision already"),
        (ours, ("model.99.conv",), r"has no layer of that name: got model\.99\.conv"),
        (external, (), "keeps weights outside the file; load it with its external data first"),
    ],
)
def test_what_cannot_be_converted_is_refused(model: object, keep: tuple[str, ...], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        convert_precision(model(), "float16", keep=keep)  # type: ignore[operator]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="expected float16 or bfloat16, got 'int8'"):
        convert_precision(ours(), "int8")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="precision: cannot have this value"):
        GraphConfig(precision="int8")  # type: ignore[arg-type]


def test_emulation_rounds_and_overflows_where_the_runtime_alone_does_not() -> None:
    large = scaled(ours(), {"model.1.conv.weight": 1e7})
    model = convert_precision(large, "float16", keep=["model.1.conv"])
    assert not all(np.isfinite(out).all() for out in run(emulate(model)))
    assert half_values(ours()) == ()
