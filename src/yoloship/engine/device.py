"""Which NVIDIA GPU is there: asked from the driver itself, before any TensorRT object is made.

TensorRT without a driver answers with null objects, and touching one of those ends the process (measured with
``tensorrt_lean``). The driver's library says in microseconds, and safely, whether there is a device. It is asked
through ctypes: neither CUDA's packages nor TensorRT need be installed.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
_COMPUTE_CAPABILITY_MINOR = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, cuda.h


@dataclass(frozen=True, slots=True)
class Device:
    """An NVIDIA GPU.

    Attributes:
        index: As CUDA counts them.
        name: ``NVIDIA H200`` for one.
        compute_capability: (major, minor).
        memory_bytes: In all.
        cuda_version: Highest one that the driver serves, (major, minor).
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda_version: tuple[int, int]

    @property
    def sm(self) -> str:
        """The compute capability as targets are written: ``sm89``."""
        return sm_name(self.compute_capability)


def sm_name(compute_capability: Iterable[int]) -> str:
    """(8, 9) → ``sm89``."""
    return "sm" + "".join(map(str, compute_capability))


def find_device(index: int = 0) -> Device | None:
    """The GPU of that index, or None where there is no driver or no such GPU."""
    devices = find_devices()
    return devices[index] if 0 <= index < len(devices) else None


def find_devices() -> tuple[Device, ...]:
    """All GPUs that the driver shows, in its order; empty without a driver."""
    driver = _load_driver()
    if driver is None or driver.cuInit(0) != 0:
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ()
    cuda_version = (version.value // 1000, version.value % 1000 // 10)
    found = (_describe(driver, index, cuda_version) for index in range(count.value))
    return tuple(device for device in found if device is not None)


def _load_driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _describe(driver: ctypes.CDLL, index: int, cuda_version: tuple[int, int]) -> Device | None:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    failed = (
        driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceGetName(name, 256, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, handle)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    )
    if failed:
        return None
    return Device(index, name.value.decode("utf-8", "replace"), (major.value, minor.value), memory.value, cuda_version)
