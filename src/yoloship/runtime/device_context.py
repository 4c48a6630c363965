"""One run in flight, whatever the runtime: `StreamContext` owns the buffers, warms up, records and replays."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from yoloship.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, fill_words
from yoloship.cuda.graph import Graph
from yoloship.errors import CudaError, SessionError
from yoloship.runtime.device_session import DeviceTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import ExitStack

    from yoloship.cuda.stream import Stream
    from yoloship.tensors import TensorSpec

_WORD_BYTES = 4
_ALIGNMENT_BYTES = 256


def place_tensor(spec: TensorSpec, shape: tuple[int, ...], stream: Stream, resources: ExitStack) -> DeviceTensor:
    """Give a tensor a buffer of its own, filled with zeros: a warm-up must not meet indices out of nowhere.

    Args:
        spec: Its name and dtype.
        shape: Its extents.
        stream: Where the zeros are written.
        resources: Takes the buffer.

    Raises:
        CudaError: out of memory.
    """
    unplaced = DeviceTensor(spec.name, spec.dtype, shape, 0)
    size_bytes = -(-max(unplaced.size_bytes, 1) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    buffer = resources.enter_context(DeviceBuffer(stream.device, size_bytes))
    fill_words(stream, buffer.pointer, 0, size_bytes // _WORD_BYTES)
    return DeviceTensor(spec.name, spec.dtype, shape, buffer.pointer)


class StreamContext(Closing):
    """A `DeviceContext` around any function that queues a run. Its constructor warms up, then tries to record a run.

    Args:
        stream: Where it queues.
        inputs: Placed.
        outputs: Placed.
        queue: Queues one run on the stream; the device's context is current when it is called.
        resources: Closed with the context, in reverse order; emptied when the constructor returns, and not before.
        warm_ups: Runs before recording; 1 or more, since memory is allocated and kernels are loaded in the first.
        recordable: Asked after warming up whether to try; whether it works is found out by doing it.

    Raises:
        CudaError: the device failed.
        SessionError: the runtime failed.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of; all but two are made by one runtime and passed once
        self,
        stream: Stream,
        inputs: Iterable[DeviceTensor],
        outputs: Iterable[DeviceTensor],
        queue: Callable[[], None],
        resources: ExitStack,
        *,
        warm_ups: int = 1,
        recordable: Callable[[], bool] = lambda: True,
    ) -> None:
        self._stream = stream
        self._inputs = MappingProxyType({tensor.name: tensor for tensor in inputs})
        self._outputs = MappingProxyType({tensor.name: tensor for tensor in outputs})
        self._queue = queue
        self._lock = threading.Lock()
        for _ in range(warm_ups):
            self._run_and_wait()
        self._graph = self._record(resources) if recordable() else None
        self._resources: ExitStack | None = resources.pop_all()

    def _run(self) -> None:
        with self._stream.device.current():
            self._queue()

    def _run_and_wait(self) -> None:
        self._run()
        self._stream.sync()

    def _record(self, resources: ExitStack) -> Graph | None:
        try:
            graph = Graph(self._stream, self._queue)
        except (CudaError, SessionError):
            self._stream.sync()  # it may only have waited or allocated; if the device is lost, this says so
            self._run_after_failure()
            return None
        return resources.enter_context(graph)

    def _run_after_failure(self) -> None:
        """A runtime may meet the error of the recording once more, as the last one of its thread; not twice."""
        with suppress(SessionError):
            self._run()
        self._stream.sync()
        self._run_and_wait()

    @property
    def stream(self) -> Stream:
        """See `DeviceContext`; so for the others."""
        return self._stream

    @property
    def inputs(self) -> Mapping[str, DeviceTensor]:
        """By name."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, DeviceTensor]:
        """By name."""
        return self._outputs

    @property
    def capturable(self) -> bool:
        """Whether a run could be recorded when the context was made."""
        return self._graph is not None

    def enqueue(self) -> None:
        """Queue one run.

        Raises:
            CudaError: the device failed, or the process was forked.
            SessionError: the runtime failed, or the context is closed.
        """
        with self._lock:
            self._check_open()
            if self._graph is None or self._stream.is_recording():
                self._run()
            else:
                self._graph.launch(self._stream)

    def rehearse(self) -> None:
        """Run once in this thread, and wait; see `DeviceContext.rehearse`.

        Raises:
            CudaError: the device failed, or the process was forked.
            SessionError: the runtime failed, or the context is closed.
        """
        with self._lock:
            self._check_open()
            self._run_and_wait()

    def _check_open(self) -> None:
        if self._resources is None:
            raise SessionError("the context is closed", subject=", ".join(self._inputs))

    def close(self) -> None:
        """Wait for the stream, then give everything back. Closing twice is no error."""
        with self._lock:
            resources, self._resources = self._resources, None
        if resources is None:
            return
        with resources:
            if self._stream.device.in_this_process and not self._stream.is_closed:
                self._stream.sync()
