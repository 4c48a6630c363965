"""Without a GPU: what is said where ONNX Runtime has no CUDA, and what its failures mean."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.models import scale_and_shift
from yoloship.errors import CudaError, DependencyError, InputError, SessionError
from yoloship.runtime.onnxruntime.cuda import (
    PROVIDER,
    CudaProviderOptions,
    OnnxRuntimeCudaSession,
    _BoundRun,
    device_fault,
)

MODEL = scale_and_shift().SerializeToString()


class FakeDevice:
    """Enough of a device to be asked for by messages."""

    ordinal, driver_version = 0, (13, 0)

    def current(self) -> Any:
        return nullcontext()

    def memory(self) -> tuple[int, int]:
        return 1 << 20, 1 << 30

    def __str__(self) -> str:
        return "cuda:0"


DEVICE: Any = FakeDevice()


class FakeRuntime:
    """ONNX Runtime with a CUDA provider that may not load."""

    __version__ = "9.9.9"
    cuda_version = "13.0"
    GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL=0)

    def __init__(self, loads_after: int | None, error: Exception | None = None) -> None:
        self.loads_after, self.error = loads_after, error
        self.preloads = 0
        self.asked: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return [PROVIDER, "CPUExecutionProvider"]

    def set_default_logger_severity(self, severity: int) -> None:
        self.severity = severity

    def SessionOptions(self) -> Any:
        return SimpleNamespace()

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")  # noqa: T201 - what the real one does
        self.preloads += 1

    def InferenceSession(self, *_: Any, providers: list[Any], enable_fallback: int) -> Any:
        assert enable_fallback == 0
        self.asked.append(providers)
        if self.error is not None:
            raise self.error
        there = self.loads_after is not None and self.preloads >= self.loads_after
        return SimpleNamespace(
            get_providers=lambda: [PROVIDER] * there + ["CPUExecutionProvider"],
            get_inputs=list,
            get_outputs=list,
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={"a": "b"}),
        )


def use(monkeypatch: pytest.MonkeyPatch, runtime: Any) -> Any:
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr("yoloship.runtime.onnxruntime.cuda.failures", lambda: (KeyError,))
    return runtime


def test_the_build_without_cuda_is_named_with_the_command_that_replaces_it() -> None:
    import onnxruntime

    if PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DependencyError) as caught:
        OnnxRuntimeCudaSession.open(MODEL, DEVICE)
    assert str(caught.value) == (
        f"onnxruntime {onnxruntime.__version__}: is the build without CUDA: expected onnxruntime-gpu; "
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu; both install the same files"
    )


def test_a_missing_onnx_runtime_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match="onnxruntime: is not installed: expected onnxruntime-gpu"):
        OnnxRuntimeCudaSession.open(MODEL, DEVICE)


def test_a_silent_fall_to_the_cpu_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = use(monkeypatch, FakeRuntime(loads_after=None))
    monkeypatch.setattr("yoloship.runtime.onnxruntime.cuda._loads", lambda name: "cublas" not in name)
    with pytest.raises(DependencyError) as caught:
        OnnxRuntimeCudaSession.open(MODEL, DEVICE)
    assert "cannot load its CUDA provider, and would run on the CPU instead" in str(caught.value)
    assert "expected the libraries of CUDA 13.0 and cuDNN 9, got no libcublas.so.13, no libcublasLt.so.13" in str(
        caught.value
    )
    assert (runtime.preloads, runtime.severity) == (1, 2)
    assert capsys.readouterr().out == ""


def test_libraries_that_pip_installed_are_loaded_when_the_provider_misses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = use(monkeypatch, FakeRuntime(loads_after=1))
    with OnnxRuntimeCudaSession.open(MODEL, DEVICE) as session:
        assert session.name == "onnxruntime 9.9.9 (cuda:0)"
        assert dict(session.metadata) == {"a": "b"}
    name, options = runtime.asked[-1][0]
    assert name == PROVIDER
    assert (options["device_id"], options["use_tf32"], options["cudnn_conv_algo_search"]) == ("0", "0", "HEURISTIC")
    assert "user_compute_stream" not in options


def test_a_refusal_of_the_runtime_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeRuntime(0, RuntimeError("unknown provider\n option")))
    with pytest.raises(SessionError, match="ONNX model in memory: the runtime refuses it: unknown provider option"):
        OnnxRuntimeCudaSession.open(MODEL, DEVICE)


def test_options_become_the_providers_own() -> None:
    options = CudaProviderOptions("heuristic", "nhwc", tf32=True, memory_limit_bytes=1 << 30)
    stream: Any = SimpleNamespace(address=77)
    assert options.for_runtime(DEVICE, stream) == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "1",
        "use_tf32": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "user_compute_stream": "77",
        "gpu_mem_limit": "1073741824",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"convolution_search": "best"}, "convolution_search: no such choice: expected exhaustive or heuristic or"),
        ({"layout": "chw"}, "layout: no such choice"),
        ({"memory_limit_bytes": 0}, "memory_limit_bytes: out of range: expected 1 or more, got 0"),
    ],
)
def test_other_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CudaProviderOptions(**options)


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        (
            "Failed to allocate memory for requested buffer of size 1073741824",
            r"asked for 1.0 GiB \(1073741824 bytes\), 1.0 MiB \(1048576 bytes\) free of 1.0 GiB",
            2,
        ),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc", "asked for an amount", 2),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; expr=x", "restart the process", 700),
        ("CUDA error 719: unspecified launch failure", "restart the process", 719),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", "a CUDA library failed", None),
    ],
)
def test_failures_of_the_device_are_told_from_those_of_the_runtime(text: str, words: str, code: int | None) -> None:
    fault = device_fault(text, DEVICE, "m.onnx")
    assert isinstance(fault, CudaError)
    assert fault.code == code
    with pytest.raises(CudaError, match=words):
        raise fault


def test_other_failures_are_not_the_devices() -> None:
    assert device_fault("Got invalid dimensions for input: images", DEVICE, "m.onnx") is None


def test_an_error_of_the_provider_without_a_class_of_its_own_is_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on an H100 when a graph with nodes on the CPU is recorded; recording is then given up."""

    class Session:
        def io_binding(self) -> object:
            return object()

        def run_with_iobinding(self, *_: object) -> None:
            raise RuntimeError(
                "CUDA failure 907: operation not permitted on an event last recorded in a capturing stream"
            )

    class RunOptions:
        log_severity_level = 0

        def add_run_config_entry(self, *_: str) -> None:
            pass

    monkeypatch.setattr(
        "yoloship.runtime.onnxruntime.cuda.import_onnxruntime", lambda: type("o", (), {"RunOptions": RunOptions})
    )
    stream: Any = type("stream", (), {"device": DEVICE})()
    run = _BoundRun(Session(), "m.onnx", stream)
    with pytest.raises(CudaError, match="operation not permitted on an event") as caught:
        run.queue()
    assert caught.value.code == 907


def test_a_runtime_that_keeps_no_arena_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[bool] = []

    class RunOptions:
        log_severity_level = 0
        shrinks = False

        def add_run_config_entry(self, name: str, _: str) -> None:
            self.shrinks |= "shrinkage" in name

    class Session:
        reason = "Did not find an arena based allocator registered for device-id combination: gpu:0"

        def io_binding(self) -> object:
            return object()

        def run_with_iobinding(self, _: object, options: RunOptions) -> None:
            if options.shrinks:
                raise RuntimeError(self.reason)
            ran.append(True)

    monkeypatch.setattr(
        "yoloship.runtime.onnxruntime.cuda.import_onnxruntime", lambda: type("o", (), {"RunOptions": RunOptions})
    )
    stream: Any = type("stream", (), {"device": DEVICE, "sync": lambda _: None})()
    _BoundRun(Session(), "m.onnx", stream).settle()
    assert ran == [True]
    monkeypatch.setattr(Session, "reason", "the network failed")
    with pytest.raises(SessionError, match="the network failed"):
        _BoundRun(Session(), "m.onnx", stream).settle()
    assert ran == [True]


def test_only_the_run_that_chooses_algorithms_gives_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shrunk: list[str | None] = []

    class RunOptions:
        log_severity_level = 0

        def __init__(self) -> None:
            self.entries: dict[str, str] = {}

        def add_run_config_entry(self, name: str, value: str) -> None:
            self.entries[name] = value

    class Session:
        def io_binding(self) -> object:
            return object()

        def run_with_iobinding(self, _: object, options: RunOptions) -> None:
            shrunk.append(options.entries.get("memory.enable_memory_arena_shrinkage"))

    monkeypatch.setattr(
        "yoloship.runtime.onnxruntime.cuda.import_onnxruntime", lambda: type("o", (), {"RunOptions": RunOptions})
    )
    waits: list[int] = []
    stream: Any = type("stream", (), {"device": DEVICE, "sync": lambda _: waits.append(len(shrunk))})()
    run = _BoundRun(Session(), "m.onnx", stream)
    run.settle()
    run.queue()
    assert (shrunk, waits) == (["gpu:0", None], [1])
