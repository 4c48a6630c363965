"""Calls of the CUDA driver, with every failure turned into a `CudaError`: the only place that knows its error codes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from yoloship.errors import CudaError, DependencyError

NO_DRIVER_CODE: Final = 35
"""cudaErrorInsufficientDriver: what the CUDA runtime says where there is no driver, or too old a one."""

OUT_OF_MEMORY: Final = 2

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
        function: Its name, ``cuMemAlloc`` for one.
        arguments: As the bindings take them.
        subject: The object it is done to, for the message; the function's name where None.

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
