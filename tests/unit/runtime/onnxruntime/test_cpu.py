from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.models import model, scale_and_shift
from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

if TYPE_CHECKING:
    from pathlib import Path


def refusal(path: Path | bytes, error: type[YoloshipError] = SessionError) -> str:
    with pytest.raises(error) as caught:
        OnnxRuntimeSession.open(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "onnxruntime_src" not in text
    assert "ONNXRuntimeError" not in text
    return text


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "best.onnx", b"")
    assert refusal(path) == f"{path}: is empty (0 bytes); download or copy the file again"
    assert "ONNX model in memory: is empty (0 bytes)" in refusal(b"")


def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    assert "is a web page, not an ONNX model" in refusal(
        written(tmp_path / "a.onnx", b"<!DOCTYPE html>\n<title>404</title>")
    )
    assert "is a text file, not an ONNX model" in refusal(b"weights\n")


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    assert "git lfs pull" in refusal(written(tmp_path / "a.onnx", pointer))


def test_a_file_cut_short_anywhere_is_refused() -> None:
    data = scale_and_shift().SerializeToString()
    for end in range(1, len(data) - 1, 7):
        refusal(data[:end])
    assert "damaged or truncated" in refusal(data[: len(data) // 2])


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx", InputError) == f"{tmp_path / 'none.onnx'}: no such file"
    assert "is a folder, not a model" in refusal(tmp_path, InputError)
    assert "not a valid file name" in refusal(tmp_path / "a\0b", InputError)


def test_an_opset_of_the_future_is_explained() -> None:
    assert "was made for a newer runtime" in refusal(scale_and_shift(opset=99).SerializeToString())


def test_an_ir_version_of_the_future_is_explained() -> None:
    proto = scale_and_shift()
    proto.ir_version = 99
    assert "was made for a newer runtime" in refusal(proto.SerializeToString())


def test_an_operator_that_the_runtime_lacks_is_named() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    proto = model([helper.make_node("Frobnicate", ["x"], ["y"])], [value], [other], {})
    assert "Frobnicate" in refusal(proto.SerializeToString())


def test_weights_beside_the_file_are_found_and_missed(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1000])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1000])
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [value], [other], {"w": np.ones(1000, np.float32)})
    path = tmp_path / "big.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="big.bin", size_threshold=0)
    with OnnxRuntimeSession.open(path) as session:
        np.testing.assert_array_equal(session.run({"x": np.zeros(1000, np.float32)})[0], np.ones(1000))
    (tmp_path / "big.bin").write_bytes(b"short")
    assert "missing or too short" in refusal(path)
    (tmp_path / "big.bin").unlink()
    assert "expected big.bin" in refusal(path)


def test_a_failure_while_running_is_ours_and_says_where() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 4])
    proto = model([helper.make_node("Reshape", ["x", "to"], ["y"])], [value], [other], {"to": np.array([-1, 4])})
    with OnnxRuntimeSession.open(proto.SerializeToString()) as session:
        assert session.run({"x": np.zeros(8, np.float32)})[0].shape == (2, 4)
        with pytest.raises(SessionError, match=r"the runtime failed: .*Reshape"):
            session.run({"x": np.zeros(7, np.float32)})


def test_an_axis_without_a_name_is_dynamic() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [value], [other], {})
    with OnnxRuntimeSession.open(proto.SerializeToString()) as session:
        assert session.inputs[0].shape == ("x.0", 3)


def test_axes_of_one_name_must_be_equal() -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "ab"]
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    proto = model([helper.make_node("Add", ["a", "b"], ["y"])], inputs, [other], {})
    with (
        OnnxRuntimeSession.open(proto.SerializeToString()) as session,
        pytest.raises(InputError, match="b: axis 'n' differs from the same axis elsewhere: expected 2, got 3"),
    ):
        session.run({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})


def test_an_input_that_is_no_tensor_of_numbers_is_refused() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.STRING, [1])
    other = helper.make_tensor_value_info("y", TensorProto.STRING, [1])
    proto = model([helper.make_node("Identity", ["x"], ["y"])], [value], [other], {})
    assert "a type that no array has" in refusal(proto.SerializeToString())


def test_no_threads_are_refused() -> None:
    with pytest.raises(InputError, match="intra_op_threads: too few threads: expected 1 or more, got 0"):
        OnnxRuntimeSession.open(b"", intra_op_threads=0)


def test_the_bytes_of_a_model_are_not_held_by_its_session() -> None:
    data = scale_and_shift().SerializeToString()
    before = sys.getrefcount(data)
    with OnnxRuntimeSession.open(data) as session:
        assert sys.getrefcount(data) == before
        assert session.inputs
