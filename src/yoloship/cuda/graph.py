"""Work recorded once and replayed with one call: `Graph`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yoloship.cuda._driver import call, driver
from yoloship.cuda._resource import Resource
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.cuda.stream import Stream


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
