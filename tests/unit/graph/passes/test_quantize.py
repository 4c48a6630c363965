"""INT8 and FP8 written into graphs, calibrated by ONNX Runtime's calibrators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from helpers.graphs import HW, foreign, kept_layers, ours
from yoloship.errors import GraphError, InputError
from yoloship.graph import graph_bytes
from yoloship.graph.body import element_types
from yoloship.graph.onnx_file import opset, read_metadata, read_model_info
from yoloship.graph.passes.half import convert_precision
from yoloship.graph.passes.quantize import QuantizedPrecision, layers, quantize, values_to_watch
from yoloship.precision.calibrate import calibrate
from yoloship.precision.sensitivity import ending_at
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

FEEDS = [{"images": np.random.default_rng(seed).random((1, 3, *HW), np.float32)} for seed in range(2)]
every_precision = pytest.mark.parametrize("precision", ["int8", "float8"])


@pytest.fixture(scope="module")
def ranges() -> Mapping[str, float]:
    return calibrate(ours(), values_to_watch(layers(ours()), "inputs_and_outputs"), FEEDS, "minmax")


def run(model: onnx.ModelProto, feeds: Any = FEEDS) -> list[Any]:
    with OnnxRuntimeSession.open(graph_bytes(model)) as session:
        return [session.run(feed) for feed in feeds]


def stored(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


@pytest.mark.parametrize("placement", ["inputs", "inputs_and_outputs"])
def test_the_form_is_the_one_that_tensorrt_takes(ranges: Mapping[str, float], placement: Any) -> None:
    model = quantize(ours(), ranges, placement=placement)
    onnx.checker.check_model(model, full_check=True)
    weights = stored(model)
    pairs = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    for node in pairs:
        zero = weights[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
        assert numpy_helper.to_array(weights[node.input[1]]).min() > 0
    quantized = {layer.name for layer in layers(ours())}
    for node in model.graph.node:
        if node.op_type == "Conv":
            behind = {pair.output[0] for pair in pairs}
            assert (node.input[0] in behind) == (node.input[1] in behind) == (node.name in quantized)
            assert weights[node.input[2]].data_type == TensorProto.FLOAT
    heads = {node.name for node in ours().graph.node if node.op_type == "Conv"} - quantized
    assert heads == {"model.24.m.0", "model.24.m.1", "model.24.m.2"}


def test_scales_and_weights_are_those_of_quantize_static(tmp_path: Path, ranges: Mapping[str, float]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self.left = list(FEEDS)

        def get_next(self) -> Any:
            return self.left.pop(0) if self.left else None

    source, target = tmp_path / "a.onnx", tmp_path / "b.onnx"
    source.write_bytes(graph_bytes(ours()))
    quantize_static(
        source, target, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        nodes_to_exclude=["model.24.m.0", "model.24.m.1", "model.24.m.2"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    theirs, mine = onnx.load(target), quantize(ours(), ranges, placement="inputs_and_outputs")

    def scales(model: onnx.ModelProto) -> dict[str, Any]:
        weights = stored(model)
        found = {}
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear":
                found[node.input[0].removesuffix(".float")] = float(numpy_helper.to_array(weights[node.input[1]]))
        return found

    def codes(model: onnx.ModelProto) -> list[Any]:
        return sorted(
            (numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == 3 and len(t.dims) == 4),
            key=lambda a: (a.shape, a.tobytes()),
        )

    for name, scale in scales(mine).items():
        value = next(v for k, v in scales(theirs).items() if k.split("_QuantizeLinear")[0] == name)
        assert scale == pytest.approx(value, rel=0.005), name  # theirs divides by 127.5
    for a, b in zip(codes(mine), codes(theirs), strict=True):
        assert a.shape == b.shape


@every_precision
def test_the_quantized_graph_runs_and_answers_much_the_same(
    ranges: Mapping[str, float], precision: QuantizedPrecision
) -> None:
    want, have = run(ours("heads"))[0], run(quantize(ours("heads"), ranges, precision))[0]
    for a, b in zip(have, want, strict=True):
        assert 0 < np.square(a - b).sum() / np.square(b).sum() < 0.01
    info = read_model_info(read_metadata(quantize(ours("heads"), ranges, precision)), "x")
    assert info is not None
    assert info.precision == precision
    assert opset(quantize(ours("heads"), ranges, precision)) == (17 if precision == "int8" else 19)


def test_means_make_biases_undo_the_mean_error_of_the_weights(ranges: Mapping[str, float]) -> None:
    first = layers(ours())[0]
    level = 127 * float(np.float16(0.7 / 127))  # scales are what float16 holds, so this is a code without an error
    image = np.full((1, 3, *HW), level, np.float32)
    means = {first.activation: np.full(3, level)}
    others = [layer.name for layer in layers(ours()) if layer != first]

    def inside(model: onnx.ModelProto) -> Any:
        return run(ending_at(model, [first.output]), [{"images": image}])[0][0][..., 4:-4, 4:-4]

    plain = quantize(ours(), {**ranges, first.activation: level}, keep=others)
    mended = quantize(ours(), {**ranges, first.activation: level}, keep=others, means=means)
    want = inside(ours())
    assert np.abs(inside(mended) - want).max() < 1e-4 < np.abs(inside(plain) - want).max()


def test_layers_are_kept_float32_on_request_and_named(ranges: Mapping[str, float]) -> None:
    model = quantize(ours(), ranges, keep=["model.3.conv"])
    node = next(node for node in model.graph.node if node.name == "model.3.conv")
    assert stored(model)[node.input[1]].data_type == TensorProto.FLOAT
    assert kept_layers(read_metadata(model)) == ("model.3.conv",)


@every_precision
def test_names_that_a_graph_has_already_are_not_given_twice(
    precision: QuantizedPrecision, ranges: Mapping[str, float]
) -> None:
    """Of two stored tensors of one name ONNX Runtime takes the last, in silence."""
    watched = values_to_watch(layers(ours()), "inputs")
    means = {name: run(ending_at(ours(), [name]))[0][0].mean(axis=(0, 2, 3), dtype=np.float64) for name in watched}
    want = run(quantize(ours(), ranges, precision, means=means))
    odd = onnx.ModelProto()
    odd.CopyFrom(ours())
    renamed = {"model.0.conv.bias": f"{watched[0]}.{precision}.scale", "model.1.conv.bias": f"{watched[1]}.{precision}"}
    for tensor in odd.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in odd.graph.node:
        node.name = ""
        node.input[:] = [renamed.get(name, name) for name in node.input]
    have = quantize(odd, ranges, precision, means=means)
    names = [tensor.name for tensor in have.graph.initializer]
    assert len(set(names)) == len(names)
    for a, b in zip(run(have), want, strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def test_a_channel_of_zeros_stays_zeros(ranges: Mapping[str, float]) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(ours())
    for tensor in model.graph.initializer:
        if tensor.name == "model.3.conv.weight":
            values = numpy_helper.to_array(tensor).copy()
            values[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    quantized = quantize(model, ranges)
    assert not numpy_helper.to_array(stored(quantized)["model.3.conv.weight.int8.codes"])[0].any()
    assert np.isfinite(run(quantized)[0][0]).all()


def test_a_foreign_graph_is_quantized_but_for_its_last_convolution() -> None:
    model = foreign()
    assert [layer.name for layer in layers(model)] == ["first"]
    feeds = [{"images": np.random.default_rng(0).random((1, 3, 16, 16), np.float32)}]
    quantized = quantize(model, calibrate(model, ["images"], feeds, "minmax"))
    assert np.abs(run(quantized, feeds)[0][0] - run(model, feeds)[0][0]).max() < 10
    assert element_types(quantized)["images.int8.codes"] == TensorProto.INT8


def test_what_cannot_be_quantized_is_refused(ranges: Mapping[str, float]) -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: quantize(quantize(ours(), ranges), ranges), "is quantized already"),
        (lambda: quantize(convert_precision(ours(), "float16"), ranges), "has no float32 convolution"),
        (lambda: quantize(ours(), {}), "an activation has not been calibrated"),
        (lambda: quantize(ours(), ranges, keep=["nothing"]), "has no such layer to keep: got nothing"),
        (lambda: calibrate(ours(), ["images"], [], "minmax"), "nothing to calibrate with: expected images"),
    ]
    for act, words in cases:
        with pytest.raises(GraphError, match=words):
            act()


def test_choices_that_do_not_exist_are_refused(ranges: Mapping[str, float]) -> None:
    with pytest.raises(InputError, match="expected int8 or float8, got 'int4'"):
        quantize(ours(), ranges, "int4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such calibrator"):
        calibrate(ours(), ["images"], FEEDS, "guess")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_do_not_become_codes(value: float, ranges: Mapping[str, float]) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(ours())
    for tensor in broken.graph.initializer:
        if tensor.name == "model.2.cv1.conv.weight":
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] = value
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(GraphError, match=r"model\.2\.cv1\.conv\.weight: holds weights that are not finite"):
        quantize(broken, ranges)
    with pytest.raises(GraphError, match="images: reaches to what is not finite"):
        quantize(ours(), {**ranges, "images": value})
