"""What runs a model: `yoloship.runtime.choose_runtime`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helpers.models import scale_and_shift
from yoloship.errors import DependencyError, InputError, YoloshipError
from yoloship.kinds import Kind
from yoloship.runtime import AUTO, RUNTIMES, RunOptions, Runtime, choose_runtime, open_session
from yoloship.runtime.openvino import OpenVino
from yoloship.runtime.session import DeviceKind, RuntimePrecision


@pytest.fixture(autouse=True)
def everything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Runtime, "is_installed", classmethod(lambda _: True))
    monkeypatch.setattr(OpenVino, "check", classmethod(lambda *_: None))


@pytest.mark.parametrize(
    ("asked", "kind", "device", "precision", "name"),
    [
        (None, "onnx", "cpu", None, "onnxruntime"),
        (None, "unknown", "cpu", "float32", "onnxruntime"),
        (None, "onnx", "cuda", None, "onnxruntime"),
        (None, "engine", "cuda", None, "tensorrt"),
        ("openvino", "onnx", "cpu", None, "openvino"),
        ("openvino", "onnx", "cpu", "bfloat16", "openvino"),
        (AUTO, "onnx", "cpu", None, "onnxruntime"),
        (AUTO, "onnx", "cpu", "float32", "onnxruntime"),
        (AUTO, "onnx", "cpu", "bfloat16", "openvino"),
        (AUTO, "onnx", "cuda", None, "onnxruntime"),
        (AUTO, "engine", "cuda", None, "tensorrt"),
    ],
)
def test_what_runs_it(
    asked: str | None, kind: Kind, device: DeviceKind, precision: RuntimePrecision | None, name: str
) -> None:
    chosen, reason = choose_runtime(asked, kind, device, precision)
    assert chosen is RUNTIMES.load(name)
    assert bool(reason) == (asked == AUTO)


def test_auto_says_why() -> None:
    assert choose_runtime(AUTO, "onnx", "cpu")[1] == "it is the first choice for float32 on a CPU"
    because = "ONNX Runtime cannot compute in bfloat16"
    assert choose_runtime(AUTO, "onnx", "cpu", "bfloat16")[1] == because


@pytest.mark.parametrize(
    ("asked", "kind", "device", "precision", "words"),
    [
        ("opnvino", "onnx", "cpu", None, "opnvino: is not a known runtime: expected .*did you mean 'openvino'"),
        (
            "onnxruntime",
            "engine",
            "cuda",
            None,
            "best: is a TensorRT engine, which ONNX Runtime does not run",
        ),
        (
            "tensorrt",
            "onnx",
            "cpu",
            None,
            "best: is a graph, which TensorRT does not run: .*yoloship build",
        ),
        ("openvino", "onnx", "cuda", None, "OpenVINO does not run on an NVIDIA GPU: expected onnxruntime"),
        (None, "onnx", "cpu", "bfloat16", "runtime_precision: ONNX Runtime cannot compute in bfloat16"),
        ("tensorrt", "engine", "cuda", "float32", "expected none: it was chosen when the engine was built"),
        (AUTO, "onnx", "cuda", "bfloat16", "ONNX Runtime cannot compute in bfloat16"),
        (AUTO, "engine", "cpu", None, "no runtime can run it"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    asked: str | None, kind: Kind, device: DeviceKind, precision: RuntimePrecision | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        choose_runtime(asked, kind, device, precision, model_name="best")


def test_auto_without_openvino_says_how_to_get_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: type[Runtime], precision: RuntimePrecision | None) -> None:
        raise DependencyError("OpenVINO is not installed", hint="pip install 'yoloship[openvino]'")

    monkeypatch.setattr(OpenVino, "check", classmethod(missing))
    with pytest.raises(DependencyError, match=r"pip install 'yoloship\[openvino\]'"):
        choose_runtime(AUTO, "onnx", "cpu", "bfloat16")


def test_the_choice_is_in_the_log_and_on_the_session(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="yoloship")
    data = scale_and_shift().SerializeToString()
    with open_session(data) as session:
        assert session.reason == ""
    with open_session(data, RunOptions(), runtime=AUTO) as session:
        assert session.reason == "it is the first choice for float32 on a CPU"
    first, second = caplog.messages
    assert first == f"runs on {session.name}"
    assert second == f"runs on {session.name}: it is the first choice for float32 on a CPU"


def test_nothing_is_opened_that_was_refused() -> None:
    with pytest.raises(YoloshipError, match="is not a known runtime"):
        open_session(Path("there-is-no-such-file.onnx"), runtime="torch")
