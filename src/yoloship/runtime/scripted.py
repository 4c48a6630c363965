"""Sessions for tests, without a model: a script or a function gives the outputs."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from yoloship.cuda.buffers import download, upload
from yoloship.errors import SessionError
from yoloship.runtime.device_context import Lifetime, StreamContext, place_tensor
from yoloship.runtime.session import DeviceSession, Session, Shapes, check_feeds, check_shapes, choose_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.config import InputProfile
    from yoloship.model import TensorSpec


Arrays: TypeAlias = "Sequence[npt.NDArray[np.generic]]"
Feeds: TypeAlias = "Mapping[str, npt.NDArray[np.generic]]"
Script: TypeAlias = "Callable[[Feeds], Arrays] | Sequence[Arrays]"


class ScriptedSession(Session):
    """A fake `Session`, for tests of code that uses one.

    Feeds are checked as a real runtime checks them. Outputs are returned as the script gives them, so that a test can
    also imitate a runtime that misbehaves.

    Args:
        inputs: The inputs that it claims to have.
        outputs: The outputs that it claims to have.
        script: A function from feeds to one array for each output, or such tuples in the order of the calls.
        metadata: Key and value texts, as in a model's file.
        name: The session's name, as text.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        script: Script,
        *,
        metadata: Mapping[str, str] | None = None,
        name: str = "scripted",
    ) -> None:
        super().__init__(inputs, outputs, metadata or {})
        self._answer = script if callable(script) else None
        self._answers = [] if callable(script) else list(script)
        self._name = name
        self._calls: list[Mapping[str, npt.NDArray[np.generic]]] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """The session's name, as text."""
        return self._name

    @property
    def calls(self) -> tuple[Feeds, ...]:
        """Copies of the feeds of every run so far, oldest first."""
        with self._lock:
            return tuple(self._calls)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def run(self, feeds: Feeds) -> tuple[npt.NDArray[np.generic], ...]:
        """Give the outputs of the script. `Session.run` explains the arguments.

        Raises:
            InputError: a feed is missing, unknown, or of the wrong shape or dtype.
            SessionError: the script has no answer left, or the session is closed.
        """
        if self._closed:
            raise SessionError("the session is closed", subject=self._name)
        check_feeds(self.inputs, feeds)
        with self._lock:
            self._calls.append(MappingProxyType({name: array.copy() for name, array in feeds.items()}))
            if self._answer is None and not self._answers:
                raise SessionError("the script has no answer left", subject=self._name, got=f"{len(self._calls)} runs")
            answer = self._answers.pop(0) if self._answer is None else None
        if answer is None:
            assert self._answer is not None
            answer = self._answer(feeds)
        return tuple(array.copy() for array in answer)

    def close(self) -> None:
        """Refuse all further runs. Closing twice is not an error."""
        self._closed = True


DeviceArrays: TypeAlias = "Sequence[npt.NDArray[Any]]"
DeviceScript: TypeAlias = "Callable[[Mapping[str, npt.NDArray[Any]]], Arrays]"


class ScriptedDeviceSession(DeviceSession):
    """A fake `DeviceSession`, for tests of code that uses one.

    Each run waits for the stream, calls the script, and queues the upload of its outputs, so its contexts are never
    capturable.

    Args:
        device: The device of the tensors.
        inputs: The inputs that it claims to have.
        outputs: The outputs that it claims to have.
        script: From feeds by name to one array for each output; it is also called once for each new context, with
            zeros, to learn the shapes of the outputs.
        metadata: Key and value texts, as a model's file would hold them.
        profiles: Ranges of the dynamic inputs, for each profile.
    """

    def __init__(
        self,
        device: Device,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        script: DeviceScript,
        *,
        metadata: Mapping[str, str] | None = None,
        profiles: Sequence[Sequence[InputProfile]] = (),
    ) -> None:
        super().__init__(device, inputs, outputs, metadata or {}, profiles)
        self._script = script
        self._life = Lifetime(lambda: None, self.name)

    @property
    def name(self) -> str:
        """``scripted (cuda:0)``."""
        return f"scripted ({self._device})"

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> StreamContext:
        """Make ready to run inputs of these shapes on a stream; `DeviceSession.context` says what is taken.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a shape does not fit.
            SessionError: the session is closed, or the script gave another number of arrays than there are outputs.
        """
        self._life.enter()
        with ExitStack() as resources:
            resources.callback(self._life.leave)
            shapes = check_shapes(self.inputs, input_shapes)
            choose_profile(self._profiles, shapes)
            answer = self._first_answer(shapes)
            inputs = [place_tensor(spec, shapes[spec.name], stream, resources) for spec in self.inputs]
            outputs = [
                place_tensor(spec, array.shape, stream, resources)
                for spec, array in zip(self.outputs, answer, strict=True)
            ]

            def queue() -> None:
                feeds = {}
                for tensor in inputs:
                    feeds[tensor.name] = np.empty(tensor.shape, tensor.dtype)
                    download(stream, feeds[tensor.name], tensor.pointer)
                stream.sync()
                for tensor, array in zip(outputs, self._script(feeds), strict=True):
                    upload(stream, tensor.pointer, np.ascontiguousarray(array))
                stream.sync()  # the arrays are gone when this returns

            return StreamContext(stream, inputs, outputs, queue, resources, warm_ups=0, recordable=lambda: False)

    def _first_answer(self, shapes: Shapes) -> DeviceArrays:
        answer = self._script({spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self.inputs})
        if len(answer) != len(self.outputs):
            raise SessionError(
                "the script gave another number of arrays than there are outputs",
                subject=self.name,
                expected=str(len(self.outputs)),
                got=str(len(answer)),
            )
        return answer

    def close(self) -> None:
        """Refuse new contexts. Closing twice is not an error."""
        self._life.close()
