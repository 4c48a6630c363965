from __future__ import annotations

import sys
from typing import Any

import pytest

from yoloship.cuda import device as _driver
from yoloship.cuda.device import Device, find_gpu, find_gpus, probe
from yoloship.errors import CudaError, DependencyError


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
