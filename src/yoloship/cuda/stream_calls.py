"""The few driver calls that every frame needs, with nothing looked up or allocated on the way: `StreamCalls`.

The GPU waits while the host makes these calls. The general ones (`buffers.upload`, `Graph.launch`, `Stream.sync`) make
the context current and look their function up each time, which takes three to five microseconds a call. Here the
context is made current once for all calls of a frame.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from yoloship.cuda.buffers import pinned_address
from yoloship.cuda.driver import driver, failure

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.cuda.stream import Graph, Stream


class StreamCalls:
    """Calls on one stream, inside ``with calls:``, which makes its context current in this thread.

    One thread at a time may use it. It owns nothing, and it cannot be used once the stream is closed.

    Args:
        stream: Where everything is queued.
    """

    __slots__ = ("_context", "_copy", "_launch", "_ok", "_pid", "_pop", "_push", "_stream", "_wait", "stream")

    def __init__(self, stream: Stream) -> None:
        bindings = driver()
        self.stream = stream
        self._stream: Any = stream.handle
        with stream.device.current():
            (_, self._context) = bindings.cuCtxGetCurrent()
        self._ok = bindings.CUresult.CUDA_SUCCESS
        self._push = bindings.cuCtxPushCurrent
        self._pop = bindings.cuCtxPopCurrent
        self._copy = bindings.cuMemcpyHtoDAsync
        self._launch = bindings.cuGraphLaunch
        self._wait = bindings.cuStreamSynchronize
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        if self._pid != os.getpid() or self.stream.is_closed:
            with self.stream.device.current():  # raises in a forked child
                self.stream.handle  # noqa: B018 - raises if it is closed
        (status,) = self._push(self._context)
        if status is not self._ok:
            raise failure(int(status), status.name, "cuCtxPushCurrent", "stream")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pop()

    def upload(self, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy from pinned memory, which must not change until the stream has passed it.

        Args:
            target: Address on the device.
            source: Address on the host.
            size_bytes: 1 or more.

        Raises:
            CudaError: the copy cannot be queued.
        """
        (status,) = self._copy(target, source, size_bytes, self._stream)
        if status is not self._ok:
            raise failure(int(status), status.name, "cuMemcpyHtoDAsync", "upload")

    def launch(self, graph: Graph) -> None:
        """Queue a recorded graph.

        Raises:
            CudaError: the launch failed.
        """
        (status,) = self._launch(graph.handle, self._stream)
        if status is not self._ok:
            raise failure(int(status), status.name, "cuGraphLaunch", "graph")

    def wait(self) -> None:
        """Wait until all work queued so far is done; other Python threads go on meanwhile.

        Raises:
            CudaError: the work failed, or the device is lost.
        """
        (status,) = self._wait(self._stream)
        if status is not self._ok:
            raise failure(int(status), status.name, "cuStreamSynchronize", "stream")


class PinnedMemory:
    """Tells pinned host memory from ordinary memory, whoever pinned it."""

    __slots__ = ("_host", "_kind", "_ok", "_pointer", "_query")

    def __init__(self) -> None:
        bindings = driver()
        attribute = bindings.CUpointer_attribute
        self._query = bindings.cuPointerGetAttribute
        self._kind = attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        self._pointer = attribute.CU_POINTER_ATTRIBUTE_DEVICE_POINTER
        self._host = int(bindings.CUmemorytype.CU_MEMORYTYPE_HOST)
        self._ok = bindings.CUresult.CUDA_SUCCESS

    def addresses(self, array: npt.NDArray[np.generic]) -> tuple[int, int] | None:
        """Where the host and where the device see an array's memory; None if it is not pinned.

        Args:
            array: On the host, C-contiguous.
        """
        ours = pinned_address(array)
        if ours is not None:
            return ours, ours
        address = array.ctypes.data
        status, kind = self._query(self._kind, address)
        if status is not self._ok or int(kind) != self._host:
            return None
        status, pointer = self._query(self._pointer, address)
        return (address, int(pointer)) if status is self._ok else None
