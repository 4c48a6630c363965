"""Streams of work on the GPU, events that mark points in them, and graphs: work recorded once and replayed."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship._util.fields import is_int
from yoloship.cuda.device import Resource, call, check_quick, driver, failure, quick
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from yoloship.cuda.device import Device


_RECORDING: Final = threading.Lock()
"""Held by the thread that records a graph, because garbage collection is switched off for the whole process."""
_NOT_READY: Final = 600
"""CUDA_ERROR_NOT_READY"""
_ASLEEP: Final = 0.75
"""The part of its usual time for which a thread hardly asks whether the work is done."""
_LOOKS: Final = 8
"""It asks so often in its usual time, because the work may be far shorter this time, and others may wait for it."""
_LOOK_S: Final = 2e-4
"""Then it sleeps for so long between two questions. To ask all the time takes a core for each thread that waits. If it
slept until the driver wakes it, 32 JPEGs would take the same GPU 15 ms instead of 10."""


class Stream(Resource):
    """A queue of work on the device, which never waits for the default stream.

    Args:
        device: The device on which it runs.
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
        """The stream's address as an integer, as `execute_async_v3` and DLPack take it."""
        return int(self.handle)

    def sync(self) -> None:
        """Wait until all work queued so far is done.

        Raises:
            CudaError: the work failed, or the device is lost.
        """
        with self.device.current():
            call("cuStreamSynchronize", self.handle, subject="stream")

    def is_idle(self) -> bool:
        """Whether all work queued so far is done. It does not wait.

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
        """Whether work that is queued now goes into a `Graph` instead of running."""
        with self.device.current():
            return int(call("cuStreamIsCapturing", self.handle, subject="stream")) != 0

    def record(self, event: Event) -> None:
        """Mark this point of the queue."""
        with self.device.current():
            call("cuEventRecord", event.handle, self.handle, subject="stream")

    def record_in_graph(self, event: Event) -> None:
        """Mark this point of a graph that is being recorded on this stream. Each launch of the graph sets the mark."""
        with self.device.current():
            external = int(driver().CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
            call("cuEventRecordWithFlags", event.handle, self.handle, external, subject="stream")

    def wait(self, event: Event) -> None:
        """Make later work on this stream wait for the mark. The caller does not wait."""
        with self.device.current():
            call("cuStreamWaitEvent", self.handle, event.handle, 0, subject="stream")


class BorrowedStream(Stream):
    """A stream of another library, which must keep it alive. Closing it here does not change it.

    Args:
        device: The device on which it runs.
        stream: An object with `__cuda_stream__`, a torch stream (`cuda_stream`), a CuPy stream (`ptr`), or its address.

    Raises:
        InputError: the object is not a stream.
    """

    __slots__ = ("_address",)

    def __init__(self, device: Device, stream: object) -> None:
        self._address = stream_address(stream)
        super().__init__(device)

    def _acquire(self) -> Any:
        return driver().CUstream(self._address)

    def _release(self, handle: Any) -> None:
        """Do nothing, because the owner closes it."""


class Event(Resource):
    """A mark in a stream that other streams and threads can wait for.

    Args:
        device: The device on which it is used.
        timing: Whether `elapsed_ms` can use it.
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

    @property
    def address(self) -> int:
        """The mark's address as an integer."""
        return int(self.handle)

    def hold(self, stream: Stream) -> None:
        """Make later work on a stream wait for the mark. The caller does not wait."""
        stream.wait(self)

    def sync(self) -> None:
        """Wait until the work before the mark is done."""
        with self.device.current():
            call("cuEventSynchronize", self.handle, subject="event")

    def elapsed_ms(self, since: Event) -> float:
        """Milliseconds between two marks. Both must have been reached already."""
        with self.device.current():
            return float(call("cuEventElapsedTime", since.handle, self.handle, subject="event"))


class Fence(Closing):
    """The end of what a stream has been given until somebody waits for it. Threads may share it.

    One fence is enough for all that another library queues: an `Event` for each piece of its work would have to be
    recorded each time.

    Args:
        stream: Of the other library; it stays open until the fence is closed.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._event = Event(stream.device)

    def hold(self, stream: Stream) -> None:
        """Make later work on a stream wait until all is done that the other has been given before this call.

        Raises:
            CudaError: the device failed, or the fence is closed.
        """
        with self._lock:  # another thread must not move the mark in between
            self._stream.record(self._event)
            stream.wait(self._event)

    def close(self) -> None:
        """Give the event back. Closing twice is not an error."""
        self._event.close()


class Graph(Resource):
    """Work on a stream, recorded as one unit. It holds addresses, not buffers, so the buffers must outlive it.

    Args:
        stream: The stream for recording. It is idle, and is not the default stream.
        work: Queues kernels and copies on that stream. It is called once, and nothing runs yet. It must neither
            allocate nor wait. If it raises, the recording is dropped and the error is raised again.

    Raises:
        CudaError: a queued operation cannot be recorded.
    """

    __slots__ = ("_stream", "_work")

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        self._stream = stream
        self._work = work
        super().__init__(stream.device, "graph")

    def _acquire(self) -> Any:
        mode = driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with _nothing_collected():
            call("cuStreamBeginCapture", self._stream.handle, mode, subject="graph")
            try:
                self._work()
            except BaseException:
                self._abandon()
                raise
            recorded = call("cuStreamEndCapture", self._stream.handle, subject="graph")
        try:
            return call("cuGraphInstantiate", recorded, 0, subject="graph")
        finally:
            call("cuGraphDestroy", recorded, subject="graph")

    def _abandon(self) -> None:
        try:
            recorded = call("cuStreamEndCapture", self._stream.handle, subject="graph")
        except CudaError:
            return  # the recording was invalid already, and the caller gets that error
        if recorded is not None and int(recorded):
            call("cuGraphDestroy", recorded, subject="graph")

    def _release(self, handle: Any) -> None:
        call("cuGraphExecDestroy", handle, subject="graph")

    @property
    def address(self) -> int:
        """The recorded graph's address as an integer."""
        return int(self.handle)

    def launch(self, stream: Stream) -> None:
        """Queue all of the recorded work.

        Raises:
            CudaError: the launch failed.
        """
        with self.device.current():
            call("cuGraphLaunch", self.handle, stream.handle, subject="graph")


class Pace:
    """How long work of one kind takes.

    Attributes:
        usual_s: Seconds of the quicker one of the last two, because one that makes something takes far longer; 0 until
            there are two.
    """

    __slots__ = ("_last_s", "usual_s")

    def __init__(self) -> None:
        self.usual_s = self._last_s = 0.0

    def note(self, took_s: float) -> None:
        """Note how long it took this time."""
        self.usual_s, self._last_s = min(took_s, self._last_s), took_s


class StreamCalls:
    """The few calls on a stream that every frame needs, inside ``with calls:``, which makes the context current.

    The GPU waits while the host makes these calls. The general functions (`buffers.upload`, `Graph.launch`,
    `Stream.sync`) make the context current and look up their driver function each time, which takes three to five
    microseconds. Here the context is made current once for all calls of a frame, and nothing is looked up or allocated.
    Only the two that wait let go of Python's lock: see `device.quick`.

    Threads may share it, each inside its own ``with calls:``. It owns nothing, and cannot be used after the stream is
    closed.

    Args:
        stream: The stream of all calls.
    """

    __slots__ = (
        "_context", "_copy", "_handle", "_hold", "_launch", "_ok", "_pid", "_pop", "_popped", "_push", "_query",
        "_record", "_stream", "_wait", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream) -> None:
        bindings = driver()
        self.stream = stream
        self._handle: Any = stream.handle
        self._stream = stream.address
        with stream.device.current():
            self._context = int(call("cuCtxGetCurrent"))
        self._ok = bindings.CUresult.CUDA_SUCCESS
        pointer = ctypes.c_void_p
        self._popped = ctypes.byref(pointer())
        self._push = quick("cuCtxPushCurrent_v2", pointer)
        self._pop = quick("cuCtxPopCurrent_v2", pointer)
        self._copy = quick("cuMemcpyHtoDAsync_v2", pointer, pointer, ctypes.c_size_t, pointer)
        self._launch = quick("cuGraphLaunch", pointer, pointer)
        self._record = quick("cuEventRecord", pointer, pointer)
        self._hold = quick("cuStreamWaitEvent", pointer, pointer, ctypes.c_uint)
        self._query = quick("cuStreamQuery", pointer)
        self._wait = bindings.cuStreamSynchronize
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        if self._pid != os.getpid() or self.stream.is_closed:
            with self.stream.device.current():  # raises in a forked child
                self.stream.handle  # noqa: B018 - raises if it is closed
        check_quick(self._push(self._context), "cuCtxPushCurrent", "stream")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pop(self._popped)

    def upload(self, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy from pinned memory, which must not change until the stream has done it.

        If both addresses are the same, there is nothing to copy: the device reads the host's memory.

        Args:
            target: Address on the device.
            source: Address on the host.
            size_bytes: 1 or more.

        Raises:
            CudaError: the copy cannot be queued.
        """
        if target == source:
            return
        if code := self._copy(target, source, size_bytes, self._stream):
            check_quick(code, "cuMemcpyHtoDAsync", "upload")

    def launch(self, graph: Graph) -> None:
        """Queue a recorded graph.

        Raises:
            CudaError: the launch failed.
        """
        check_quick(self._launch(graph.address, self._stream), "cuGraphLaunch", "graph")

    def record(self, event: Event) -> None:
        """Mark this point of the queue."""
        check_quick(self._record(event.address, self._stream), "cuEventRecord", "stream")

    def hold(self, event: Event) -> None:
        """Make later work wait for the mark. The caller does not wait."""
        check_quick(self._hold(self._stream, event.address, 0), "cuStreamWaitEvent", "stream")

    def wait(self, usual_s: float = 0.0) -> None:
        """Wait until all work queued so far is done. Other Python threads run meanwhile.

        Args:
            usual_s: Seconds that the work usually takes from now on; then the thread sleeps most of the time, and ends
                a little late: if the work is far quicker this time, by an eighth of this. With 0 or less it asks all
                the time, and keeps a core busy.

        Raises:
            CudaError: the work failed, or the device is lost.
        """
        try:
            if usual_s > 0:
                asleep_until_s = time.monotonic() + _ASLEEP * usual_s
                while self._query(self._stream) == _NOT_READY:
                    time.sleep(max(_LOOK_S, min(usual_s / _LOOKS, asleep_until_s - time.monotonic())))
        finally:  # Ctrl-C may come while it sleeps, and what the work uses must not be given back before it is done
            (status,) = self._wait(self._handle)
        if status is not self._ok:
            raise failure(int(status), status.name, "cuStreamSynchronize", "stream")


def stream_address(stream: object) -> int:
    """The address of a stream of any library; 0 is the default stream.

    Raises:
        InputError: the object is not a stream.
    """
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, address = protocol() if callable(protocol) else protocol
        if version != 0:
            raise InputError("unknown version of __cuda_stream__", subject="stream", expected="0", got=str(version))
        return int(address)
    for value in (getattr(stream, "cuda_stream", None), getattr(stream, "ptr", None), stream):
        if is_int(value, 0, 2**64 - 1):
            return value
    raise InputError(
        "is not a CUDA stream", subject="stream", expected="__cuda_stream__ or an address", got=type(stream).__name__
    )


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Switch off the garbage collector inside the block, because freeing device memory would spoil a recording.

    This was seen with an unused session of ONNX Runtime, whose cuDNN handle was freed during another recording.
    """
    with _RECORDING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
