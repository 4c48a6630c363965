"""What TensorRT takes in silence, or answers with a riddle, is refused with a clear line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from helpers.networks import float_network, half_network, operator_network, quantized_network, suppression_network
from yoloship.engine import BuildConfig, Flavour, Range, build_engine
from yoloship.errors import EngineError, InputError, YoloshipError

Save = Callable[[onnx.ModelProto], Path]

NO_MODEL = (
    "is not an ONNX model: expected a graph with inputs, layers and outputs, got 0 inputs, 0 layers, 0 outputs; "
    "give a file that 'yoloship export' or another exporter wrote"
)


def refusal(
    path: Path,
    config: BuildConfig | None = None,
    flavour: Flavour | None = None,
    error: type[YoloshipError] = EngineError,
) -> str:
    with pytest.raises(error) as caught:
        build_engine(path, config, flavour=flavour)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty (0 bytes); download or copy the file again"),
        (b"hello world\n", NO_MODEL),
        (b"<!DOCTYPE html><html><body>404</body></html>", NO_MODEL),
    ],
    ids=["zero bytes", "text", "HTML"],
)
def test_a_file_that_is_no_model_is_refused(flavour: Flavour, tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    assert refusal(path, flavour=flavour) == message


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_refused(flavour: Flavour, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(np.random.default_rng(seed).bytes(2000))
    assert refusal(path, flavour=flavour).startswith(("is not an ONNX model", "is not a valid ONNX file"))


def test_a_truncated_model_is_refused(flavour: Flavour, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(float_network().SerializeToString()[:500])
    assert refusal(path, flavour=flavour).startswith("is not a valid ONNX file: it is damaged or truncated: got ")


def test_a_missing_file_is_refused(flavour: Flavour, tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx", flavour=flavour, error=InputError) == "no such file"


def _parses_only_what_it_builds(flavour: Flavour) -> bool:
    """Since 1.6 the parser refuses NonZero."""
    return [int(part) for part in flavour.version.split(".")[:2]] >= [1, 6]


@pytest.mark.only_rtx
def test_an_unsupported_operator_is_named_with_its_node(flavour: Flavour, saved: Save) -> None:
    message = refusal(saved(operator_network("NonZero", name="find_them")), flavour=flavour)
    assert "find_them" in message or "inferred output type Int64" in message  # 1.4 fails later, and names no node
    if _parses_only_what_it_builds(flavour):
        assert message.startswith("TensorRT cannot take operator NonZero (node 0, find_them): UNSUPPORTED_NODE")


@pytest.mark.only_rtx
def test_an_operator_of_a_foreign_domain_is_named_with_its_node(flavour: Flavour, saved: Save) -> None:
    message = refusal(saved(operator_network("Magic", name="", domain="acme")), flavour=flavour)
    assert re.match(
        r"TensorRT cannot take operator Magic \(node 0, without a name\): (INVALID_NODE|INTERNAL_ERROR), ", message
    )  # the latter from 1.4 to 1.6


@pytest.mark.only_rtx
def test_the_suppression_that_parses_but_never_builds_is_refused_before_the_build(
    flavour: Flavour, saved: Save
) -> None:
    message = refusal(saved(suppression_network()), flavour=flavour)
    assert message.startswith("TensorRT-RTX cannot take operator NonMaxSuppression (layer suppress")
    assert message.endswith("; export it in the output form raw, heads or nms (--output), which need no such operator")


def test_missing_weights_are_named_with_their_path(flavour: Flavour, tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(float_network(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    (tmp_path / "big.data").unlink()
    assert refusal(path, flavour=flavour) == (
        f"keeps its weights in another file, which is missing: expected {tmp_path / 'big.data'}; "
        "put that file beside it"
    )


def test_weights_beside_the_model_are_found_whatever_the_working_directory(flavour: Flavour, tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(float_network(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    assert build_engine(path, flavour=flavour).plan


def test_a_dynamic_input_without_a_profile_names_the_option(flavour: Flavour, saved: Save) -> None:
    message = refusal(saved(float_network(batch="batch")), flavour=flavour, error=InputError)
    assert message == (
        "input images float32(batch, 3, 32, 32): axis 0 (batch) is dynamic and nothing says how large it may be; "
        "give --batch MIN:OPT:MAX"
    )


@pytest.mark.only_rtx
def test_quantizers_of_bytes_without_sign_are_refused(flavour: Flavour, saved: Save) -> None:
    assert refusal(saved(quantized_network(TensorProto.UINT8)), flavour=flavour) == (
        "quantizes to UINT8, which TensorRT reads as INT8: half of the range would be lost; "
        "quantize activations and weights to signed INT8, symmetric"
    )


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (
            quantized_network(TensorProto.FLOAT8E4M3FN),
            ("sm86", "sm89"),
            "holds float8_e4m3fn, which sm86 cannot compute: expected targets from sm89 on, got sm86, sm89; "
            "drop that target, or export another precision",
        ),
        (
            half_network(TensorProto.BFLOAT16),
            ("sm75",),
            "holds bfloat16, which sm75 cannot compute: expected targets from sm80 on, got sm75; "
            "drop that target, or export another precision",
        ),
    ],
)
@pytest.mark.only_rtx
def test_an_arithmetic_that_a_target_lacks_is_refused(
    flavour: Flavour, saved: Save, model: onnx.ModelProto, targets: Any, message: str
) -> None:
    assert refusal(saved(model), BuildConfig(targets=targets), flavour) == message


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (BuildConfig(optimization_level=3), "optimization_level"),
        (BuildConfig(hardware_compatibility="ampere_plus"), "hardware_compatibility"),
        (BuildConfig(version_compatible=True), "version_compatible"),
        (BuildConfig(timing_cache=Path("timings.bin")), "timing_cache"),
    ],
)
@pytest.mark.only_rtx
def test_an_option_without_effect_is_an_error_that_says_so(
    flavour: Flavour, saved: Save, config: BuildConfig, option: str
) -> None:
    message = refusal(saved(float_network()), config, flavour)
    assert message.startswith(f"{flavour.title}: option {option} has no effect here: ")
    assert message.endswith("; leave it out, or choose another flavour (--flavour)")


@pytest.mark.only_rtx
def test_an_engine_for_this_gpu_needs_one(flavour: Flavour, saved: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.engine.builder.find_gpu", lambda: None)
    assert refusal(saved(float_network()), BuildConfig(targets=("current",)), flavour) == (
        f"{flavour.title}: target current needs an NVIDIA GPU: got none; "
        "name the targets, such as sm89 (--target), or leave them out"
    )


def test_a_size_outside_the_profile_of_a_fixed_graph_is_refused(flavour: Flavour, saved: Save) -> None:
    config = BuildConfig(height=Range(64, 64, 64), width=Range(64, 64, 64))
    assert refusal(saved(float_network()), config, flavour, InputError).startswith(
        "images: height is fixed in the graph: expected 32, got 64"
    )


def test_a_constant_network_without_inputs_is_refused(flavour: Flavour, saved: Save) -> None:
    model = float_network()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 32, 32), np.float32), "images"))
    del model.graph.input[:]
    assert "is not an ONNX model: expected a graph with inputs" in refusal(saved(model), flavour=flavour)
