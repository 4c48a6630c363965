"""Runs on a GPU, for every runtime, and a session that takes and gives arrays in the host's memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import numpy as np

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer, download, fill_words, size_text, upload
from yoloship.cuda.device import OUT_OF_MEMORY
from yoloship.cuda.stream import Graph, Stream
from yoloship.errors import CudaError, SessionError
from yoloship.runtime.session import DeviceContext, DeviceTensor, Session, check_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.model import TensorSpec
    from yoloship.runtime.session import DeviceSession


class Lifetime:
    """A reference count: releases a resource when it is closed and its last user is done.

    Args:
        release: Called once, by the thread that ends the last use after `close`, or by `close` itself.
        subject: The resource's name, for messages.
    """

    def __init__(self, release: Callable[[], None], subject: str) -> None:
        self._release = release
        self._subject = subject
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether new users are refused."""
        return self._closed

    def enter(self) -> None:
        """Count a user.

        Raises:
            SessionError: it is closed.
        """
        with self._lock:
            if self._closed:
                raise SessionError("the session is closed", subject=self._subject)
            self._users += 1

    def leave(self) -> None:
        """Count a user as gone."""
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._release()

    def close(self) -> None:
        """Refuse new users. Closing twice is not an error."""
        with self._lock:
            last = not self._closed and self._users == 0
            self._closed = True
        if last:
            self._release()


def no_memory(asked_bytes: int | None, device: Device, subject: str) -> CudaError:
    """The error for a runtime that ran out of device memory.

    Args:
        asked_bytes: The bytes that it requested; None if it does not say.
        device: The device, which reports its free memory.
        subject: The model's name.
    """
    try:
        free_bytes, total_bytes = device.memory()
        state = f"{size_text(free_bytes)} free of {size_text(total_bytes)} on {device}"
    except CudaError:
        state = f"{device} does not say how much is free"
    asked = size_text(asked_bytes) if asked_bytes else "an amount that the runtime does not name"
    return CudaError(
        f"out of memory (CUDA_ERROR_OUT_OF_MEMORY, code {OUT_OF_MEMORY}): asked for {asked}, {state}",
        code=OUT_OF_MEMORY,
        name="CUDA_ERROR_OUT_OF_MEMORY",
        subject=subject,
        hint="use a smaller batch or input size, fewer streams, or free memory on the device",
    )


Key = tuple[tuple[str, tuple[int, ...]], ...]


class ContextCache(Closing):
    """Contexts, with their recorded graphs, for the shapes used most recently. Only one thread at a time may use it.

    Args:
        session: Makes the contexts; it must outlive the cache.
        stream: The stream of the contexts.
        capacity: Number of contexts to keep, 1 or more; each has its own device memory.
    """

    def __init__(self, session: DeviceSession, stream: Stream, capacity: int = 4) -> None:
        self._session = session
        self._stream = stream
        self._capacity = capacity
        self._contexts: OrderedDict[Key, DeviceContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def get(self, input_shapes: Mapping[str, tuple[int, ...]]) -> DeviceContext:
        """The context for these shapes; the cache owns it, and may close it when another is asked for.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a shape does not fit the model.
            SessionError: the runtime refuses, or the session is closed.
        """
        key = tuple(sorted((name, tuple(shape)) for name, shape in input_shapes.items()))
        found = self._contexts.get(key)
        if found is not None:
            self._contexts.move_to_end(key)
            return found
        while len(self._contexts) >= self._capacity:  # close it first, so that its memory is free for the new one
            self._contexts.popitem(last=False)[1].close()
        made = self._session.context(input_shapes, self._stream)
        self._contexts[key] = made
        return made

    def close(self) -> None:
        """Close all of them. Closing twice is not an error."""
        while self._contexts:
            self._contexts.popitem()[1].close()


_WORD_BYTES = 4
_ALIGNMENT_BYTES = 256


def place_tensor(spec: TensorSpec, shape: tuple[int, ...], stream: Stream, resources: ExitStack) -> DeviceTensor:
    """Allocate a tensor's buffer, filled with zeros, because a warm-up must not use random numbers as indices.

    Args:
        spec: The tensor's name and dtype.
        shape: The tensor's extents.
        stream: The stream that writes the zeros.
        resources: The stack that owns the buffer.

    Raises:
        CudaError: out of memory.
    """
    unplaced = DeviceTensor(spec.name, spec.dtype, shape, 0)
    size_bytes = -(-max(unplaced.size_bytes, 1) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    buffer = resources.enter_context(DeviceBuffer(stream.device, size_bytes))
    fill_words(stream, buffer.pointer, 0, size_bytes // _WORD_BYTES)
    return DeviceTensor(spec.name, spec.dtype, shape, buffer.pointer)


class StreamContext(DeviceContext):
    """A `DeviceContext` around any function that queues a run. Its constructor warms up, then tries to record a run.

    Args:
        stream: The stream of the runs.
        inputs: The inputs on the device.
        outputs: The outputs on the device.
        queue: Queues one run on the stream; the device's context is current when it is called.
        resources: Closed with the context, in reverse order. The context takes them over when the constructor returns.
        warm_ups: Runs before recording; 1 or more, because the first allocates memory and loads kernels.
        recordable: Called after warming up; says whether to try recording, which may still fail.

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
        super().__init__(stream, inputs, outputs)
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
        """Run after a failed recording. A runtime may report the recording's error once more, but not twice."""
        with suppress(SessionError, CudaError):  # of a device that is lost, the next line says so
            self._run()
        self._stream.sync()
        self._run_and_wait()

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
        """Run once in this thread and wait, so that a recording does not have to create anything.

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
        """Wait for the stream, then release everything. It may be called twice."""
        with self._lock:
            resources, self._resources = self._resources, None
        if resources is None:
            return
        with resources:
            if self._stream.device.in_this_process and not self._stream.is_closed:
                self._stream.sync()


class HostSession(Session):
    """A session on a GPU that takes and gives arrays in the host's memory; `DeviceSession.as_host_session` makes it.

    Args:
        session: The session that runs the model.
        owned: Closed with the host session, after its last run; None closes nothing.
        streams: Runs at the same time, each on its own stream; other callers wait.
        shapes: Number of input shapes that each stream keeps ready.
    """

    def __init__(
        self, session: DeviceSession, owned: AbstractContextManager[object] | None, *, streams: int, shapes: int
    ) -> None:
        super().__init__(session.inputs, session.outputs, session.metadata)
        self._session = session
        self._owned = owned
        self._shapes = shapes
        self.concurrent_runs = streams
        self._slots = threading.BoundedSemaphore(streams)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._life = Lifetime(self._release, session.name)

    @property
    def name(self) -> str:
        """The runtime and its device, as text: ``onnxruntime 1.31.1 (cuda:0)``."""
        return self._session.name

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may at the same time. `Session.run` says what is taken and given.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a feed is missing, unknown, not contiguous, or of a dtype or shape that is not allowed.
            SessionError: the runtime failed, or the session is closed.
        """
        self._life.enter()
        try:
            check_feeds(self.inputs, feeds)
            with self._slots:
                worker = self._take()
                try:
                    answer = worker.run(feeds)
                except BaseException:
                    with suppress(CudaError):  # of a lost device, which the caller is about to hear of
                        worker.close()  # whatever it is in the middle of is not met by the next caller
                    raise
                with self._lock:
                    self._idle.append(worker)
            return answer
        finally:
            self._life.leave()

    def _take(self) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Worker(self._session, self._shapes)

    def _release(self) -> None:
        with ExitStack() as stack:
            if self._owned is not None:
                stack.push(self._owned)
            while self._idle:
                stack.callback(self._idle.pop().close)

    def close(self) -> None:
        """Release everything when no run is active. It may be called twice."""
        self._life.close()


class _Worker:
    """A stream and its contexts."""

    def __init__(self, session: DeviceSession, shapes: int) -> None:
        self._specs = session.outputs
        with ExitStack() as stack:
            self._stream = stack.enter_context(Stream(session.device))
            self._contexts = stack.enter_context(ContextCache(session, self._stream, shapes))
            self._resources = stack.pop_all()

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        context = self._contexts.get({name: array.shape for name, array in feeds.items()})
        for name, array in feeds.items():
            upload(self._stream, context.inputs[name].pointer, array)
        context.enqueue()
        answer = []
        for spec in self._specs:
            tensor = context.outputs[spec.name]
            if tensor.dtype in {"bfloat16", "float8_e4m3fn"}:
                raise SessionError("NumPy has no such element type", subject=spec.name, got=tensor.dtype)
            array = np.empty(tensor.shape, tensor.dtype)
            download(self._stream, array, tensor.pointer)
            answer.append(array)
        self._stream.sync()
        return tuple(answer)

    def close(self) -> None:
        self._resources.close()
