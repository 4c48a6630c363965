"""A session on a device without a model: a function of host arrays answers for it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from yoloship.cuda.buffers import download, upload
from yoloship.errors import SessionError
from yoloship.runtime.base import DeviceSession, Shapes, check_shapes, choose_profile
from yoloship.runtime.device_context import Lifetime, StreamContext, place_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.config import InputProfile
    from yoloship.model import TensorSpec

Arrays: TypeAlias = "Sequence[npt.NDArray[Any]]"
DeviceScript: TypeAlias = "Callable[[Mapping[str, npt.NDArray[Any]]], Arrays]"


class ScriptedDeviceSession(DeviceSession):
    """The public fake of a `DeviceSession`, for tests of whatever stands on one.

    Each run waits for the stream, asks the script, and queues the upload of its answer, so contexts of it are never
    capturable.

    Args:
        device: Where the tensors lie.
        inputs: What it claims to take.
        outputs: What it claims to give.
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
            shapes = check_shapes(self._inputs, input_shapes)
            choose_profile(self._profiles, shapes)
            answer = self._first_answer(shapes)
            inputs = [place_tensor(spec, shapes[spec.name], stream, resources) for spec in self._inputs]
            outputs = [
                place_tensor(spec, array.shape, stream, resources)
                for spec, array in zip(self._outputs, answer, strict=True)
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

    def _first_answer(self, shapes: Shapes) -> Arrays:
        answer = self._script({spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self._inputs})
        if len(answer) != len(self._outputs):
            raise SessionError(
                "the script gave another number of arrays than there are outputs",
                subject=self.name,
                expected=str(len(self._outputs)),
                got=str(len(answer)),
            )
        return answer

    def close(self) -> None:
        """Refuse new contexts. Closing twice is not an error."""
        self._life.close()
