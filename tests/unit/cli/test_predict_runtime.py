"""`yoloship detect --runtime` and `--runtime-precision`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.models import finds_a_cat
from yoloship.cli import options
from yoloship.detect.pipeline import Decoding
from yoloship.images import DecodeChoice
from yoloship.runtime.openvino import OpenVino
from yoloship.runtime.session import RuntimePrecision

HW = (64, 96)
needs_openvino = pytest.mark.skipif(not OpenVino.is_installed(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    Path("cat.onnx").write_bytes(finds_a_cat(HW).SerializeToString())
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.full((*HW, 3), 90, np.uint8))
    return tmp_path


def test_the_help_offers_the_precisions_that_there_are() -> None:
    assert get_args(RuntimePrecision) == options.RUNTIME_PRECISIONS


def test_decode_offers_the_choices_that_there_are_and_the_gpu_needs_a_model_on_one() -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--decode", "gpu")
    expected = "error: --decode: needs the model on a GPU: expected device='cuda', got device='cpu'\n"
    assert (ran.code, ran.err) == (1, expected)
    for choice in get_args(DecodeChoice):
        assert f"'{choice}'" in run("detect", "cat.onnx", "a.png", "--decode", "none").err
    assert run("detect", "cat.onnx", "a.png", "--no-draw", "--decode", "cpu").code == 0


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (Decoding("gpu", "nvJPEG 13.3.2"), "decode: JPEG on cuda:0 (nvJPEG 13.3.2)"),
        (Decoding("cpu", "nvJPEG: is not installed"), "decode: cpu (nvJPEG: is not installed)"),
    ],
)
def test_a_run_on_a_gpu_says_who_decodes(decoding: Decoding, expected: str) -> None:
    said = "NVDEC on cuda:0 (PyAV 19.0.2; damage inside a frame is not noticed)"
    detector: Any = SimpleNamespace(device="cuda:0", decoding=decoding, video_decoding=said)
    assert options.decoders(detector, videos=False) == expected
    assert options.decoders(detector, videos=True) == f"decode: {said}"


@needs_openvino
def test_openvino_gives_what_the_default_gives() -> None:
    plain = run("detect", "cat.onnx", "a.png", "--no-draw")
    other = run("detect", "cat.onnx", "a.png", "--no-draw", "--runtime", "openvino")
    assert (other.code, other.out, other.err) == (0, plain.out, "")
    assert "cat" in plain.out


@needs_openvino
def test_openvino_takes_many_images_at_once() -> None:
    plain = run("detect", "cat.onnx", "a.png", "b.png", "--no-draw")
    other = run("detect", "cat.onnx", "a.png", "b.png", "--no-draw", "--runtime", "openvino")
    assert (other.code, other.out) == (0, plain.out)


def test_auto_says_in_one_line_on_stderr_what_it_took_and_why() -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--runtime", "auto")
    assert ran.code == 0
    (line,) = ran.err.splitlines()
    assert line.startswith("runtime: onnxruntime ")
    assert line.endswith(": it is the first choice for float32 on a CPU")
    assert run("detect", "cat.onnx", "a.png", "--no-draw", "--runtime", "auto", "--quiet").err == ""


def test_without_auto_nothing_is_said() -> None:
    assert run("detect", "cat.onnx", "a.png", "--no-draw").err == ""


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            ("--runtime", "openvin"),
            "openvin: is not a known runtime: expected onnxruntime, openvino, tensorrt, rtx-plugin; "
            "did you mean 'openvino'?",
        ),
        (
            ("--runtime-precision", "bfloat16"),
            "--runtime-precision: ONNX Runtime cannot compute in bfloat16: expected float32; name another "
            "runtime: 'openvino' computes in bfloat16",
        ),
        (
            ("--runtime", "tensorrt"),
            "cat.onnx: is a graph, which TensorRT does not run: expected runtime onnxruntime or openvino; build an "
            "engine from it with 'yoloship build'",
        ),
        (
            ("--runtime", "openvino", "--device", "cuda"),
            "--runtime: OpenVINO does not run on an NVIDIA GPU: expected onnxruntime or rtx-plugin",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line(asked: tuple[str, ...], line: str) -> None:
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", *asked)
    assert ran.code == 1
    assert ran.err == f"error: {line}\n"


def test_without_openvino_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "is_installed", classmethod(lambda _: False))
    ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--runtime", "openvino")
    assert ran.err == "error: --runtime: OpenVINO is not installed; pip install 'yoloship[openvino]'\n"


@needs_openvino
def test_a_processor_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.runtime.openvino._processor_flags", lambda: "avx2")
    for runtime in ("openvino", "auto"):
        ran = run("detect", "cat.onnx", "a.png", "--no-draw", "--runtime", runtime, "--runtime-precision", "bfloat16")
        assert ran.code == 1
        assert ran.err.startswith(
            "error: --runtime-precision: this processor has no bfloat16 arithmetic (AMX or AVX-512 BF16)"
        )
