from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.models import model
from yoloship._util.bfloat16 import BFLOAT16, to_float32
from yoloship.runtime import openvino_graph as ours
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession
from yoloship.runtime.openvino import OpenVinoSession, _processor_flags, import_openvino

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")

HAS_BFLOAT16 = bool({"amx_bf16", "avx512_bf16"} & set(_processor_flags().split()))
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16 arithmetic")


@pytest.fixture(autouse=True)
def cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))


def network(
    hw: tuple[Any, Any] = (12, 16),
    kernel: tuple[int, int] = (6, 6),
    strides: tuple[int, int] = (2, 2),
    pads: tuple[int, int, int, int] = (2, 2, 2, 2),
    dilations: tuple[int, int] = (1, 1),
    channels: int = 3,
) -> onnx.ModelProto:
    """A uint8 image, made planes, through a convolution, SiLU and a 1×1 convolution."""
    rng = np.random.default_rng(0)
    tensors = {
        "w0": rng.normal(0, 0.003, (8, channels, *kernel)).astype(np.float32),
        "b0": rng.normal(0, 0.1, 8).astype(np.float32),
        "w1": rng.normal(0, 0.5, (5, 8, 1, 1)).astype(np.float32),
        "b1": rng.normal(0, 0.5, 5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["planes", "w0", "b0"], ["a"], strides=strides, pads=pads, dilations=dilations, kernel_shape=kernel
        ),
        helper.make_node("Sigmoid", ["a"], ["gate"]),
        helper.make_node("Mul", ["a", "gate"], ["silu"]),
        helper.make_node("Conv", ["silu", "w1", "b1"], ["y"]),
    ]
    return model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, *hw, channels])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, "h", "w"])],
        tensors,
    )


def image(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (1, height, width, channels), np.uint8)


def tuned(proto: onnx.ModelProto) -> Any:
    """OpenVINO's graph of a file after `tune_for_bfloat16`."""
    openvino = import_openvino()
    graph = openvino.Core().read_model(proto.SerializeToString())
    ours.tune_for_bfloat16(openvino, graph)
    return graph


def answer(graph: Any, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What a tuned graph computes in float32, so that only its last step rounds."""
    compiled = import_openvino().Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return to_float32(compiled(x)[0].view(BFLOAT16).transpose(0, 3, 1, 2))


def right(proto: onnx.ModelProto, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with OnnxRuntimeSession.open(proto.SerializeToString()) as session:
        return np.asarray(session.run({"x": x})[0], np.float32)


def kinds(graph: Any) -> list[str]:
    return [node.get_type_name() for node in graph.get_ops()]


@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ((6, 6), (2, 2), (2, 2, 2, 2)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 3), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (0, 0, 1, 1)),
        ((4, 4), (4, 4), (0, 0, 0, 0)),
        ((7, 7), (2, 2), (3, 3, 3, 3)),
        ((1, 5), (1, 4), (0, 3, 0, 2)),
        ((2, 2), (2, 2), (0, 5, 0, 4)),
    ],
)
def test_an_image_that_is_read_in_blocks_of_columns_gives_what_its_planes_give(
    kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    proto, x = network(kernel=kernel, strides=strides, pads=pads), image(12, 16)
    graph = tuned(proto)
    (first,) = (node for node in graph.get_ops() if node.get_type_name() == "Reshape" and node.shape[-1] != 1)
    assert list(first.shape) == [1, 12, 16 // strides[1], 3 * strides[1]]
    np.testing.assert_allclose(answer(graph, x), right(proto, x), rtol=0.01, atol=0.005)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_read_in_blocks_too(channels: int) -> None:
    proto, x = network(channels=channels), image(12, 16, channels)
    np.testing.assert_allclose(answer(tuned(proto), x), right(proto, x), rtol=0.01, atol=0.005)


@pytest.mark.parametrize(
    "given",
    [
        {"hw": (12, 17)},
        {"strides": (1, 1)},
        {"kernel": (3, 3), "dilations": (2, 2)},
    ],
)
def test_a_convolution_that_cannot_read_blocks_keeps_its_planes(given: dict[str, Any]) -> None:
    proto = network(**given)
    x = image(*given.get("hw", (12, 16)))
    graph = tuned(proto)
    assert not [node for node in graph.get_ops() if node.get_type_name() == "Reshape" and node.shape[-1] != 1]
    np.testing.assert_allclose(answer(graph, x), right(proto, x), rtol=0.01, atol=0.005)


def test_a_graph_of_dynamic_shapes_stays_as_it_is() -> None:
    openvino = import_openvino()
    graph = openvino.Core().read_model(network(hw=("H", "W")).SerializeToString())
    before = kinds(graph)
    ours.tune_for_bfloat16(openvino, graph)
    assert kinds(graph) == before


def test_silu_is_close_everywhere_exact_far_from_zero_and_nan_for_nan() -> None:
    openvino = import_openvino()
    proto = model(
        [helper.make_node("Sigmoid", ["x"], ["gate"]), helper.make_node("Mul", ["gate", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4001])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4001])],
        {},
    )
    graph = tuned(proto)
    assert "Sigmoid" not in kinds(graph)
    x = np.linspace(-10, 10, 4001, dtype=np.float32)
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(x)[0]
    wanted = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    inside = np.abs(x) <= 8
    assert (np.abs(found - wanted) / np.maximum(1, np.abs(x)))[inside].max() < 3.8e-4
    np.testing.assert_allclose(found[x > 8], x[x > 8], rtol=1e-6)
    np.testing.assert_allclose(found[x < -8], 0, atol=1e-5)
    assert np.isnan(compiled(np.full(4001, np.nan, np.float32))[0]).all()


def test_a_product_with_another_gate_is_not_taken_for_silu() -> None:
    proto = model(
        [helper.make_node("Sigmoid", ["x"], ["gate"]), helper.make_node("Mul", ["gate", "z"], ["y"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xz"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        {},
    )
    assert "Sigmoid" in kinds(tuned(proto))


@needs_bfloat16
def test_a_session_in_bfloat16_gives_the_planes_of_the_file_and_their_bits_if_asked() -> None:
    proto, x = network(), image(12, 16)
    data = proto.SerializeToString()
    wanted = right(proto, x)
    for _ in range(2):  # compiled, and from the cache
        with OpenVinoSession.open(data, precision="bfloat16") as session:
            (spec,) = session.outputs
            (planes,) = session.run({"x": x})
            (bits,) = session.run_as_computed({"x": x})
        assert (spec.name, spec.dtype, spec.shape) == ("y", "float32", (1, 5, 6, 8))
        assert planes.dtype == np.float32
        assert bits.dtype == BFLOAT16
        assert planes.shape == bits.shape == (1, 5, 6, 8)
        np.testing.assert_array_equal(to_float32(bits), planes)
        np.testing.assert_allclose(np.asarray(planes, np.float32), wanted, atol=0.08)


def test_a_session_in_float32_computes_the_graph_as_it_is() -> None:
    proto, x = network(), image(12, 16)
    with OpenVinoSession.open(proto.SerializeToString()) as session:
        (planes,) = session.run_as_computed({"x": x})
    assert planes.dtype == np.float32
    np.testing.assert_allclose(np.asarray(planes, np.float32), right(proto, x), atol=1e-5)
