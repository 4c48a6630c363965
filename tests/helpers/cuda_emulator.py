"""The kernels' own source run on the CPU: compiled as C++ with `emulator.hpp`, launched like on a device."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.kept import compiled_kernels, kept
from helpers.shared import IN_CI
from yoloship.cuda.compiler import HEADERS, KERNELS, SOURCES, Argument, Extent, KernelSpec, source_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from yoloship.cuda.compiler import Launchable

_SOURCE = Path(__file__).resolve().parents[2] / "src"
_SHIM = Path(__file__).parent / "emulator.hpp"
_DRIVER = _SHIM.with_name("stand_in_driver.cpp")
_FLAGS = (
    "-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-Wno-unknown-pragmas",
    "-U_FORTIFY_SOURCE",  # which takes a jump between two stacks for an error
)  # fmt: skip
_BARRIER = re.compile(r"__sync|_sync\(")


def emulator_library() -> ctypes.CDLL:
    """The kernels compiled for this CPU, once for all processes; skip if there is no C++ compiler."""
    return ctypes.CDLL(os.fspath(_built() / "emulator.so"))


def stand_in_driver() -> Path:
    """The emulated kernels inside a stand-in for the CUDA driver: a `libcuda.so.1` in a folder of its own."""
    return _built() / "libcuda.so.1"


def with_stand_in_driver(cache: Path) -> dict[str, str]:
    """The environment of a process in which `cuda.bindings` finds a "GPU" that runs our kernels only.

    Args:
        cache: An empty folder, for its cache. Only compiled kernels are in it from the start.
    """
    (cache / "kernels").symlink_to(compiled_kernels())
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.fspath(stand_in_driver().parent),
        "YOLOSHIP_CACHE": os.fspath(cache),
        "PYTHONPATH": os.fspath(_SOURCE),
    }


def _built() -> Path:
    """The folder of both libraries: the same code, compiled once, under two names."""
    compiler = shutil.which("g++")
    if compiler is None:
        message = "the emulator needs g++"
        if IN_CI:
            pytest.fail(f"{message}; CI must have it")
        pytest.skip(message)
    text = "\n".join(
        [_SHIM.read_text(), *map(source_text, (*HEADERS, *SOURCES)), *map(_entry, KERNELS), _DRIVER.read_text()]
    )
    for header in HEADERS:
        text = text.replace(f'#include "{header}"', "")
    text = text.replace("#pragma once", "")

    def build(folder: Path) -> None:
        source = folder / "kernels.cpp"
        source.write_text(text)
        compiled = os.fspath(folder / "kernels.o")
        commands = [[compiler, *_FLAGS, "-c", os.fspath(source), "-o", compiled]]
        for name in ("emulator.so", "libcuda.so.1"):  # a process that loads the first must not see a driver in it
            link = [compiler, "-shared", compiled, f"-Wl,-soname,{name}", "-o", os.fspath(folder / name), "-ldl"]
            commands.append(link)
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([text, version, *_FLAGS]).encode()).hexdigest()[:16]
    return kept("emulator", key, build)


class EmulatedKernel:
    """Looks like `yoloship.cuda.compiler.Kernel`, and runs at once."""

    def __init__(self, library: ctypes.CDLL, spec: KernelSpec, seeds: Iterator[int]) -> None:
        self._launch = getattr(library, f"launch_{spec.entry}")
        self._spec = spec
        self._seeds = seeds

    def launch(self, stream: object, grid: Extent, block: Extent, *arguments: Argument) -> None:
        assert all(extent >= 1 for extent in (*grid, *block))
        assert grid[1] < 65_536
        assert grid[2] < 65_536
        assert block[0] * block[1] * block[2] <= 1024
        packed = self._spec.pack(arguments)
        addresses = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        extents = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
        status = self._launch(*extents, ctypes.c_uint(next(self._seeds)), addresses)
        assert status == 0, f"{self._spec.entry}: some threads wait at a barrier that others never reach"

    def launch_early(self, stream: object, grid: Extent, block: Extent, *arguments: Argument) -> None:
        self.launch(stream, grid, block, *arguments)


class EmulatedRig:
    """Stands for a device in kernel tests: kernels, and memory, which is the host's. See `helpers.cuda_steps.Rig`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        seeds = iter(np.random.default_rng().integers(0, 2**31, 100_000).tolist())
        self.kernels: Mapping[str, Launchable] = {spec.entry: EmulatedKernel(library, spec, seeds) for spec in KERNELS}
        self.stream: Any = None
        self._memory: list[npt.NDArray[np.uint8]] = []

    def put(self, array: npt.NDArray[Any]) -> int:
        """Copy an array to the device; its address."""
        address = self.empty(array.nbytes)
        self._memory[-1][: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return address

    def empty(self, size_bytes: int) -> int:
        """Memory on the device, filled with rubbish, aligned to 256 bytes."""
        block = np.full(size_bytes + 256, 0xCD, np.uint8)
        offset = -block.ctypes.data % 256
        self._memory.append(block[offset : offset + size_bytes])
        return int(self._memory[-1].ctypes.data)

    def zero(self, address: int, words: int) -> None:
        """Set 32-bit words to 0."""
        ctypes.memset(address, 0, 4 * words)

    def get(self, address: int, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Copy from the device, after all work on it."""
        wanted = np.dtype(dtype)
        size = wanted.itemsize * int(np.prod(shape))
        return np.frombuffer(ctypes.string_at(address, size), wanted).reshape(shape)


def _entry(spec: KernelSpec) -> str:
    """A C function that launches a kernel with arguments as cuLaunchKernel takes them."""
    forms = {
        "pointer": "emulator::Pointer{*(void**)args[%d]}",
        "int32": "*(int*)args[%d]",
        "float32": "*(float*)args[%d]",
    }
    values = "".join(f"    const auto a{i} = {forms[kind] % i};\n" for i, kind in enumerate(spec.parameters))
    names = ", ".join(f"a{i}" for i in range(len(spec.parameters)))
    fibers = "true" if _BARRIER.search(source_text(spec.source)) else "false"
    kinds = "".join("p" if kind == "pointer" else "w" for kind in spec.parameters)
    return (
        f'extern "C" {{ const char* kinds_{spec.entry} = "{kinds}"; }}\n'
        f'extern "C" int launch_{spec.entry}(const unsigned* grid, const unsigned* block, unsigned seed, void** args)\n'
        f"{{\n{values}    return emulator::launch(grid, block, seed, {fibers}, [=] {{ {spec.entry}({names}); }});\n}}\n"
    )
