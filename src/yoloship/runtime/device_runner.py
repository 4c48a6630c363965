"""A `Session` over any `DeviceSession`: host arrays in, host arrays out."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import numpy as np

from yoloship.cuda.buffers import download, upload
from yoloship.cuda.stream import Stream
from yoloship.errors import CudaError, SessionError
from yoloship.runtime.context_cache import ContextCache
from yoloship.runtime.face import SessionFace
from yoloship.runtime.feeds import check_feeds
from yoloship.runtime.lifetime import Lifetime

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.runtime.device_session import DeviceSession


class DeviceRunner(SessionFace):
    """Runs a model on the GPU for callers that know nothing of one. It owns the session, and closes it with itself.

    Args:
        session: Owned from now on.
        lanes: Runs that may be in flight at once, each on a stream of its own; more callers wait.
        shapes: Input shapes that each lane keeps ready.
    """

    def __init__(self, session: DeviceSession, *, lanes: int = 2, shapes: int = 4) -> None:
        super().__init__(session.inputs, session.outputs, session.metadata)
        self._session = session
        self._shapes = shapes
        self._slots = threading.BoundedSemaphore(lanes)
        self._idle: list[_Lane] = []
        self._lock = threading.Lock()
        self._life = Lifetime(self._release, session.name)

    @property
    def name(self) -> str:
        """Of the session."""
        return self._session.name

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may. See `Session.run`.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a feed is missing, unknown, not contiguous, or of a dtype or shape that is not allowed.
            SessionError: the runtime failed, or the session is closed.
        """
        self._life.enter()
        try:
            check_feeds(self.inputs, feeds)
            with self._slots:
                lane = self._take()
                try:
                    answer = lane.run(feeds)
                except BaseException:
                    with suppress(CudaError):  # of a lost device, which the caller is about to hear of
                        lane.close()  # whatever it is in the middle of is not met by the next caller
                    raise
                with self._lock:
                    self._idle.append(lane)
            return answer
        finally:
            self._life.leave()

    def _take(self) -> _Lane:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Lane(self._session, self._shapes)

    def _release(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._session.close)
            while self._idle:
                stack.callback(self._idle.pop().close)

    def close(self) -> None:
        """Give everything back once no run is under way. Closing twice is no error."""
        self._life.close()


class _Lane:
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
