"""A GPU and its primary context, `Device`, and `Resource`: a handle on it that is given back exactly once."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from yoloship._util.closing import Closing
from yoloship._util.fields import is_int
from yoloship.cuda.driver import call, driver, probe
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


ResourceKind: TypeAlias = Literal[
    "device_buffer", "pinned_buffer", "pinned_block", "stream", "event", "module", "graph"
]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a device's user holds at a moment.

    Attributes:
        counts: Live resources of each kind; kinds that there are none of are left out.
        device_bytes: In device buffers.
        pinned_bytes: In pinned buffers.
    """

    counts: dict[str, int]
    device_bytes: int
    pinned_bytes: int


class Device(Closing):
    """One GPU's primary context, which torch and CuPy use too. Close it when done; a context manager.

    What was opened on it keeps the context until it is closed itself: closing the device first is not an error. All
    methods may be called from many threads.

    Attributes:
        info: What the driver says about it; the other attributes repeat it.
        ordinal: Number of the device among the visible ones.
        name: As the driver calls it.
        compute_capability: (major, minor).
        driver_version: CUDA version that the driver supports, as (major, minor).
        total_bytes: Its memory in all.
    """

    __slots__ = (
        "_bytes", "_closed", "_context", "_counts", "_handle", "_lock", "_pid",
        "compute_capability", "driver_version", "info", "name", "ordinal", "total_bytes",
    )  # fmt: skip

    def __init__(self, ordinal: int) -> None:
        driver()  # without the bindings nothing can be done with a GPU, whatever the driver shows
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

    @classmethod
    def open(cls, ordinal: int = 0) -> Device:
        """Open a GPU.

        Raises:
            CudaError: no driver, one that is too old, no such device, or the context cannot be made.
            DependencyError: the package `cuda-bindings` is not installed.
        """
        return cls(ordinal)

    def __str__(self) -> str:
        return f"cuda:{self.ordinal}"

    @property
    def in_this_process(self) -> bool:
        """False in a child forked after the device was opened: there nothing of it may be used, or given back."""
        return os.getpid() == self._pid

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread for a while, and what was current before it afterwards.

        Raises:
            CudaError: the process was forked, or the device is closed and nothing holds it any more.
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
        call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            call("cuCtxPopCurrent")

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device's memory, other processes' use included."""
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
        """Count a resource that is about to be opened; `drop` takes it back.

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
        """Refuse new resources, and give the context back once the last one is closed; a second call does nothing."""
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


class Resource(Closing):
    """Base of all that is opened on a device. A context manager; closing it twice is not an error.

    Subclasses open the handle in `_acquire` and give it back in `_release`; both run with the device's context current.
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
        """Give the handle back."""

    @property
    def handle(self) -> Any:
        """The driver's handle, as the bindings have it.

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
        """Whether the handle was given back."""
        return self._handle is None

    def close(self) -> None:
        """Give the handle back. In a forked child it is only forgotten: it belongs to the parent."""
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
