from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from helpers.cli import run
from helpers.networks import float_network, require_rtx


@pytest.fixture
def small(tmp_path: Path) -> Path:
    require_rtx()
    path = tmp_path / "small.onnx"
    path.write_bytes(float_network().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "8:4:1"], "--batch: bad range: expected 1 ≤ minimum ≤ optimum ≤ maximum ≤ 65536, got 8:4:1"),
        (["--batch", "1:4:8"], "images: batch is fixed in the graph: expected 1, got 1:4:8; export the graph with"),
        (["--imgsz", "64"], "images: height is fixed in the graph: expected 32, got 64; export the graph with"),
        (["--target", "9.0"], "--target: no such target: expected one of portable, current, sm75, sm80, sm86"),
        (["--target", "sm86", "--target", "8.6"], "--target: bad build option: expected each once, got sm86, sm86"),
        (["--optimization-level", "5"], "option optimization_level has no effect here"),
        (["--version-compatible"], "option version_compatible has no effect here"),
        (["--hardware-compatibility", "ampere_plus"], "option hardware_compatibility has no effect here"),
        (["--timing-cache", "t.bin"], "option timing_cache has no effect here"),
        (["--workspace", "1KB"], "--workspace: bad build option: expected 1048576 to 1099511627776, got 1024"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_and_leaves_nothing(small: Path, options: list[str], message: str) -> None:
    assert message in run("build", small, "--flavour", "rtx", *options).error
    assert [path.name for path in small.parent.iterdir()] == ["small.onnx"]


@pytest.mark.parametrize(
    "options",
    [
        ["--workspace", "much"],
        ["--imgsz", "big"],
        ["--input", "float"],
        ["--precision", "int8"],
        ["--calibrate", "images"],
        ["--labels", "labels"],
        ["--other-layers", "float16"],
        ["--conf", "0.5"],
    ],
)
def test_an_option_of_the_wrong_form_is_a_usage_error(small: Path, options: list[str]) -> None:
    assert run("build", small, *options).code == 2


def test_float64_weights_are_refused_by_name(tmp_path: Path) -> None:
    from helpers.networks import double_network

    require_rtx()
    path = tmp_path / "wide.onnx"
    path.write_bytes(double_network().SerializeToString())
    assert run("build", path).error == (
        f"{path}: holds float64 tensors, which TensorRT turns into float32 in silence: expected float32 or less, "
        "got weight64; export it in float32"
    )


def test_missing_weights_are_named_with_their_path(tmp_path: Path) -> None:
    require_rtx()
    path = tmp_path / "big.onnx"
    onnx.save(float_network(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    (tmp_path / "big.data").unlink()
    assert f"keeps its data in a file that is missing: got {tmp_path / 'big.data'}" in run("build", path).error


def test_an_onnx_file_can_be_inspected(small: Path) -> None:
    data = json.loads(run("inspect", small, "--json").out)
    assert (data["kind"], data["operators"]) == ("onnx", {"Conv": 1, "Relu": 1})
    assert data["stored elements by type"] == {"float32": 216}
    assert "Conv 1, Relu 1" in run("inspect", small).out


@pytest.mark.parametrize(
    "options", [["--output", "raw"], ["--input", "image"], ["--output", "raw", "--input", "float"]]
)
def test_an_onnx_file_keeps_its_own_forms(small: Path, options: list[str]) -> None:
    ran = run("build", small, *options)
    assert ran.code == 2
    assert "the input and output of an ONNX file are fixed" in " ".join(ran.err.split())


def test_a_name_of_an_onnx_file_is_refused_with_a_pointer_to_export(tmp_path: Path) -> None:
    ran = run("build", "best.pt", "-o", tmp_path / "x.onnx")
    assert ran.code == 2
    assert "build writes engines; 'yoloship export best.pt' writes ONNX files" in " ".join(ran.err.split())
