"""The CUDA driver: its calls and errors, the GPUs that it shows, and resources that are opened on one.

`probe` asks the driver's library through ctypes, so neither CUDA's packages nor TensorRT have to be installed. Without
a driver, TensorRT returns null objects, and using one of them ends the process (measured with ``tensorrt_lean``). The
driver's library says safely, and in microseconds, whether there is a GPU. Everything else goes through `cuda.bindings`,
by `call`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship._util.closing import Closing
from yoloship._util.fields import is_int
from yoloship.errors import CudaError, DependencyError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager


NO_DRIVER_CODE: Final = 35
"""cudaErrorInsufficientDriver: what the CUDA runtime says if there is no driver, or if it is too old."""

OUT_OF_MEMORY: Final = 2
"""CUDA_ERROR_OUT_OF_MEMORY"""

_LIBRARY: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_COMPUTE_CAPABILITY_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
_COMPUTE_CAPABILITY_MINOR: Final = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, cuda.h
_INTEGRATED: Final = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED, cuda.h
_INSTALL_DRIVER: Final = "install NVIDIA's driver, or use device='cpu'"
_LOST: Final = "the device's context is lost with everything in it: restart the process"
LOST_CODES: Final = frozenset({214, 220, 226, 700, 702, 714, 715, 716, 717, 718, 719, 721})
"""Codes after which a device's context does nothing any more; contexts of other devices go on."""
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
        **dict.fromkeys(LOST_CODES, _LOST),
    }
)
ResourceKind: TypeAlias = Literal[
    "device_buffer", "pinned_buffer", "pinned_block", "stream", "event", "module", "graph"
]


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


def quick(function: str, *types: Any) -> Callable[..., int]:
    """A function of the driver's library for work that is only queued, called without letting go of Python's lock.

    The bindings let go of it in every call. With several threads each call then wakes another one, which takes the
    lock over, and in a virtual machine that takes longer than the call itself.

    Args:
        function: Its name in the library, with the version: ``cuMemcpyHtoDAsync_v2``.
        types: The `ctypes` types of its arguments.

    Returns:
        A function that gives the status code.

    Raises:
        CudaError: the driver is missing or too old.
    """
    _load_library()
    library = ctypes.PyDLL(_LIBRARY)
    try:
        found = getattr(library, function)
    except AttributeError as error:
        raise _too_old(function) from error
    found.restype, found.argtypes = ctypes.c_int, types
    made: Callable[..., int] = found
    return made


def check_quick(code: int, function: str, subject: str) -> None:
    """Raise the error that the status code of such a function stands for, if it is not 0."""
    if code:
        raise failure(code, driver().CUresult(code).name, function, subject)


def missing(package: str) -> DependencyError:
    """The error for a missing package of the extra `cuda`."""
    return DependencyError("is not installed", subject=package, hint="pip install 'yoloship[cuda]'")


def call(function: str, *arguments: object, subject: str | None = None) -> Any:
    """Call the driver.

    Args:
        function: Name of the function, such as ``cuMemAlloc``.
        arguments: Its arguments, as the bindings take them.
        subject: The object that it works on, for the message; None takes the function's name.

    Returns:
        The results beside the status: None, one value, or a tuple.

    Raises:
        CudaError: the driver is missing or too old, or the call failed.
        DependencyError: the package `cuda-bindings` is not installed.
    """
    function_of = getattr(driver(), function, None)
    if function_of is None:
        raise _too_old(function)
    try:
        status, *values = function_of(*arguments)
    except RuntimeError as error:  # the bindings raise this if the library or the function is missing
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
        name: Its name, such as ``NVIDIA H200``.
        compute_capability: (major, minor).
        memory_bytes: Its total memory.
        cuda_version: The highest CUDA version that the driver supports, (major, minor).
        integrated: Whether its memory is the host's, as on Jetson.
    """

    ordinal: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda_version: tuple[int, int]
    integrated: bool = False

    @property
    def sm(self) -> str:
        """The compute capability in the form of a target: ``sm89``."""
        return sm_name(self.compute_capability)


@dataclass(frozen=True, slots=True)
class Probe:
    """What can be found out about CUDA on this machine without creating a context.

    Attributes:
        gpus: The GPUs that can be opened.
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
        return ctypes.CDLL(_LIBRARY)
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
    handle, major, minor, integrated = (ctypes.c_int() for _ in range(4))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _ask(library, "cuDeviceGet", ctypes.byref(handle), ordinal)
    _ask(library, "cuDeviceGetName", name, len(name), handle)
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, handle)
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, handle)
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(integrated), _INTEGRATED, handle)
    _ask(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    title = name.value.decode(errors="replace")
    return GpuInfo(ordinal, title, (major.value, minor.value), memory.value, cuda_version, bool(integrated.value))


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


@dataclass(frozen=True, slots=True)
class Usage:
    """The open resources of a device.

    Attributes:
        counts: The number of open resources of each kind, without kinds that have none.
        device_bytes: Bytes in device buffers.
        pinned_bytes: Bytes in pinned buffers.
    """

    counts: dict[str, int]
    device_bytes: int
    pinned_bytes: int


class _Current:
    """A ``with`` block in which a context is current. Its calls never wait, so they keep Python's lock: see `quick`."""

    __slots__ = ("_address", "_pop", "_push")

    def __init__(self, address: int, push: Callable[..., int], pop: Callable[..., int]) -> None:
        self._address, self._push, self._pop = address, push, pop

    def __enter__(self) -> None:
        check_quick(self._push(self._address), "cuCtxPushCurrent", "CUDA context")

    def __exit__(self, *_: object) -> None:
        check_quick(self._pop(ctypes.byref(ctypes.c_void_p())), "cuCtxPopCurrent", "CUDA context")


class Device(Closing):
    """One GPU's primary context, which torch and CuPy use too. A context manager.

    The context lives until the device and everything that was opened on it are closed. Closing the device first is not
    an error. All methods may be called from many threads.

    Attributes:
        info: The driver's information about it. The other attributes repeat it.
        ordinal: Number of the device among the visible ones.
        name: The driver's name for it.
        compute_capability: (major, minor).
        driver_version: CUDA version that the driver supports, as (major, minor).
        total_bytes: Its total memory.
    """

    __slots__ = (
        "_bytes", "_closed", "_context", "_counts", "_handle", "_lock", "_pid", "_pop", "_push",
        "compute_capability", "driver_version", "info", "name", "ordinal", "total_bytes",
    )  # fmt: skip

    def __init__(self, ordinal: int) -> None:
        driver()  # without the bindings a GPU cannot be used, even if the driver shows one
        found = probe()
        if found.problem is not None:
            raise found.problem
        info = next((gpu for gpu in found.gpus if is_int(ordinal, gpu.ordinal, gpu.ordinal)), None)
        if info is None:
            raise CudaError(
                "no such device (CUDA_ERROR_INVALID_DEVICE, code 101)",
                code=101,
                name="CUDA_ERROR_INVALID_DEVICE",
                subject=f"cuda:{ordinal}",
                expected=f"0 to {len(found.gpus) - 1}",
                got=str(ordinal),
            )
        self.info = info
        self.ordinal, self.name, self.compute_capability = info.ordinal, info.name, info.compute_capability
        self.driver_version, self.total_bytes = info.cuda_version, info.memory_bytes
        call("cuInit", 0)
        self._handle = call("cuDeviceGet", ordinal)
        self._context = call("cuDevicePrimaryCtxRetain", self._handle, subject=str(self))
        self._lock = threading.RLock()  # a finaliser may run, and drop, while this thread holds it
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._closed = False
        self._pid = os.getpid()
        self._push = quick("cuCtxPushCurrent_v2", ctypes.c_void_p)
        self._pop = quick("cuCtxPopCurrent_v2", ctypes.c_void_p)

    @classmethod
    def open(cls, ordinal: int = 0) -> Device:
        """Open a GPU.

        Raises:
            CudaError: the driver is missing or too old, there is no such device, or the context cannot be made.
            DependencyError: the package `cuda-bindings` is not installed.
        """
        return cls(ordinal)

    def __str__(self) -> str:
        return f"cuda:{self.ordinal}"

    @property
    def in_this_process(self) -> bool:
        """False in a child that was forked after the device was opened. A child must neither use nor free anything."""
        return os.getpid() == self._pid

    def current(self) -> AbstractContextManager[None]:
        """Make the context current in this thread inside the block. Afterwards the previous context is current again.

        Raises:
            CudaError: the process was forked, or the device and all its resources are closed.
        """
        if not self.in_this_process:
            raise CudaError(
                "was opened before this process was forked",
                code=3,
                name="CUDA_ERROR_NOT_INITIALIZED",
                subject=str(self),
                hint="open it in the child, and start children with 'spawn'",
            )
        if self._context is None:
            raise self._is_closed()
        return _Current(int(self._context), self._push, self._pop)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device's memory. Memory of other processes is not free."""
        with self.current():
            free, total = call("cuMemGetInfo")
        return int(free), int(total)

    def usage(self) -> Usage:
        """What is open on this device through this object."""
        with self._lock:
            counts = {kind: count for kind, count in sorted(self._counts.items()) if count}
            return Usage(counts, self._bytes["device_buffer"], self._bytes["pinned_buffer"])

    def sync(self) -> None:
        """Wait for all work on the device."""
        with self.current():
            call("cuCtxSynchronize", subject=str(self))

    def hold(self, kind: ResourceKind, size_bytes: int = 0) -> None:
        """Count a resource that is about to be opened. `drop` ends the count.

        Raises:
            CudaError: the device is closed.
        """
        with self._lock:
            if self._closed:
                raise self._is_closed()
            self._counts[kind] += 1
            self._bytes[kind] += size_bytes

    def drop(self, kind: ResourceKind, size_bytes: int = 0) -> None:
        """Count a resource as closed."""
        with self._lock:
            self._counts[kind] -= 1
            self._bytes[kind] -= size_bytes
        self._release_if_unused()

    def close(self) -> None:
        """Refuse new resources, and release the context when the last one is closed. A second call does nothing."""
        with self._lock:
            self._closed = True
        self._release_if_unused()

    def _release_if_unused(self) -> None:
        with self._lock:
            if not self._closed or self._context is None or any(self._counts.values()):
                return
            self._context = None
        if self.in_this_process:
            call("cuDevicePrimaryCtxRelease", self._handle, subject=str(self))

    def _is_closed(self) -> CudaError:
        return CudaError("is closed", code=201, name="CUDA_ERROR_INVALID_CONTEXT", subject=str(self))


def parse_device(text: str) -> int:
    """The ordinal in ``cuda`` or ``cuda:N``.

    Raises:
        InputError: the text is neither.
    """
    name, colon, number = text.partition(":")
    if name != "cuda" or (colon and not (number.isascii() and number.isdecimal() and len(number) < 4)):
        raise InputError("no such device", subject="device", expected="cuda or cuda:N", got=text)
    return int(number or 0)


def parse_devices(text: str) -> tuple[int, ...]:
    """The ordinals in ``cuda``, ``cuda:N``, ``cuda:N,cuda:M`` (also ``cuda:N,M``) or ``cuda:all``.

    Returns:
        One or more ordinals, in the order of the text. ``cuda:all`` gives every GPU that the driver shows, and 0 if
        there is none: opening that one says what is missing.

    Raises:
        InputError: the text is something else, or names a GPU twice.
    """
    if text == "cuda:all":
        return tuple(gpu.ordinal for gpu in find_gpus()) or (0,)
    first, *others = text.split(",")
    if others and ":" not in first:
        raise InputError("no such device", subject="device", expected="cuda:N,cuda:M", got=text)
    ordinals = (parse_device(first), *(parse_device(f"cuda:{part.removeprefix('cuda:')}") for part in others))
    if len(set(ordinals)) < len(ordinals):
        raise InputError("names a GPU twice", subject="device", expected="each GPU once", got=text)
    return ordinals


class Resource(Closing):
    """Base of everything that is opened on a device. A context manager. Closing it twice is not an error.

    Subclasses open the handle in `_acquire` and release it in `_release`. Both run with the device's context current.
    """

    __slots__ = ("_handle", "_kind", "_lock", "_size_bytes", "device")

    def __init__(self, device: Device, kind: ResourceKind, size_bytes: int = 0) -> None:
        self.device = device
        self._kind: ResourceKind = kind
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._handle: Any = None
        device.hold(kind, size_bytes)
        try:
            with device.current():
                self._handle = self._acquire()
        except BaseException:
            device.drop(kind, size_bytes)
            raise

    @abstractmethod
    def _acquire(self) -> Any:
        """Open the handle."""

    @abstractmethod
    def _release(self, handle: Any) -> None:
        """Release the handle."""

    @property
    def handle(self) -> Any:
        """The driver's handle, in the type of the bindings.

        Raises:
            CudaError: it is closed.
        """
        if self._handle is None:
            raise CudaError(
                "is closed", code=400, name="CUDA_ERROR_INVALID_HANDLE", subject=self._kind.replace("_", " ")
            )
        return self._handle

    @property
    def is_closed(self) -> bool:
        """Whether the handle was released."""
        return self._handle is None

    def close(self) -> None:
        """Release the handle. In a forked child it is only forgotten, because it belongs to the parent."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            if self.device.in_this_process:
                with self.device.current():
                    self._release(handle)
        finally:
            self.device.drop(self._kind, self._size_bytes)
