"""NVIDIA's plugin for ONNX Runtime, with a stand-in for both: what is asked of them, and what is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.runtime import RunOptions
from yoloship.runtime.onnxruntime import rtx_plugin
from yoloship.runtime.onnxruntime.rtx_plugin import PACKAGE, RtxPlugin, RtxPluginSession, registered

NAME = "NvTensorRTRTXExecutionProvider"


class Options:
    log_severity_level = 2
    graph_optimization_level = None

    def __init__(self) -> None:
        self.added: list[tuple[Any, dict[str, str]]] = []

    def add_provider_for_devices(self, devices: Any, options: dict[str, str]) -> None:
        self.added.append((devices, options))


class Runtime(ModuleType):
    """As much of ONNX Runtime as is asked for."""

    __version__ = "1.32.0"
    SessionOptions = Options
    GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL="none")

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.libraries: list[tuple[str, str]] = []
        self.devices = [SimpleNamespace(ep_name="CPUExecutionProvider"), SimpleNamespace(ep_name=NAME)]
        self.providers = [NAME, "CPUExecutionProvider"]
        self.opened: list[tuple[Any, Options]] = []
        self.problem: Exception | None = None

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.libraries.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return self.devices

    def InferenceSession(self, source: Any, options: Options) -> Any:
        if source == b"refused":
            raise RuntimeError("no kernel for this")
        self.opened.append((source, options))
        return SimpleNamespace(get_providers=lambda: self.providers)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    made = Runtime()
    plugin: Any = ModuleType(PACKAGE)
    plugin.__version__, plugin.get_ep_name, plugin.get_library_path = "0.5.0", lambda: NAME, lambda: "/lib/ep.so"
    monkeypatch.setattr(rtx_plugin, "import_onnxruntime", lambda: made)
    monkeypatch.setitem(sys.modules, PACKAGE, plugin)
    registered.cache_clear()
    yield made
    registered.cache_clear()


def gpu(major: int = 8, minor: int = 9) -> Any:
    class Gpu(SimpleNamespace):
        def __str__(self) -> str:
            return "cuda:0"

    return Gpu(compute_capability=(major, minor), name="NVIDIA RTX 4090", ordinal=0)


def opened(source: bytes = b"model", **options: str) -> Any:
    return RtxPluginSession.open_runtime(source, "best.onnx", gpu(), options, optimize=False)


def test_the_plugin_is_registered_once_and_gets_its_device_and_our_stream(runtime: Runtime) -> None:
    opened(user_compute_stream="4096", device_id="0")
    opened()
    assert runtime.libraries == [(NAME, "/lib/ep.so")]
    streams = [options.added for _, options in runtime.opened]
    assert streams[0] == [([runtime.devices[1]], {"has_user_compute_stream": "1", "user_compute_stream": "4096"})]
    assert streams[1] == [([runtime.devices[1]], {})]


def test_a_gpu_that_it_does_not_serve_is_refused_before_anything_is_loaded(runtime: Runtime) -> None:
    with pytest.raises(
        InputError, match=r"cuda:0: is not a GPU that TensorRT-RTX supports: expected 8\.6, 8\.9, or 12"
    ):
        RtxPlugin.open_on(gpu(9, 0), b"model", RunOptions())
    assert runtime.libraries == []


def test_a_library_that_does_not_load_is_said_with_the_reason(runtime: Runtime) -> None:
    runtime.problem = RuntimeError("libcudart.so.12: cannot open shared object file")
    with pytest.raises(DependencyError, match=r"0\.5\.0: cannot be registered .*libcudart\.so\.12: cannot open"):
        opened()


def test_no_device_or_several_are_errors(runtime: Runtime) -> None:
    runtime.devices = runtime.devices[:1]
    with pytest.raises(DependencyError, match=f"{NAME}: shows no device: expected NVIDIA RTX 4090"):
        opened()
    runtime.devices = [SimpleNamespace(ep_name=NAME)] * 2
    with pytest.raises(InputError, match=r"shows 2 GPUs and does not say which is cuda:0; set CUDA_VISIBLE_DEVICES"):
        opened()


def test_a_model_that_would_run_on_the_cpu_or_is_refused_is_an_error(runtime: Runtime) -> None:
    with pytest.raises(SessionError, match="the runtime refuses it: no kernel for this"):
        opened(b"refused")
    runtime.providers = ["CPUExecutionProvider"]
    with pytest.raises(DependencyError, match="would run the model on the CPU instead: got CPUExecutionProvider"):
        opened()


def test_an_old_runtime_or_a_missing_plugin_is_named(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, PACKAGE)
    with pytest.raises(DependencyError, match=rf"{PACKAGE}: is not installed; pip install 'yoloship\[rtx_plugin\]'"):
        registered()
    monkeypatch.setattr(rtx_plugin, "import_onnxruntime", lambda: SimpleNamespace(__version__="1.20.0"))
    with pytest.raises(DependencyError, match=r"onnxruntime 1\.20\.0: has no plugins: expected 1\.24 or later"):
        registered()
