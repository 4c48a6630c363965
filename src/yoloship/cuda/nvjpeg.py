"""NVIDIA's JPEG engine: `NvJpeg`, a decoder that writes into device memory, through the library nvJPEG.

A100, H100, H200, Jetson and some other GPUs have an engine that decodes JPEG beside their other work. Only that engine
is used: nvJPEG's own kernels decode a few hundred photographs a second, which the processor does as well.

The library is called through ctypes, which lets other Python threads run once for each batch. NVIDIA's `nvimgcodec`
does so several times for each image, and falls from 7,000 images a second to 75 beside a thread that runs Python.

Source: nvjpeg.h of CUDA 13.3 and of CUDA 12, and the nvJPEG documentation.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.stream import Pace, Stream, StreamCalls
from yoloship.errors import CudaError, DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship.cuda.device import Device


GPU_MEDIA_HINT: Final = "pip install 'yoloship[gpu-media]'"

_HARDWARE: Final = 3  # NVJPEG_BACKEND_HARDWARE
_INTERPOLATED_CHROMA: Final = 1 << 5  # NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION, as libjpeg does it by default
_BGR: Final = 6  # NVJPEG_OUTPUT_BGRI
_PLANES: Final = 4  # NVJPEG_MAX_COMPONENT
_STATUS_NAMES: Final = (
    "SUCCESS", "NOT_INITIALIZED", "INVALID_PARAMETER", "BAD_JPEG", "JPEG_NOT_SUPPORTED", "ALLOCATOR_FAILURE",
    "EXECUTION_FAILED", "ARCH_MISMATCH", "INTERNAL_ERROR", "IMPLEMENTATION_NOT_SUPPORTED", "INCOMPLETE_BITSTREAM",
)  # fmt: skip
_NO_ENGINE: Final = frozenset({4, 7, 9})
"""What creating a decoder of that kind says on a GPU without the engine, whatever the version."""
_HINTS: Final = MappingProxyType({5: "free memory on the device", 6: "see whether the driver fits the library"})
_MANY: Final = 8
"""Files of a batch whose thread sleeps meanwhile, as nothing waits for one of them alone."""
_MAJORS: Final = (13, 12)
"""Of the library, newest first. One for CUDA 13 needs a driver for CUDA 13; one for CUDA 12 runs with both."""


class Target(NamedTuple):
    """Device memory for a decoded image.

    Attributes:
        pointer: Address of its first pixel: packed BGR.
        pitch_bytes: Distance from one row to the next.
    """

    pointer: int
    pitch_bytes: int


class NvJpeg(Closing):
    """The JPEG engine of one GPU. Threads may share it; one batch at a time is decoded.

    Args:
        device: The GPU.

    Attributes:
        library: The library's file.
        version: (major, minor, patch) of the library.

    Raises:
        CudaError: the GPU has no such engine, or the library cannot use it.
        DependencyError: there is no library that fits the driver.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._handle, self._state = ctypes.c_void_p(), ctypes.c_void_p()
        self._initialized = 0
        self._calls, self.library = _loaded(device.driver_version)
        self.version = _version(self._calls)
        self._stream = Stream(device)
        self._stream_calls = StreamCalls(self._stream)
        self._pace = Pace()  # of a file
        try:
            with device.current():
                status = self._calls.nvjpegCreateEx(
                    _HARDWARE, None, None, _INTERPOLATED_CHROMA, ctypes.byref(self._handle)
                )
                if status in _NO_ENGINE:
                    raise _failure(status, "nvjpegCreateEx", f"{device.name} has no JPEG engine")
                _check(status, "nvjpegCreateEx")
                _check(
                    self._calls.nvjpegJpegStateCreate(self._handle, ctypes.byref(self._state)), "nvjpegJpegStateCreate"
                )
        except BaseException:
            self.close()
            raise

    def decode(self, files: Sequence[bytes], targets: Sequence[Target]) -> None:
        """Decode a batch, and wait until it is done.

        The engine reports no damage: what it makes of a damaged file is not defined. Files in other forms than
        sequential Huffman coding of 8-bit grey or YCbCr are refused, or decoded in wrong colours.

        Args:
            files: Whole JPEG files.
            targets: As many, each with room for its file's pixels as they are stored.

        Raises:
            CudaError: a file was refused, then nothing is known about any of the batch; or the device failed, or the
                decoder is closed.
        """
        count = len(files)
        sources = (ctypes.c_char_p * count)(*files)
        lengths = np.fromiter(map(len, files), np.uintp, count)
        outputs = np.zeros((count, 2 * _PLANES), np.uintp)
        outputs[:, 0] = [target.pointer for target in targets]
        outputs[:, _PLANES] = [target.pitch_bytes for target in targets]
        with self._lock, self._device.current():
            if self._state.value is None:
                raise CudaError("is closed", code=400, name="CUDA_ERROR_INVALID_HANDLE", subject="JPEG decoder")
            if self._initialized != count:
                self._initialized = 0
                status = self._calls.nvjpegDecodeBatchedInitialize(self._handle, self._state, count, 1, _BGR)
                _check(status, "nvjpegDecodeBatchedInitialize")
                self._initialized = count
            usual_s = 0.0
            began_s = time.monotonic()
            try:
                status = self._calls.nvjpegDecodeBatched(
                    self._handle, self._state, sources, lengths.ctypes.data, outputs.ctypes.data, self._stream.address
                )
                _check(status, "nvjpegDecodeBatched")
                if count >= _MANY:
                    usual_s = count * self._pace.usual_s - (time.monotonic() - began_s)
            except BaseException:
                self._initialized = 0
                raise
            finally:
                with self._stream_calls as calls:  # also after a failure: what was queued still writes to the targets
                    calls.wait(usual_s)
            if count >= _MANY:
                self._pace.note((time.monotonic() - began_s) / count)

    def close(self) -> None:
        """Wait for the batch in progress, and give everything back. Closing twice is not an error."""
        with self._lock:
            state, handle = self._state, self._handle
            self._state, self._handle = ctypes.c_void_p(), ctypes.c_void_p()
            if self._device.in_this_process and (state or handle):
                with self._device.current():
                    if state:
                        self._calls.nvjpegJpegStateDestroy(state)
                    if handle:
                        self._calls.nvjpegDestroy(handle)
            self._stream.close()


def libraries(cuda_version: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Where the library may be, the best first.

    Args:
        cuda_version: What the driver supports.

    Yields:
        Its major version, and its path, or its name for the system's search.
    """
    majors = [major for major in _MAJORS if major <= cuda_version[0]]
    spec = find_spec("nvidia")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for major in majors:
        name = f"libnvjpeg.so.{major}"
        inside = f"cu{major}" if major > 12 else "nvjpeg"
        yield from ((major, os.fspath(Path(place, inside, "lib", name))) for place in places)
    for major in majors:
        name = f"libnvjpeg.so.{major}"
        yield major, name
        for variable in ("CUDA_HOME", "CUDA_PATH"):
            if folder := os.environ.get(variable):
                yield major, os.fspath(Path(folder, "lib64", name))
        yield major, f"/usr/local/cuda/lib64/{name}"


def _loaded(cuda_version: tuple[int, int]) -> tuple[Any, str]:
    """The library, and its path or name.

    Raises:
        DependencyError: there is none here that fits the driver.
    """
    if not sys.platform.startswith("linux"):
        raise DependencyError("drives the JPEG engine on Linux only", subject="nvJPEG", got=sys.platform)
    for _, path in libraries(cuda_version):
        if os.path.isabs(path) and not os.path.exists(path):  # noqa: PTH110, PTH117 - text for the loader
            continue
        try:
            return _declared(ctypes.CDLL(path)), path
        except (OSError, AttributeError):  # not there, for another machine, or too old
            continue
    major = "12" if cuda_version[0] < 13 else "13 or 12"
    raise DependencyError(
        f"the library nvJPEG is not installed (libnvjpeg for CUDA {major})", subject="nvJPEG", hint=GPU_MEDIA_HINT
    )


def _declared(library: ctypes.CDLL) -> Any:
    """The library with the types of its functions. A function that is missing raises."""
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, types in (
        ("nvjpegGetProperty", (number, pointer)),
        ("nvjpegCreateEx", (number, pointer, pointer, ctypes.c_uint, pointer)),
        ("nvjpegDestroy", (pointer,)),
        ("nvjpegJpegStateCreate", (pointer, pointer)),
        ("nvjpegJpegStateDestroy", (pointer,)),
        ("nvjpegDecodeBatchedInitialize", (pointer, pointer, number, number, number)),
        ("nvjpegDecodeBatched", (pointer, pointer, pointer, pointer, pointer, pointer)),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = types, number
    return library


def _version(library: Any) -> tuple[int, int, int]:
    value, parts = ctypes.c_int(), []
    for part in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL of library_types.h
        _check(library.nvjpegGetProperty(part, ctypes.byref(value)), "nvjpegGetProperty")
        parts.append(value.value)
    return parts[0], parts[1], parts[2]


def _check(status: int, function: str) -> None:
    if status != 0:
        raise _failure(status, function)


def _failure(status: int, function: str, problem: str = "") -> CudaError:
    known = 0 <= status < len(_STATUS_NAMES)
    name = f"NVJPEG_STATUS_{_STATUS_NAMES[status]}" if known else f"NVJPEG_STATUS_{status}"
    words = problem or name.removeprefix("NVJPEG_STATUS_").replace("_", " ").lower()
    return CudaError(  # without a code: it would be taken for one of the driver
        f"{words} ({name}, code {status}, in {function})",
        name=name, subject="nvJPEG", hint=_HINTS.get(status),
    )  # fmt: skip
