"""The kernels: a list of them, compiling them with NVRTC, keeping them on disk, and loading them on a device."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from yoloship._util.cache import read_entry, trusted_folder, write_entry
from yoloship._util.closing import Closing
from yoloship.cuda.device import NO_DRIVER_CODE, Resource, call, driver, missing
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream


Parameter: TypeAlias = Literal["pointer", "int32", "float32"]
Argument: TypeAlias = "int | float | np.integer | np.floating"
Packed: TypeAlias = "ctypes.c_void_p | ctypes.c_int32 | ctypes.c_float"
Extent: TypeAlias = tuple[int, int, int]

HEADERS: Final = ("common.cuh", "candidates.cuh", "kept.cuh", "letterbox.cuh")
"""Every source may include them; each includes those before it that it needs."""
_LETTERBOX: Final[tuple[Parameter, ...]] = ("pointer", "pointer", "int32", "int32", "int32")
_LETTERBOX_HOST: Final[tuple[Parameter, ...]] = (*_LETTERBOX, "int32")
_CANDIDATES: Final[tuple[Parameter, ...]] = (*("pointer",) * 5, "int32")
_FILTERED: Final[tuple[Parameter, ...]] = ("int32", "float32", "pointer", *_CANDIDATES)
_HEADS: Final[tuple[Parameter, ...]] = ("pointer", "int32", "int32", "int32", *_FILTERED)
_FREE: Final[tuple[Parameter, ...]] = ("pointer", *("int32",) * 4, *_FILTERED)
_ROWS: Final[tuple[Parameter, ...]] = ("pointer", "int32", "int32", *_FILTERED)
_NMS: Final[tuple[Parameter, ...]] = (
    *_CANDIDATES, "float32", "int32", "int32", "int32", *("pointer",) * 4, "int32", "pointer",
)  # fmt: skip
_KEYPOINTS: Final[tuple[Parameter, ...]] = (
    "pointer", *("int32",) * 5, "pointer", "int32", "pointer", "pointer", "int32", "int32",
)  # fmt: skip
_MASKS: Final[tuple[Parameter, ...]] = (*("int32",) * 7, "pointer", "int32", "int32", *("pointer",) * 5)
MIN_ARCHITECTURE: Final = 75
OPTIONS: Final = ("--std=c++17", "--fmad=false")
"""No fused multiply-add: NMS and decoding repeat NumPy's float32 arithmetic to the bit."""
_EARLY_CAPABILITY: Final = (9, 0)
_EARLY_DRIVER: Final = (12, 3)
"""From which on a graph may hold a kernel that begins early: CUDA 12.3's release notes."""
_DIGEST_BYTES: Final = 32
_MAX_CODE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One entry point of a kernel file.

    Attributes:
        source: The file's name in `kernels/`.
        entry: The name of the function, which has C linkage.
        parameters: Types of its parameters, in order.
    """

    source: str
    entry: str
    parameters: tuple[Parameter, ...]

    def pack(self, arguments: tuple[Argument, ...]) -> tuple[Packed, ...]:
        """Arguments as the exact C types of the parameters.

        The driver copies bytes and checks nothing. A Python float passed for a float32 would arrive as other bits. So
        every launch uses this function.

        Raises:
            InputError: there are too few or too many arguments, or one has the wrong type or is out of its range.
        """
        if len(arguments) != len(self.parameters):
            raise InputError(
                "wrong number of arguments",
                subject=self.entry,
                expected=str(len(self.parameters)),
                got=str(len(arguments)),
            )
        return tuple(
            _pack(value, kind, f"{self.entry} argument {number}")
            for number, (value, kind) in enumerate(zip(arguments, self.parameters, strict=True))
        )


class Launchable(Protocol):
    """A kernel that is ready to run: loaded on a device, or emulated by a test."""

    def launch(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """Queue the kernel.

        Args:
            stream: The stream on which it runs.
            grid: Blocks along x, y, z.
            block: Threads of each block along x, y, z.
            arguments: The arguments in the order of the `KernelSpec`.

        Raises:
            InputError: the arguments do not fit the parameters.
            CudaError: the launch failed.
        """

    def launch_early(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """The same, but it may begin while the kernel ahead of it runs: it waits itself for what that one writes.

        Where the GPU or its driver cannot do that, it begins when the one ahead has ended.
        """


KERNELS: Final = (
    KernelSpec("fetch.cu", "fetch_frames", ("pointer",)),
    KernelSpec("letterbox.cu", "letterbox_f32", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_f16", _LETTERBOX),
    KernelSpec("letterbox.cu", "letterbox_u8", _LETTERBOX),
    KernelSpec("letterbox_host.cu", "letterbox_host_f32", _LETTERBOX_HOST),
    KernelSpec("letterbox_host.cu", "letterbox_host_f16", _LETTERBOX_HOST),
    KernelSpec("letterbox_host.cu", "letterbox_host_u8", _LETTERBOX_HOST),
    KernelSpec("decode.cu", "decode_heads_f32", _HEADS),
    KernelSpec("decode.cu", "decode_heads_f16", _HEADS),
    KernelSpec("decode.cu", "decode_raw_f32", _ROWS),
    KernelSpec("decode.cu", "decode_raw_f16", _ROWS),
    KernelSpec("decode_free.cu", "decode_free_f32", _FREE),
    KernelSpec("decode_free.cu", "decode_free_f16", _FREE),
    KernelSpec("decode_free.cu", "decode_rotated_f32", (*_FREE, "pointer")),
    KernelSpec("decode_free.cu", "decode_rotated_f16", (*_FREE, "pointer")),
    KernelSpec("decode_free.cu", "decode_chosen_f32", _ROWS),
    KernelSpec("decode_free.cu", "decode_chosen_f16", _ROWS),
    KernelSpec("decode_free.cu", "decode_chosen_rotated_f32", (*_ROWS, "pointer")),
    KernelSpec("decode_free.cu", "decode_chosen_rotated_f16", (*_ROWS, "pointer")),
    KernelSpec("nms.cu", "nms", _NMS),
    KernelSpec("nms.cu", "nms_rotated", _NMS),
    KernelSpec("extras.cu", "gather_keypoints_f32", _KEYPOINTS),
    KernelSpec("extras.cu", "gather_keypoints_f16", _KEYPOINTS),
    KernelSpec("masks.cu", "mask_windows", (*("int32",) * 5, *("pointer",) * 5)),
    KernelSpec("masks.cu", "mask_bits_f32", _MASKS),
    KernelSpec("masks.cu", "mask_bits_f16", _MASKS),
    KernelSpec("jpeg_check.cu", "jpeg_read", ("pointer",) * 3),
    KernelSpec("jpeg_check.cu", "jpeg_judge", ("pointer",) * 4),
)
"""All kernels. A test compares the parameters with the source files."""

SOURCES: Final = tuple(dict.fromkeys(spec.source for spec in KERNELS))
_SOURCE_OF: Final = MappingProxyType({spec.entry: spec.source for spec in KERNELS})
_ALWAYS: Final = ("fetch.cu", "letterbox.cu", "letterbox_host.cu", "nms.cu")
"""Sources that every model needs."""


def source_text(name: str) -> str:
    """A kernel file's text, or a header's.

    Args:
        name: One of `SOURCES` or `HEADERS`.
    """
    return (files("yoloship.cuda") / "kernels" / name).read_text(encoding="utf-8")


def _pack(value: Argument, kind: Parameter, subject: str) -> Packed:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if kind == "pointer" and whole and 0 <= value < 2**64:
        return ctypes.c_void_p(int(value))
    if kind == "int32" and whole and -(2**31) <= value < 2**31:
        return ctypes.c_int32(int(value))
    if kind == "float32" and (whole or isinstance(value, float | np.floating)):
        return ctypes.c_float(float(np.float32(value)))
    raise InputError("wrong argument", subject=subject, expected=kind, got=f"{type(value).__name__} {value!r}")


@dataclass(frozen=True, slots=True)
class Compiled:
    """Code that the driver can load.

    Attributes:
        code: The bytes.
        form: `cubin` is machine code for one architecture; `ptx` is code that the driver compiles when it loads it.
        architecture: 90 for compute capability 9.0.
    """

    code: bytes
    form: Literal["cubin", "ptx"]
    architecture: int


def compile_kernels(source: str, compute_capability: tuple[int, int], cache_dir: Path | None) -> Compiled:
    """Compile a kernel file, or take it from the cache.

    Args:
        source: The file's name in `kernels/`.
        compute_capability: The compute capability of the GPU that will run it. If NVRTC does not know it yet, the
            result is PTX for the newest one that it knows.
        cache_dir: Folder for compiled code, with names made from everything that the code depends on. None keeps
            nothing. A folder that cannot be written to, or that other users can write to, is not used. This is not an
            error.

    Raises:
        CudaError: the source does not compile (the message has the first error of the log), or the GPU is too old.
        DependencyError: `cuda-bindings` or NVRTC is not installed.
    """
    return compile_text(source, source_text(source), compute_capability, cache_dir)


def compile_text(name: str, text: str, compute_capability: tuple[int, int], cache_dir: Path | None) -> Compiled:
    """Compile the text of a kernel file; see `compile_kernels`."""
    nvrtc = _nvrtc()
    wanted = compute_capability[0] * 10 + compute_capability[1]
    if wanted < MIN_ARCHITECTURE:
        raise CudaError(
            "the GPU is too old (CUDA_ERROR_NO_BINARY_FOR_GPU, code 209)",
            code=209,
            name="CUDA_ERROR_NO_BINARY_FOR_GPU",
            subject=name,
            expected="compute capability 7.5 or newer",
            got=f"{compute_capability[0]}.{compute_capability[1]}",
        )
    known = [int(architecture) for architecture in _check(nvrtc.nvrtcGetSupportedArchs(), "nvrtcGetSupportedArchs")[0]]
    form: Literal["cubin", "ptx"] = "cubin" if wanted in known else "ptx"
    usable = [architecture for architecture in known if architecture <= wanted]
    if not usable:
        raise CudaError(
            "NVRTC no longer compiles for this GPU", subject=name, expected=f"one of {known}", got=str(wanted)
        )
    architecture = max(usable)
    version = ".".join(map(str, nvrtc_version()))
    facts = (text, *map(source_text, HEADERS), *OPTIONS, form, str(architecture), version)
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    folder = None if cache_dir is None else trusted_folder(cache_dir)
    path = None if folder is None else folder / f"{name.removesuffix('.cu')}-sm{architecture}-{key[:32]}.{form}"
    code = None if path is None else _read_cached(path)
    if code is None:
        code = _compile(nvrtc, name, text, form, architecture)
        if path is not None:
            write_entry("kernels", path, hashlib.sha256(code).digest() + code)
    return Compiled(code, form, architecture)


def nvrtc_version() -> tuple[int, int]:
    """(major, minor) of the compiler that is installed.

    Raises:
        DependencyError: `cuda-bindings` or NVRTC is not installed.
    """
    major, minor = _check(_nvrtc().nvrtcVersion(), "nvrtcVersion")
    return int(major), int(minor)


def _compile(nvrtc: Any, name: str, text: str, form: str, architecture: int) -> bytes:
    headers = [source_text(header).encode() for header in HEADERS]
    names = [header.encode() for header in HEADERS]
    made = nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), len(headers), headers, names)
    (program,) = _check(made, "nvrtcCreateProgram")
    try:
        target = f"--gpu-architecture={'sm' if form == 'cubin' else 'compute'}_{architecture}"
        options = [option.encode() for option in (*OPTIONS, target)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(status) != 0:
            raise CudaError(
                f"does not compile ({status.name}, code {int(status)}): {_first_error(nvrtc, program)}",
                code=int(status),
                name=status.name,
                subject=f"{name} for sm_{architecture}",
            )
        size_of, get = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if form == "cubin"
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        (size,) = _check(size_of(program), "nvrtc result size")
        code = bytearray(size)
        _check(get(program, code), "nvrtc result")
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _first_error(nvrtc: Any, program: object) -> str:
    (size,) = _check(nvrtc.nvrtcGetProgramLogSize(program), "nvrtcGetProgramLogSize")
    log = bytearray(size)
    _check(nvrtc.nvrtcGetProgramLog(program, log), "nvrtcGetProgramLog")
    lines = bytes(log).rstrip(b"\0").decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if "error" in line), " ".join(lines[:1]) or "no log")


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise missing("cuda-bindings") from error
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # the bindings raise this if the library is missing
        raise missing("NVRTC (nvidia-cuda-nvrtc)") from error
    return nvrtc


def _check(result: tuple[Any, ...], function: str) -> tuple[Any, ...]:
    status, *values = result
    if int(status) != 0:
        raise CudaError(
            f"failed ({status.name}, code {int(status)})", code=int(status), name=status.name, subject=function
        )
    return tuple(values)


def _read_cached(path: Path) -> bytes | None:
    """The code of a cache file; None if it is missing or damaged, or if another user may have written it."""
    data = read_entry(path, _MAX_CODE_BYTES)
    if data is None:
        return None
    digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return code if code and hashlib.sha256(code).digest() == digest else None


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
            CudaError: there is no entry point of that name.
        """
        with self.device.current():
            function = call("cuModuleGetFunction", self.handle, spec.entry.encode(), subject=spec.entry)
        return Kernel(self, spec, function)


class Kernel:
    """A function on the device. It can be used as long as its module is open."""

    __slots__ = ("_function", "_module", "spec")

    def __init__(self, module: Module, spec: KernelSpec, function: Any) -> None:
        self._module = module
        self._function = function
        self.spec = spec

    def launch_early(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """Queue the kernel; see `Launchable`."""
        device = self._module.device
        if device.compute_capability < _EARLY_CAPABILITY or device.driver_version < _EARLY_DRIVER:
            self.launch(stream, grid, block, *arguments)
            return
        bindings = driver()
        attribute = bindings.CUlaunchAttribute()
        attribute.id = bindings.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value.programmaticStreamSerializationAllowed = 1
        config = bindings.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid
        config.blockDimX, config.blockDimY, config.blockDimZ = block
        config.hStream = stream.handle
        config.attrs, config.numAttrs = [attribute], 1
        packed = self.spec.pack(arguments)
        addresses = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        self._module.handle  # noqa: B018 - refuses a closed module
        with device.current():
            call("cuLaunchKernelEx", config, self._function, ctypes.addressof(addresses), 0, subject=self.spec.entry)

    def launch(self, stream: Stream, grid: Extent, block: Extent, *arguments: Argument) -> None:
        """Queue the kernel; see `Launchable`."""
        packed = self.spec.pack(arguments)
        addresses = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        self._module.handle  # noqa: B018 - refuses a closed module
        with self._module.device.current():
            call(
                "cuLaunchKernel", self._function, *grid, *block, 0, stream.handle, ctypes.addressof(addresses), 0,
                subject=self.spec.entry,
            )  # fmt: skip


class KernelSet(Closing, Mapping[str, Launchable]):
    """All kernels by the name of their entry point, compiled for a device and loaded on it. A context manager.

    What every model needs is compiled and loaded at once, a file that only some models need when one of its kernels is
    asked for. That may fail like the constructor, and must not happen while a stream is recorded. Threads may share it.

    Args:
        device: The device on which they run.
        cache_dir: Folder for compiled code. None keeps nothing, so that each start compiles (about a second).

    Raises:
        CudaError: the driver is older than the compiler, the GPU is too old, or a kernel does not compile or load.
        DependencyError: `cuda-bindings` or NVRTC is not installed.
    """

    def __init__(self, device: Device, cache_dir: Path | None) -> None:
        _check_versions(device)
        self._device = device
        self._folder = None if cache_dir is None else trusted_folder(cache_dir)
        self._modules: list[Module] = []
        self._kernels: dict[str, Launchable] = {}
        self._lock = threading.Lock()
        try:
            for source in _ALWAYS:
                self._load(source)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, entry: str) -> Launchable:
        found = self._kernels.get(entry)
        if found is None:
            source = _SOURCE_OF[entry]
            with self._lock:
                if entry not in self._kernels:
                    self._load(source)
            found = self._kernels[entry]
        return found

    def __contains__(self, entry: object) -> bool:
        return entry in _SOURCE_OF

    def __iter__(self) -> Iterator[str]:
        return iter(_SOURCE_OF)

    def __len__(self) -> int:
        return len(_SOURCE_OF)

    def _load(self, source: str) -> None:
        compiled = compile_kernels(source, self._device.compute_capability, self._folder)
        module = Module(self._device, source, compiled)
        self._modules.append(module)
        self._kernels.update({spec.entry: module.kernel(spec) for spec in KERNELS if spec.source == source})

    def close(self) -> None:
        """Unload the kernels. Closing twice is not an error."""
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
