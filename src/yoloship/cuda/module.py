"""Kernels loaded on a device: `KernelSet`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship._util.cache import trusted
from yoloship.closing import Closing
from yoloship.cuda._driver import NO_DRIVER_CODE, call
from yoloship.cuda._resource import Resource
from yoloship.cuda.catalogue import KERNELS, SOURCES, Argument, Extent, KernelSpec, Launchable
from yoloship.cuda.compiler import Compiled, compile_kernels, nvrtc_version
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream


class Module(Resource):
    """A kernel file's machine code on the device."""

    __slots__ = ("_code", "_name")

    def __init__(self, device: Device, name: str, compiled: Compiled) -> None:
        self._code = compiled.code
        self._name = name
        super().__init__(device, "module")

    def _acquire(self) -> Any:
        image = ctypes.create_string_buffer(self._code, len(self._code) + 1)  # PTX must end in a zero byte
        return call("cuModuleLoadData", ctypes.addressof(image), subject=self._name)

    def _release(self, handle: Any) -> None:
        call("cuModuleUnload", handle, subject=self._name)

    def kernel(self, spec: KernelSpec) -> Kernel:
        """One of its entry points.

        Raises:
            CudaError: it has none of that name.
        """
        with self.device.current():
            function = call("cuModuleGetFunction", self.handle, spec.entry.encode(), subject=spec.entry)
        return Kernel(self, spec, function)


class Kernel:
    """A function on the device; lives as long as its module."""

    __slots__ = ("_function", "_module", "spec")

    def __init__(self, module: Module, spec: KernelSpec, function: Any) -> None:
        self._module = module
        self._function = function
        self.spec = spec

    def launch(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """Queue it; see `Launchable`."""
        packed = self.spec.pack(arguments)
        addresses = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        self._module.handle  # noqa: B018 - refuses a closed module
        with self._module.device.current():
            call(
                "cuLaunchKernel", self._function, *grid, *block, 0, stream.handle, ctypes.addressof(addresses), 0,
                subject=self.spec.entry,
            )  # fmt: skip


class KernelSet(Closing, Mapping[str, Launchable]):
    """All kernels, compiled for a device and loaded on it, by the name of their entry point. A context manager.

    Args:
        device: Where they run.
        cache_dir: Where compiled code is kept; None keeps nothing, so that each start compiles (about a second).

    Raises:
        CudaError: the driver is older than the compiler, or the GPU too old, or a kernel does not compile or load.
        DependencyError: `cuda-bindings` or NVRTC is not installed.
    """

    def __init__(self, device: Device, cache_dir: Path | None) -> None:
        _check_versions(device)
        folder = None if cache_dir is None else trusted(cache_dir)
        self._modules: list[Module] = []
        kernels: dict[str, Launchable] = {}
        try:
            for source in SOURCES:
                compiled = compile_kernels(source, device.compute_capability, folder)
                module = Module(device, source, compiled)
                self._modules.append(module)
                kernels.update({spec.entry: module.kernel(spec) for spec in KERNELS if spec.source == source})
        except BaseException:
            self.close()
            raise
        self._kernels = MappingProxyType(kernels)

    def __getitem__(self, entry: str) -> Launchable:
        return self._kernels[entry]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)

    def close(self) -> None:
        """Unload them. Closing twice is no error."""
        for module in self._modules:
            module.close()


def _check_versions(device: Device) -> None:
    """Machine code runs on drivers of the compiler's major version and newer ones."""
    compiler = nvrtc_version()
    if device.driver_version[0] < compiler[0]:
        raise CudaError(
            "the driver is older than the kernel compiler (cudaErrorInsufficientDriver, code 35)",
            code=NO_DRIVER_CODE,
            name="cudaErrorInsufficientDriver",
            subject=str(device),
            expected=f"a driver for CUDA {compiler[0]}.0 or newer",
            got=f"CUDA {'.'.join(map(str, device.driver_version))}",
            hint="update NVIDIA's driver, or pip install 'yoloship[cuda12]'",
        )
