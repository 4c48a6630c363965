"""Frames that other libraries hold on the GPU, without a copy: DLPack and `__cuda_array_interface__`."""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship.cuda.device import call, check_quick, driver, quick
from yoloship.cuda.stream import BorrowedStream, Event
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream


_ON_CUDA: Final = 2
"""kDLCUDA. Managed and pinned memory have other numbers, and are not taken here."""
_DEVICE_ORDINAL: Final = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, cuda.h


@dataclass(frozen=True, slots=True)
class ForeignArray:
    """An array in device memory.

    Attributes:
        pointer: Address of its first element.
        shape: Extents, outermost first.
        strides_bytes: Steps along each axis.
        dtype: A NumPy type string without the byte order: `u1`, `f4`.
    """

    pointer: int
    shape: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    dtype: str


class ForeignFrame(Closing):
    """An image that another library holds on the device, ready for work on one of our streams. A context manager.

    The stream, not the caller, waits for the work that the owner queued before. The owner's memory is kept alive until
    `close`. Call it after the stream has done the work that reads the image.

    Args:
        array: Any object with `__dlpack__` or `__cuda_array_interface__`: a torch tensor, a CuPy array.
        stream: The stream that will read it.
        mark: What may be used to order the two streams; no other thread uses it meanwhile. None makes one if need be.

    Attributes:
        pointer: Address of its first pixel.
        image_hw: (height, width) in pixels.
        pitch_bytes: Distance from one row to the next.

    Raises:
        InputError: it is not a (height, width, 3) uint8 array on this device with adjacent pixels in a row.
    """

    __slots__ = ("_capsule", "_owner", "image_hw", "pitch_bytes", "pointer")

    def __init__(self, array: Any, stream: Stream, mark: Event | None = None) -> None:
        self._owner: Any = array
        self._capsule: Any = None
        if _is_plain_tensor(array, stream.device.ordinal):
            view = _read_tensor(array, stream, mark)
        elif hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
            kind, ordinal = array.__dlpack_device__()
            if int(kind) != _ON_CUDA:
                raise _refused("memory of a CUDA device", f"DLPack device type {int(kind)}")
            if int(ordinal) != stream.device.ordinal:
                raise _refused(str(stream.device), f"cuda:{int(ordinal)}")
            self._capsule = array.__dlpack__(stream=stream.address)
            view = _read_capsule(self._capsule)
        elif hasattr(array, "__cuda_array_interface__"):
            view = _read_interface(array.__cuda_array_interface__, stream)
        else:
            raise _refused("__dlpack__ or __cuda_array_interface__", type(array).__name__)
        self.image_hw, self.pitch_bytes = _check_frame(view)
        self.pointer = view.pointer

    def close(self) -> None:
        """Release the owner's memory. Closing it twice is not an error."""
        self._capsule = None  # an unconsumed capsule's own destructor calls the owner's deleter
        self._owner = None


def ordinal_of(array: Any) -> int | None:
    """The number of the GPU on which an array of another library lies; None if it lies on none, or does not say it.

    Args:
        array: Any object with `__dlpack__` or `__cuda_array_interface__`.

    Raises:
        CudaError: the driver does not know the address.
    """
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        kind, ordinal = array.__dlpack_device__()
        return int(ordinal) if int(kind) == _ON_CUDA else None
    interface = getattr(array, "__cuda_array_interface__", None)
    pointer = int(interface["data"][0]) if interface else 0
    return _ordinal(pointer) if pointer else None


class HandedFrame(ForeignFrame):
    """A frame that one thread hands to another.

    A library orders its work by the stream that is current in the thread that requests the array. So the array is
    requested here, in the thread that hands it over, and an event tells the other thread's stream when the frame is
    ready. Close it after the stream has done the work that reads it.

    Args:
        array: Any object with `__dlpack__` or `__cuda_array_interface__`, as for `ForeignFrame`.
        stream: The event is recorded on it. It may be any stream of the device without other work.

    Raises:
        InputError: it is not a (height, width, 3) uint8 array on this device with adjacent pixels in a row.
    """

    __slots__ = ("_ready",)

    @property
    def device(self) -> Device:
        """Where it lies."""
        return self._ready.device

    def __init__(self, array: Any, stream: Stream) -> None:
        self._ready = Event(stream.device)
        try:
            super().__init__(array, stream, self._ready)
            stream.record(self._ready)
        except BaseException:
            self._ready.close()
            raise

    def wait_on(self, stream: Stream) -> None:
        """Make later work on a stream wait until the frame has been written."""
        stream.wait(self._ready)

    def close(self) -> None:
        """Release the owner's memory and the event. Closing it twice is not an error."""
        super().close()
        self._ready.close()


def _is_plain_tensor(array: Any, ordinal: int) -> bool:
    """Whether an array is a tensor of torch that has its pixels on a GPU, so that torch itself says where they are.

    Asking it takes a third of the time of a DLPack capsule, which torch makes in Python.
    """
    torch: Any = sys.modules.get("torch")
    return (
        torch is not None
        and type(array) is getattr(torch, "Tensor", None)
        and array.is_cuda
        and array.dtype is torch.uint8
        and array.layout is torch.strided
        and array.get_device() == ordinal
    )


def _read_tensor(tensor: Any, stream: Stream, mark: Event | None) -> ForeignArray:
    """The array in a tensor of torch. Our stream waits for the stream that is current in torch, as with DLPack."""
    torch: Any = sys.modules["torch"]
    theirs = int(torch.cuda.current_stream(stream.device.ordinal).cuda_stream)
    if theirs != stream.address:
        with nullcontext(mark) if mark is not None else Event(stream.device) as event, stream.device.current():
            call("cuEventRecord", event.handle, driver().CUstream(theirs), subject="torch's stream")
            call("cuStreamWaitEvent", stream.handle, event.handle, 0, subject="stream")
    return ForeignArray(tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), "u1")


class _DLTensor(ctypes.Structure):
    """Source: DLPack's specification of the C structure, version 0.8 (the capsule named `dltensor`)."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("type_code", ctypes.c_uint8),
        ("type_bits", ctypes.c_uint8),
        ("type_lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _read_capsule(capsule: object) -> ForeignArray:
    """The array in a DLPack capsule. The capsule is not consumed, so its destructor releases the memory."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _DLTensor.from_address(get_pointer(capsule, b"dltensor"))
    kinds = {0: "i", 1: "u", 2: "f"}
    bytes_each = tensor.type_bits // 8
    dtype = f"{kinds.get(tensor.type_code, '?')}{bytes_each}" + (f"x{tensor.type_lanes}" * (tensor.type_lanes != 1))
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if tensor.strides:
        strides = tuple(tensor.strides[axis] * bytes_each for axis in range(tensor.ndim))
    else:
        strides = _contiguous(shape, bytes_each)
    return ForeignArray((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype)


def _read_interface(interface: dict[str, Any], stream: Stream) -> ForeignArray:
    """The array in a `__cuda_array_interface__` (version 2 or 3). If it names a stream, our stream waits for it."""
    shape = tuple(int(extent) for extent in interface["shape"])
    dtype = str(interface["typestr"])[1:]
    if interface.get("mask") is not None:
        raise _refused("an array without a mask", "a masked one")
    strides = interface.get("strides")
    theirs = interface.get("stream")
    if theirs is not None:
        with stream.device.current(), Event(stream.device) as event, BorrowedStream(stream.device, theirs) as source:
            source.record(event)
            stream.wait(event)
    pointer = int(interface["data"][0])
    if pointer:
        _check_device(pointer, stream)
    bytes_each = int(dtype[1:])
    return ForeignArray(
        pointer, shape, tuple(map(int, strides)) if strides is not None else _contiguous(shape, bytes_each), dtype
    )


def _check_device(pointer: int, stream: Stream) -> None:
    ordinal = _ordinal(pointer)
    if ordinal != stream.device.ordinal:
        raise _refused(str(stream.device), f"cuda:{ordinal}")


def _ordinal(pointer: int) -> int:
    """The number of the GPU that an address of device memory belongs to. No context need be current."""
    ordinal = ctypes.c_int()
    code = _pointer_attribute()(ctypes.byref(ordinal), _DEVICE_ORDINAL, pointer)
    check_quick(code, "cuPointerGetAttribute", "__cuda_array_interface__")
    return ordinal.value


@cache  # to look it up takes much longer than to call it
def _pointer_attribute() -> Callable[..., int]:
    # Not by the bindings: several releases answer 0 for every GPU (https://github.com/NVIDIA/cuda-python/issues/2928).
    return quick("cuPointerGetAttribute", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _check_frame(view: ForeignArray) -> tuple[tuple[int, int], int]:
    if view.dtype != "u1":
        raise _refused("uint8 (u1)", view.dtype)
    if len(view.shape) != 3 or view.shape[2] != 3 or 0 in view.shape:
        raise _refused("(height, width, 3), none of them 0", str(view.shape))
    height, width, _ = view.shape
    row, pixel, channel = view.strides_bytes
    pitch = row if height > 1 else max(row, 3 * width)
    if channel != 1 or (width > 1 and pixel != 3) or pitch < 3 * width:
        raise _refused(
            "adjacent channels and pixels, rows in order", f"strides {view.strides_bytes}", "make it contiguous"
        )
    return (height, width), pitch


def _contiguous(shape: tuple[int, ...], bytes_each: int) -> tuple[int, ...]:
    strides = [bytes_each]
    for extent in shape[:0:-1]:
        strides.append(strides[-1] * extent)
    return tuple(reversed(strides))


def _refused(expected: str, got: str, hint: str | None = None) -> InputError:
    return InputError("cannot be used as a frame", subject="GPU array", expected=expected, got=got, hint=hint)
