"""Queues of work on the GPU: `Stream`, and the `Event` that marks a point in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yoloship.cuda._driver import call, driver
from yoloship.cuda._resource import Resource
from yoloship.errors import InputError

if TYPE_CHECKING:
    from yoloship.cuda.device import Device


class Stream(Resource):
    """A queue of work on the device, which never waits for the default stream.

    Args:
        device: Where it runs.
    """

    __slots__ = ()

    def __init__(self, device: Device) -> None:
        super().__init__(device, "stream")

    def _acquire(self) -> Any:
        return call("cuStreamCreate", int(driver().CUstream_flags.CU_STREAM_NON_BLOCKING), subject="stream")

    def _release(self, handle: Any) -> None:
        call("cuStreamDestroy", handle, subject="stream")

    def __cuda_stream__(self) -> tuple[int, int]:
        """Version 0 of the protocol, and the address of the stream."""
        return 0, int(self.handle)

    @property
    def address(self) -> int:
        """Of the stream, as an integer: what `execute_async_v3` and DLPack take."""
        return int(self.handle)

    def sync(self) -> None:
        """Wait until all work queued so far is done.

        Raises:
            CudaError: the work failed, or the device is lost.
        """
        with self.device.current():
            call("cuStreamSynchronize", self.handle, subject="stream")

    def is_idle(self) -> bool:
        """Whether all work queued so far is done; does not wait.

        Raises:
            CudaError: the work failed, or the device is lost.
        """
        with self.device.current():
            bindings = driver()
            status = bindings.cuStreamQuery(self.handle)[0]
            if status == bindings.CUresult.CUDA_ERROR_NOT_READY:
                return False
            call("cuStreamQuery", self.handle, subject="stream")
            return True

    def is_recording(self) -> bool:
        """Whether what is queued now goes into a `Graph` instead of running."""
        with self.device.current():
            return int(call("cuStreamIsCapturing", self.handle, subject="stream")) != 0

    def record(self, event: Event) -> None:
        """Mark this point of the queue."""
        with self.device.current():
            call("cuEventRecord", event.handle, self.handle, subject="stream")

    def record_in_graph(self, event: Event) -> None:
        """Mark this point of a graph that is being recorded on this stream: each launch of it sets the mark anew."""
        with self.device.current():
            external = int(driver().CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
            call("cuEventRecordWithFlags", event.handle, self.handle, external, subject="stream")

    def wait(self, event: Event) -> None:
        """Let later work on this stream wait for the mark; the caller does not wait."""
        with self.device.current():
            call("cuStreamWaitEvent", self.handle, event.handle, 0, subject="stream")


class BorrowedStream(Stream):
    """Somebody else's stream, who must keep it alive; closing it here leaves it as it is.

    Args:
        device: Where it runs.
        stream: An object with `__cuda_stream__`, a torch stream (`cuda_stream`), a CuPy stream (`ptr`), or its address.

    Raises:
        InputError: it is none of these.
    """

    __slots__ = ("_address",)

    def __init__(self, device: Device, stream: object) -> None:
        self._address = stream_address(stream)
        super().__init__(device)

    def _acquire(self) -> Any:
        return driver().CUstream(self._address)

    def _release(self, handle: Any) -> None:
        """It stays with its owner."""


class Event(Resource):
    """A mark in a stream that others can wait for.

    Args:
        device: Where it is used.
        timing: Whether `elapsed_ms` can be asked of it.
    """

    __slots__ = ("_flags",)

    def __init__(self, device: Device, *, timing: bool = False) -> None:
        flags = driver().CUevent_flags
        self._flags = int(flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING)
        super().__init__(device, "event")

    def _acquire(self) -> Any:
        return call("cuEventCreate", self._flags, subject="event")

    def _release(self, handle: Any) -> None:
        call("cuEventDestroy", handle, subject="event")

    def sync(self) -> None:
        """Wait until the work before the mark is done."""
        with self.device.current():
            call("cuEventSynchronize", self.handle, subject="event")

    def elapsed_ms(self, since: Event) -> float:
        """Milliseconds between two marks, both reached already."""
        with self.device.current():
            return float(call("cuEventElapsedTime", since.handle, self.handle, subject="event"))


def stream_address(stream: object) -> int:
    """The address of a stream of any library; 0 is the default stream.

    Raises:
        InputError: the object is no stream.
    """
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, address = protocol() if callable(protocol) else protocol
        if version != 0:
            raise InputError("unknown version of __cuda_stream__", subject="stream", expected="0", got=str(version))
        return int(address)
    for value in (getattr(stream, "cuda_stream", None), getattr(stream, "ptr", None), stream):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    raise InputError(
        "is not a CUDA stream", subject="stream", expected="__cuda_stream__ or an address", got=type(stream).__name__
    )
