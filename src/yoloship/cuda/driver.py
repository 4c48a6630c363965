"""The CUDA driver: which GPUs it shows, its calls, and its errors in words.

`probe` asks the driver's library through ctypes, so neither CUDA's packages nor TensorRT need be installed. TensorRT
without a driver answers with null objects, and touching one of those ends the process (measured with
``tensorrt_lean``); the library says in microseconds, and safely, whether there is a GPU. Everything else goes through
`cuda.bindings`, by `call`.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import CudaError, DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_DRIVER_CODE: Final = 35
"""cudaErrorInsufficientDriver: what the CUDA runtime says if there is no driver, or if it is too old."""

OUT_OF_MEMORY: Final = 2
"""CUDA_ERROR_OUT_OF_MEMORY"""

_COMPUTE_CAPABILITY_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
_COMPUTE_CAPABILITY_MINOR: Final = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, cuda.h
_INSTALL_DRIVER: Final = "install NVIDIA's driver, or use device='cpu'"
_LOST: Final = "the device's context is lost with everything in it: restart the process"
_HINTS: Final = MappingProxyType(
    {
        2: "use a smaller batch or input size, or free memory on the device",
        3: "CUDA cannot be used in a process forked after its first use: start processes with 'spawn'",
        34: _INSTALL_DRIVER,
        100: "no NVIDIA GPU is visible here (see CUDA_VISIBLE_DEVICES), or use device='cpu'",
        209: "the kernels were compiled for another GPU: delete the kernel cache",
        222: "update NVIDIA's driver, or install an older cuda-bindings",
        803: "the driver's parts are of different versions: restart the machine after a driver update",
        804: "update NVIDIA's driver",
        **dict.fromkeys((214, 220, 226, 700, 702, 714, 715, 716, 717, 718, 719, 721), _LOST),
    }
)


def driver() -> Any:
    """The module `cuda.bindings.driver`.

    Raises:
        DependencyError: the package is not installed.
    """
    try:
        from cuda.bindings import driver as module
    except ImportError as error:
        raise missing("cuda-bindings") from error
    return module


def missing(package: str) -> DependencyError:
    """The error for a package of the extra `cuda` that is not there."""
    return DependencyError("is not installed", subject=package, hint="pip install 'yoloship[cuda]'")


def call(function: str, *arguments: object, subject: str | None = None) -> Any:
    """Call the driver.

    Args:
        function: Its name, ``cuMemAlloc`` for example.
        arguments: As the bindings take them.
        subject: The object it is done to, for the message; None takes the function's name.

    Returns:
        What it gives beside the status: nothing, one value, or a tuple.

    Raises:
        CudaError: the driver is missing or too old, or the call failed.
        DependencyError: the package `cuda-bindings` is not installed.
    """
    function_of = getattr(driver(), function, None)
    if function_of is None:
        raise _too_old(function)
    try:
        status, *values = function_of(*arguments)
    except RuntimeError as error:  # the bindings' words for a library that is missing, or lacks the function
        raise (_too_old(function) if function in str(error) else _no_driver()) from error
    if int(status) != 0:
        raise failure(int(status), status.name, function, subject)
    return values[0] if len(values) == 1 else (tuple(values) or None)


def failure(code: int, name: str, function: str, subject: str | None = None) -> CudaError:
    """The error for a status code of the driver."""
    words = name.removeprefix("CUDA_ERROR_").removeprefix("cudaError").replace("_", " ").lower()
    return CudaError(
        f"{words} ({name}, code {code}, in {function})" if subject else f"{words} ({name}, code {code})",
        code=code,
        name=name,
        subject=subject or function,
        hint=_HINTS.get(code),
    )


def _too_old(function: str) -> CudaError:
    return CudaError(
        "the driver, or cuda-bindings, is too old: it lacks this function",
        code=NO_DRIVER_CODE,
        name="cudaErrorInsufficientDriver",
        subject=function,
        hint="update NVIDIA's driver and cuda-bindings",
    )


def _no_driver() -> CudaError:
    return CudaError(
        "no NVIDIA driver (cudaErrorInsufficientDriver, code 35)",
        code=NO_DRIVER_CODE,
        name="cudaErrorInsufficientDriver",
        subject="CUDA",
        hint=_INSTALL_DRIVER,
    )


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """An NVIDIA GPU.

    Attributes:
        ordinal: Its number among the visible ones, as CUDA counts them.
        name: ``NVIDIA H200`` for example.
        compute_capability: (major, minor).
        memory_bytes: Its memory in all.
        cuda_version: The highest CUDA version that the driver supports, (major, minor).
    """

    ordinal: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda_version: tuple[int, int]

    @property
    def sm(self) -> str:
        """The compute capability as targets are written: ``sm89``."""
        return sm_name(self.compute_capability)


@dataclass(frozen=True, slots=True)
class Probe:
    """What can be said about CUDA here without creating a context.

    Attributes:
        gpus: Those that can be opened.
        problem: Why there are none; None if there is one.
    """

    gpus: tuple[GpuInfo, ...]
    problem: CudaError | None


def sm_name(compute_capability: Iterable[int]) -> str:
    """(8, 9) → ``sm89``."""
    return "sm" + "".join(map(str, compute_capability))


def probe() -> Probe:
    """Look for GPUs. Safe anywhere: it raises nothing, hangs on nothing and creates no context."""
    try:
        return Probe(_find(_load_library()), None)
    except CudaError as problem:
        return Probe((), problem)


def find_gpus() -> tuple[GpuInfo, ...]:
    """All GPUs that the driver shows, in its order; empty without a driver."""
    return probe().gpus


def find_gpu(ordinal: int = 0) -> GpuInfo | None:
    """The GPU of that number; None if there is no driver or no such GPU."""
    return next((gpu for gpu in find_gpus() if gpu.ordinal == ordinal), None)


def _load_library() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        raise _no_driver() from error


def _find(library: ctypes.CDLL) -> tuple[GpuInfo, ...]:
    version, count = ctypes.c_int(), ctypes.c_int()
    _ask(library, "cuDriverGetVersion", ctypes.byref(version))
    _ask(library, "cuInit", 0)
    _ask(library, "cuDeviceGetCount", ctypes.byref(count))
    cuda_version = (version.value // 1000, version.value % 1000 // 10)
    gpus = tuple(_describe(library, ordinal, cuda_version) for ordinal in range(count.value))
    if not gpus:
        raise failure(100, "CUDA_ERROR_NO_DEVICE", "cuDeviceGetCount")
    return gpus


def _describe(library: ctypes.CDLL, ordinal: int, cuda_version: tuple[int, int]) -> GpuInfo:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _ask(library, "cuDeviceGet", ctypes.byref(handle), ordinal)
    _ask(library, "cuDeviceGetName", name, len(name), handle)
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, handle)
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, handle)
    _ask(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    return GpuInfo(ordinal, name.value.decode(errors="replace"), (major.value, minor.value), memory.value, cuda_version)


def _ask(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        code = int(getattr(library, function)(*arguments))
    except AttributeError as error:
        raise _too_old(function) from error
    if code != 0:
        raise failure(code, _error_name(library, code), function)


def _error_name(library: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    known = hasattr(library, "cuGetErrorName") and library.cuGetErrorName(code, ctypes.byref(name)) == 0
    return name.value.decode(errors="replace") if known and name.value else f"CUDA_ERROR_{code}"
