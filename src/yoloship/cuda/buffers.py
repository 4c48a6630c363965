"""Memory that kernels and copies can use: on the device, and pinned on the host."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from yoloship._util.fields import is_int
from yoloship.cuda.device import OUT_OF_MEMORY, Resource, call, driver, quick
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream

    Scalar = TypeVar("Scalar", bound=np.generic)


class DeviceBuffer(Resource):
    """A block of the device's memory, not initialised.

    Args:
        device: The device.
        size_bytes: 1 or more.

    Raises:
        CudaError: out of memory. The message says how much was requested and how much is free.
    """

    __slots__ = ()

    def __init__(self, device: Device, size_bytes: int) -> None:
        _check_size(size_bytes)
        super().__init__(device, "device_buffer", size_bytes)

    def _acquire(self) -> Any:
        try:
            return call("cuMemAlloc", self._size_bytes, subject="device memory")
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            free, total = call("cuMemGetInfo")
            raise _out_of_memory(
                error, self._size_bytes, f"{size_text(int(free))} free of {size_text(int(total))} on {self.device}"
            ) from error

    def _release(self, handle: Any) -> None:
        call("cuMemFree", handle, subject="device memory")

    @property
    def pointer(self) -> int:
        """Its address on the device."""
        return int(self.handle)

    @property
    def size_bytes(self) -> int:
        """As it was asked for."""
        return self._size_bytes


class PinnedBuffer(Resource):
    """Host memory that the device copies from and to at full speed, and can also read itself. It is not initialised.

    Args:
        device: The device whose context pins it. All devices can use it.
        size_bytes: 1 or more.

    Raises:
        CudaError: the memory cannot be pinned.
    """

    __slots__ = ()

    def __init__(self, device: Device, size_bytes: int) -> None:
        _check_size(size_bytes)
        super().__init__(device, "pinned_buffer", size_bytes)

    def _acquire(self) -> Any:
        return _PinnedBlock(self.device, self._size_bytes)

    def _release(self, handle: Any) -> None:
        """Do nothing: the memory is freed with the last array that views it."""

    @property
    def pointer(self) -> int:
        """Its address, the same on the host and on the device."""
        return int(self.handle.address)

    @property
    def size_bytes(self) -> int:
        """As it was asked for."""
        return self._size_bytes

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...], offset_bytes: int = 0) -> npt.NDArray[Any]:
        """View a part of the memory as an array. The array's memory stays valid even after `close`.

        Args:
            dtype: The element type.
            shape: The shape of the array.
            offset_bytes: Where it begins.

        Raises:
            InputError: the part goes past the end.
        """
        wanted = np.dtype(dtype)
        size = wanted.itemsize * math.prod(shape)
        if offset_bytes < 0 or offset_bytes + size > self._size_bytes:
            raise InputError(
                "goes past the end",
                subject="pinned buffer",
                expected=f"at most {self._size_bytes} bytes",
                got=f"{offset_bytes} + {size}",
            )
        whole = np.asarray(self.handle)
        return whole[offset_bytes : offset_bytes + size].view(wanted).reshape(shape)


class _PinnedBlock:
    """The memory itself. NumPy views keep it alive, and it is freed with the last of them."""

    __slots__ = ("__array_interface__", "__weakref__", "address")

    def __init__(self, device: Device, size_bytes: int) -> None:
        device.hold("pinned_block")
        try:
            self.address = _pin(size_bytes)
        except BaseException:
            device.drop("pinned_block")
            raise
        self.__array_interface__ = {
            "shape": (size_bytes,), "typestr": "|u1", "data": (self.address, False), "version": 3,
        }  # fmt: skip
        weakref.finalize(self, _unpin, device, self.address).atexit = False  # the end of the process frees it anyway


class PinnedMemory:
    """Distinguishes pinned host memory from ordinary memory, also if another library pinned it."""

    __slots__ = ("_host", "_kind", "_pointer", "_query")

    def __init__(self) -> None:
        bindings = driver()
        attribute = bindings.CUpointer_attribute
        self._query = quick("cuPointerGetAttribute", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._kind = int(attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
        self._pointer = int(attribute.CU_POINTER_ATTRIBUTE_DEVICE_POINTER)
        self._host = int(bindings.CUmemorytype.CU_MEMORYTYPE_HOST)

    def addresses(self, array: npt.NDArray[np.generic]) -> tuple[int, int] | None:
        """The addresses of an array's memory for the host and for the device; None if it is not pinned.

        Args:
            array: A C-contiguous array on the host.
        """
        ours = pinned_address(array)
        if ours is not None:
            return ours, ours
        address = _address(array)
        kind = ctypes.c_uint()
        if self._query(ctypes.byref(kind), self._kind, address) or kind.value != self._host:
            return None
        pointer = ctypes.c_uint64()
        return None if self._query(ctypes.byref(pointer), self._pointer, address) else (address, pointer.value)


def pinned_address(array: npt.NDArray[np.generic]) -> int | None:
    """The address of an array in a `PinnedBuffer`, the same for host and device; None for other arrays."""
    base: object = array.base
    whole: npt.NDArray[np.generic] = array
    while isinstance(base, np.ndarray):
        whole, base = base, base.base
    if type(base) is not _PinnedBlock:
        return None
    return base.address if whole.nbytes == array.nbytes else _address(array)


def _address(array: npt.NDArray[np.generic]) -> int:
    """Where a C-contiguous array begins."""
    if array.flags.writeable and array.size:  # five times as quick as the way for all
        memory: Any = array
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return array.ctypes.data


def _pin(size_bytes: int) -> int:
    portable_and_mapped = 1 | 2
    try:
        return int(call("cuMemHostAlloc", size_bytes, portable_and_mapped, subject="pinned host memory"))
    except CudaError as error:
        if error.code != OUT_OF_MEMORY:
            raise
        raise _out_of_memory(error, size_bytes, "the host would not pin that much") from error


def _unpin(device: Device, address: int) -> None:
    try:
        if device.in_this_process:
            with device.current():
                call("cuMemFreeHost", address, subject="pinned host memory")
    finally:
        device.drop("pinned_block")


def upload(stream: Stream, target: int, source: npt.NDArray[np.generic]) -> None:
    """Queue a copy from the host to the device.

    A copy from pinned memory runs while the caller goes on. The array must not change until the stream has done it.
    Other memory is first copied by the driver, and the array may change when this returns.

    Args:
        stream: The stream of the copy.
        target: Address on the device.
        source: C-contiguous, any dtype.

    Raises:
        InputError: the array is not contiguous.
    """
    if not source.flags.c_contiguous:
        raise InputError("is not contiguous", subject="upload", hint="pass numpy.ascontiguousarray(array)")
    with stream.device.current():
        call("cuMemcpyHtoDAsync", target, source.ctypes.data, source.nbytes, stream.handle, subject="upload")


def download(stream: Stream, target: npt.NDArray[np.generic], source: int) -> None:
    """Queue a copy from the device to the host. The array has the data after the stream has done the copy.

    Args:
        stream: The stream of the copy.
        target: C-contiguous and writeable. If it is not pinned, the caller waits in the driver.
        source: Address on the device.

    Raises:
        InputError: the array is not contiguous, or read-only.
    """
    if not (target.flags.c_contiguous and target.flags.writeable):
        raise InputError("is not contiguous, or is read-only", subject="download")
    with stream.device.current():
        call("cuMemcpyDtoHAsync", target.ctypes.data, source, target.nbytes, stream.handle, subject="download")


def fill_words(stream: Stream, target: int, value: int, count: int) -> None:
    """Queue setting `count` 32-bit words on the device, from the address `target` on."""
    with stream.device.current():
        call("cuMemsetD32Async", target, value, count, stream.handle, subject="fill")


def size_text(size_bytes: int) -> str:
    """Bytes for people: ``1.5 GiB (1610612736 bytes)``."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size_bytes} bytes" if unit == "bytes" else f"{value:.1f} {unit} ({size_bytes} bytes)"


def _check_size(size_bytes: int) -> None:
    if not is_int(size_bytes, 1, 2**63 - 1):
        raise InputError("cannot be allocated", subject="buffer", expected="1 byte or more", got=repr(size_bytes))


def _out_of_memory(error: CudaError, asked_bytes: int, state: str) -> CudaError:
    return CudaError(
        f"out of memory ({error.name}, code {error.code}): asked for {size_text(asked_bytes)}, {state}",
        code=error.code,
        name=error.name,
        subject=error.subject,
        hint=error.hint,
    )
