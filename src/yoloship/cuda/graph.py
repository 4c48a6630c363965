"""Work recorded once and replayed with one call: `Graph`."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from yoloship.cuda._driver import call, driver
from yoloship.cuda._resource import Resource
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.cuda.stream import Stream


_RECORDING: Final = threading.Lock()
"""Held by the one thread of the process that records, since whether garbage is collected is the process's to say."""


class Graph(Resource):
    """What a function queued on a stream, as one unit. It holds addresses, not buffers: those must outlive it.

    Args:
        stream: Recorded on; idle, and not the default stream.
        work: Queues kernels and copies on that stream. It is called once, runs nothing, and must neither allocate nor
            wait. Where it raises, the recording is dropped and the error goes on.

    Raises:
        CudaError: something queued cannot be recorded.
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
            return  # the recording was invalid already, which is what the caller is about to hear
        if recorded is not None and int(recorded):
            call("cuGraphDestroy", recorded, subject="graph")

    def _release(self, handle: Any) -> None:
        call("cuGraphExecDestroy", handle, subject="graph")

    def launch(self, stream: Stream) -> None:
        """Queue all of it.

        Raises:
            CudaError: the launch failed.
        """
        with self.device.current():
            call("cuGraphLaunch", self.handle, stream.handle, subject="graph")


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No cyclic garbage is collected in the meantime: what a library then frees on the device would spoil a recording.

    Seen with a dead session of ONNX Runtime, whose handle for cuDNN went in the middle of another one's recording.
    """
    with _RECORDING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
