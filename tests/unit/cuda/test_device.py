"""Without a GPU: the errors of a machine that has none, and the rest on a stand-in for the driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.cuda_emulator import stand_in_driver
from yoloship.cuda import driver as _driver
from yoloship.cuda.device import Device, parse_device
from yoloship.cuda.driver import find_gpu, find_gpus, probe
from yoloship.cuda.interop import ForeignFrame
from yoloship.cuda.stream import stream_address
from yoloship.errors import CudaError, DependencyError, InputError

ROOT = Path(__file__).resolve().parents[3]

bindings = pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")


class FakeBindings:
    """Answers every call in one way."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> Any:
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

        return call


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(_driver, "driver", lambda: FakeBindings(answer))


class FakeLibrary:
    """The driver's library, which answers each function with a status; it has no others."""

    def __init__(self, **statuses: int) -> None:
        self.__dict__.update({name: lambda *_, status=status: status for name, status in statuses.items()})


def showing(monkeypatch: pytest.MonkeyPatch, library: FakeLibrary | None) -> None:
    def load(name: str) -> FakeLibrary:
        if library is None:
            raise OSError(f"{name}: cannot open shared object file")
        return library

    _driver.driver()  # the bindings load libraries of their own when they are imported
    monkeypatch.setattr("ctypes.CDLL", load)


class Status(int):
    name = "CUDA_ERROR_UNKNOWN"


def status(code: int, name: str) -> Status:
    made = Status(code)
    made.name = name
    return made


def test_without_a_driver_the_probe_says_so_and_opening_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    showing(monkeypatch, None)
    found = probe()
    assert found.gpus == find_gpus() == ()
    assert find_gpu() is None
    message = (
        "CUDA: no NVIDIA driver (cudaErrorInsufficientDriver, code 35); install NVIDIA's driver, or use device='cpu'"
    )
    assert str(found.problem) == message
    with pytest.raises(CudaError) as caught:
        Device.open()
    assert str(caught.value) == message
    assert (caught.value.code, caught.value.name) == (35, "cudaErrorInsufficientDriver")


def test_bindings_without_a_driver_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, RuntimeError('"cuda" is an NVIDIA driver library and can only be found via system search.'))
    with pytest.raises(CudaError, match=r"CUDA: no NVIDIA driver \(cudaErrorInsufficientDriver, code 35\)"):
        _driver.call("cuInit", 0)


def test_a_driver_without_a_function_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, RuntimeError('Function "cuInit" not found'))
    with pytest.raises(
        CudaError, match="cuInit: the driver, or cuda-bindings, is too old: it lacks this function"
    ) as caught:
        _driver.call("cuInit", 0)
    assert caught.value.code == 35


def test_a_failure_has_the_drivers_code_and_name_and_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, (status(700, "CUDA_ERROR_ILLEGAL_ADDRESS"),))
    with pytest.raises(CudaError) as caught:
        _driver.call("cuStreamSynchronize", 0, subject="stream")
    assert str(caught.value) == (
        "stream: illegal address (CUDA_ERROR_ILLEGAL_ADDRESS, code 700, in cuStreamSynchronize); "
        "the device's context is lost with everything in it: restart the process"
    )
    assert (caught.value.code, caught.value.name) == (700, "CUDA_ERROR_ILLEGAL_ADDRESS")


def test_a_driver_that_sees_no_gpu_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    showing(monkeypatch, FakeLibrary(cuDriverGetVersion=0, cuInit=0, cuDeviceGetCount=0))
    problem = probe().problem
    assert isinstance(problem, CudaError)
    assert (problem.code, problem.name) == (100, "CUDA_ERROR_NO_DEVICE")
    assert "CUDA_VISIBLE_DEVICES" in str(problem)


def test_a_driver_that_fails_or_is_too_old_is_a_problem_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    showing(monkeypatch, FakeLibrary(cuDriverGetVersion=0, cuInit=999))
    problem = probe().problem
    assert problem is not None
    assert (problem.code, problem.name, problem.subject) == (999, "CUDA_ERROR_999", "cuInit")
    showing(monkeypatch, FakeLibrary(cuInit=0))
    problem = probe().problem
    assert problem is not None
    assert (problem.code, problem.subject) == (35, "cuDriverGetVersion")


def test_without_the_bindings_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(DependencyError, match=r"cuda-bindings: is not installed; pip install 'yoloship\[cuda\]'"):
        _driver.driver()
    with pytest.raises(DependencyError, match="cuda-bindings: is not installed"):
        Device.open()


@pytest.mark.parametrize(("text", "ordinal"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_a_device_is_named_by_its_number(text: str, ordinal: int) -> None:
    assert parse_device(text) == ordinal


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:٣", "cuda:99999", "CUDA"])
def test_other_names_are_no_device(text: str) -> None:
    with pytest.raises(InputError, match="expected cuda or cuda:N"):
        parse_device(text)


def test_streams_of_several_libraries_have_an_address() -> None:
    assert stream_address(SimpleNamespace(__cuda_stream__=lambda: (0, 77))) == 77
    assert stream_address(SimpleNamespace(__cuda_stream__=(0, 78))) == 78
    assert stream_address(SimpleNamespace(cuda_stream=5)) == 5
    assert stream_address(SimpleNamespace(ptr=6)) == 6
    assert stream_address(0) == 0
    for wrong in (SimpleNamespace(__cuda_stream__=lambda: (1, 77)), -1, True, None, "0"):
        with pytest.raises(InputError, match="stream"):
            stream_address(wrong)


class Exported:
    """NumPy memory that claims to lie on a device, so that the protocols can be read without one."""

    def __init__(self, array: np.ndarray[Any, Any], *, kind: int = 2, ordinal: int = 0) -> None:
        self.array, self.where = array, (kind, ordinal)
        self.asked: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.where

    def __dlpack__(self, *, stream: int) -> object:
        self.asked.append(stream)
        return self.array.__dlpack__()


OUR_STREAM: Any = SimpleNamespace(address=99, device=SimpleNamespace(ordinal=0, __str__=lambda: "cuda:0"))


def test_a_dlpack_frame_is_read_where_it_lies_on_our_stream() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    for view in (image, image[4:19, 2:20]):
        exported = Exported(view)
        with ForeignFrame(exported, OUR_STREAM) as frame:
            assert (frame.pointer, frame.image_hw, frame.pitch_bytes) == (view.ctypes.data, view.shape[:2], 90)
        assert exported.asked == [99]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 3), np.int8), r"expected uint8 \(u1\), got i1"),
        (np.zeros((4, 4, 3), np.float32), "got f4"),
        (np.zeros((4, 4), np.uint8), r"got \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\)"),
        (np.zeros((4, 8, 3), np.uint8)[:, ::2], "make it contiguous"),
        (np.zeros((4, 4, 3), np.uint8)[::-1], "make it contiguous"),
        (np.zeros((3, 4, 4), np.uint8).transpose(1, 2, 0), "make it contiguous"),
    ],
)
def test_a_dlpack_array_that_is_no_frame_is_refused(array: np.ndarray[Any, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ForeignFrame(Exported(array), OUR_STREAM)


def test_memory_elsewhere_is_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InputError, match="got DLPack device type 1"):
        ForeignFrame(image, OUR_STREAM)
    with pytest.raises(InputError, match="got cuda:3"):
        ForeignFrame(Exported(image, ordinal=3), OUR_STREAM)
    with pytest.raises(InputError, match="expected __dlpack__ or __cuda_array_interface__, got list"):
        ForeignFrame([1], OUR_STREAM)


def test_the_gpu_tests_and_the_benchmark_pass_on_a_stand_in_for_the_driver(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Everything of tests/gpu but the kernels, which test_kernels_emulated.py runs, and what needs torch or CuPy."""
    library = stand_in_driver()
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.fspath(library.parent),
        "YOLOSHIP_CACHE": os.fspath(tmp_path_factory.mktemp("cache")),
        "PYTHONPATH": os.fspath(ROOT / "src"),
    }
    tests = ["tests/gpu/test_device.py", "tests/gpu/test_graph.py"]
    bench = ["bench/gpu_kernels.py", "--smoke"]
    for command in (["-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *tests], bench):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "end_to_end" in done.stdout
