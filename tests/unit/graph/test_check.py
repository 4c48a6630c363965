from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.networks import double_network, float_network, network, quantized_network
from yoloship.errors import GraphError, InputError
from yoloship.graph.check import read_onnx, refuse_for_tensorrt
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec

INFO = ModelInfo("detect", "yolov5", ("a",), (8, 16, 32), (), "float", "raw", (32, 32), 1)
NO_MODEL = ("is not a valid ONNX file", "is not an ONNX model")
"""Bytes may be no Protobuf message, or one without what a model has."""


def saved(folder: Path, model: onnx.ModelProto | bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def refusal(folder: Path, model: onnx.ModelProto | bytes) -> str:
    path = saved(folder, model)
    with pytest.raises(GraphError) as caught:
        refuse_for_tensorrt(read_onnx(path))
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_model_is_described(tmp_path: Path) -> None:
    model = float_network(batch="batch")
    model.metadata_props.add(key=METADATA_KEY, value=INFO.to_json())
    facts = read_onnx(saved(tmp_path, model))
    assert facts.inputs == (TensorSpec("images", "float32", ("batch", 3, 32, 32)),)
    assert dict(facts.operators) == {"Conv": 1, "Relu": 1}
    assert dict(facts.parameters) == {"float32": 8 * 3 * 3 * 3}
    assert (facts.opset, facts.info, facts.external_files) == (21, INFO, ())
    refuse_for_tensorrt(facts)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello world\n", "is a text file, not an ONNX model"),
        (b"\n <!DOCTYPE html><html></html>", "is a web page, not an ONNX model; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file it points to; run 'git"),
        (b"PK\x03\x04rest", "is a checkpoint, not an ONNX model; write an ONNX model from it with 'yoloship export'"),
        (b"vtrt" + bytes(50), "is a TensorRT engine, not an ONNX model; give the .pt or the .onnx"),
    ],
)
def test_bytes_that_are_something_else_are_called_by_their_name(tmp_path: Path, data: bytes, said: str) -> None:
    assert refusal(tmp_path, data).startswith(said)


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_refused(tmp_path: Path, seed: int) -> None:
    assert refusal(tmp_path, np.random.default_rng(seed).bytes(2000)).startswith(NO_MODEL)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_refused(tmp_path: Path, kept: float) -> None:
    data = float_network().SerializeToString()
    assert refusal(tmp_path, data[: int(len(data) * kept)]).startswith(NO_MODEL)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        read_onnx(tmp_path / "none.onnx")


def test_float64_weights_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, double_network()) == (
        "holds float64 tensors, which TensorRT turns into float32 in silence: expected float32 or less, got weight64; "
        "export it in float32"
    )


def test_a_float64_input_is_named(tmp_path: Path) -> None:
    model = network([helper.make_node("Relu", ["images"], ["output0"])], input_type=TensorProto.DOUBLE)
    assert "got images; export it in float32" in refusal(tmp_path, model)


def test_uint8_quantizers_are_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, quantized_network(TensorProto.UINT8))
    assert message.startswith("quantizes to uint8, which TensorRT reads as int8")
    assert "got quantize_images, back_images, quantize_weight and 1 more" in message


def test_a_quantizer_without_a_zero_point_is_a_uint8_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["output0"], name="back"),
    ]
    model = network(nodes, [helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])])
    assert "got quantize; quantize activations" in refusal(tmp_path, model)


@pytest.mark.parametrize("element_type", [TensorProto.INT8, TensorProto.FLOAT8E4M3FN])
def test_signed_quantizers_pass(tmp_path: Path, element_type: int) -> None:
    refuse_for_tensorrt(read_onnx(saved(tmp_path, quantized_network(element_type))))


def external(folder: Path, **entries: str) -> str:
    model = float_network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path = saved(folder, model)
    with pytest.raises(GraphError) as caught:
        read_onnx(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_missing_weights_are_named_with_their_path(tmp_path: Path) -> None:
    assert external(tmp_path, location="w.data") == (
        f"weight weight: keeps its data in a file that is missing: got {tmp_path / 'w.data'}; put it beside the model"
    )


def test_truncated_weights_are_named_with_what_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "w.data"
    file.write_bytes(bytes(100))
    assert external(tmp_path, location="w.data", offset="64", length="864") == (
        f"weight weight: its data file is truncated: expected {file} of at least 928 bytes, got 100 bytes"
    )


@pytest.mark.parametrize("location", ["../w.data", "/etc/passwd", "a/../../w", "", "C:\\w", "\\\\host\\w"])
def test_weights_outside_the_models_folder_are_never_read(tmp_path: Path, location: str) -> None:
    assert external(tmp_path, location=location).startswith("weight weight: keeps its data outside the model's folder")


def test_weights_beside_the_model_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(float_network(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    assert read_onnx(path).external_files == (tmp_path / "w.data",)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    model = float_network()
    model.metadata_props.add(key=METADATA_KEY, value="{")
    assert refusal(tmp_path, model).startswith("model record is not JSON")


def test_operators_inside_branches_are_counted(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    nodes = [helper.make_node("If", ["flag"], ["output0"], then_branch=branch, else_branch=branch)]
    model = network(nodes, [numpy_helper.from_array(np.array(True), "flag")])
    assert dict(read_onnx(saved(tmp_path, model)).operators) == {"If": 1, "Relu": 2}


def test_weights_behind_a_link_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.data").symlink_to("../secret")
    assert external(folder, location="w.data").startswith(
        "weight weight: keeps its data outside the model's folder, behind a link"
    )


def test_a_model_that_is_a_link_itself_has_its_weights_beside_what_it_links_to(tmp_path: Path) -> None:
    """The way the caches of model hubs lay files out: both are links into a folder of blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    onnx.save(float_network(), blobs / "best.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    for name in ("best.onnx", "w.data"):
        (snapshot / name).symlink_to(blobs / name)
    assert read_onnx(snapshot / "best.onnx").external_files == (snapshot / "w.data",)


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_weights_in_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.data")
    assert "is a pipe, not the data of an ONNX model" in external(tmp_path, location="w.data")
