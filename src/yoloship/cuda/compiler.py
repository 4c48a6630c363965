"""Kernels from source to machine code, by NVRTC: needs no GPU and no driver. What was compiled once is kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from yoloship._util.cache import read_entry, trusted, write_entry
from yoloship.cuda._driver import missing
from yoloship.cuda.catalogue import HEADER, source_text
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from pathlib import Path

MIN_ARCHITECTURE: Final = 75
OPTIONS: Final = ("--std=c++17", "--fmad=false")
"""No fused multiply-add: NMS and decoding repeat NumPy's float32 arithmetic to the bit."""

_DIGEST_BYTES: Final = 32
_MAX_CODE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Compiled:
    """Code that the driver can load.

    Attributes:
        code: The bytes.
        form: `cubin` is machine code for one architecture; `ptx` is what the driver compiles when it loads it.
        architecture: 90 for compute capability 9.0.
    """

    code: bytes
    form: Literal["cubin", "ptx"]
    architecture: int


def compile_kernels(source: str, compute_capability: tuple[int, int], cache_dir: Path | None) -> Compiled:
    """Compile a kernel file, or take it from the cache.

    Args:
        source: The file's name in `kernels/`.
        compute_capability: Of the GPU that will run it. Where NVRTC does not know it yet, PTX for the newest that it
            knows is made instead.
        cache_dir: Where compiled code is kept, under a name made of everything that it depends on; None keeps nothing.
            A folder that cannot be written to, or that others can write to, is not an error and not used.

    Raises:
        CudaError: the source does not compile (the message has the first error of the log), or the GPU is too old.
        DependencyError: `cuda-bindings` or NVRTC is not installed.
    """
    return compile_text(source, source_text(source), compute_capability, cache_dir)


def compile_text(name: str, text: str, compute_capability: tuple[int, int], cache_dir: Path | None) -> Compiled:
    """Compile a kernel source that is at hand; see `compile_kernels`."""
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
    facts = (text, source_text(HEADER), *OPTIONS, form, str(architecture), version)
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    folder = None if cache_dir is None else trusted(cache_dir)
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
    header = source_text(HEADER).encode()
    made = nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), 1, [header], [HEADER.encode()])
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
    except RuntimeError as error:  # the bindings' word for a library that is not there
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
    """The code of a cache file, or None where it is absent, damaged, or may be somebody else's."""
    data = read_entry(path, _MAX_CODE_BYTES)
    if data is None:
        return None
    digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return code if code and hashlib.sha256(code).digest() == digest else None
