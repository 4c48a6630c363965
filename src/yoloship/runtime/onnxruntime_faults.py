"""What went wrong with ONNX Runtime on a GPU: its sentences as errors that name the code and the next step."""

from __future__ import annotations

import ctypes
import re
import sys
from typing import TYPE_CHECKING, Any

from yoloship.cuda._driver import failure
from yoloship.errors import CudaError, DependencyError
from yoloship.runtime.device_faults import OUT_OF_MEMORY, no_memory

if TYPE_CHECKING:
    from yoloship.cuda.device import Device

_NO_MEMORY = re.compile(r"[Ff]ailed to allocate memory for requested buffer of size (\d+)|out of memory")
_FAILURE = re.compile(r"CUDA (?:failure|error) (\d+): ([^;]+)")
_LIBRARY = re.compile(r"CU(?:BLAS|DNN|FFT) (?:failure|error)[^;]*")


def device_fault(text: str, device: Device, subject: str) -> CudaError | None:
    """The device's fault behind a failure of the runtime, or None where it is the runtime's own.

    Args:
        text: The runtime's sentence.
        device: Asked for its free memory.
        subject: The model, for the message.
    """
    found = _FAILURE.search(text)
    code = int(found[1]) if found else None
    memory = _NO_MEMORY.search(text)
    if code == OUT_OF_MEMORY or (code is None and memory):
        return no_memory(int(memory[1]) if memory and memory[1] else None, device, subject)
    if found and code is not None:
        name = f"cudaError: {found[2].strip()}"
        return failure(code, name, "ONNX Runtime", subject)
    if library := _LIBRARY.search(text):
        return CudaError(f"a CUDA library failed in ONNX Runtime: {library[0].strip()}", subject=subject)
    return None


def not_installed(version: str | None = None) -> DependencyError:
    """The error for an ONNX Runtime that has no CUDA provider, or is not there at all."""
    return DependencyError(
        "is not installed" if version is None else "is the build without CUDA",
        subject="onnxruntime" if version is None else f"onnxruntime {version}",
        expected="onnxruntime-gpu",
        hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; both install the same files",
    )


def provider_missing(onnxruntime: Any, device: Device) -> DependencyError:
    """The error for a provider that is built in, but cannot be loaded: ONNX Runtime would run on the CPU in silence."""
    built_for = getattr(onnxruntime, "cuda_version", "") or "its version"
    missing = _missing_libraries(built_for)
    return DependencyError(
        "cannot load its CUDA provider, and would run on the CPU instead",
        subject=f"onnxruntime {onnxruntime.__version__}",
        expected=f"the libraries of CUDA {built_for} and cuDNN 9",
        got=", ".join(f"no {name}" for name in missing)
        or f"a driver for CUDA {'.'.join(map(str, device.driver_version))}",
        hint="pip install 'onnxruntime-gpu[cuda,cudnn]', or put the libraries on LD_LIBRARY_PATH",
    )


def _missing_libraries(cuda_version: str) -> list[str]:
    """Those that the provider is linked with and the loader does not find; ONNX Runtime names them in its log only."""
    major = cuda_version.split(".", maxsplit=1)[0]
    if not sys.platform.startswith("linux") or not major.isdecimal():
        return []
    names = [f"{name}.so.{major}" for name in ("libcudart", "libcublas", "libcublasLt")]
    return [name for name in (*names, "libcudnn.so.9") if not _loads(name)]


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
