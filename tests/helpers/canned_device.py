"""A network on a device that answers every image alike, by copying; its runs can be recorded."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.cuda.buffers import DeviceBuffer, PinnedBuffer, download, upload
from yoloship.errors import InputError, SessionError
from yoloship.model import METADATA_KEY, TensorSpec
from yoloship.runtime.session import DeviceContext, DeviceSession, DeviceTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.model import ModelInfo

    Answer = Callable[[tuple[int, int]], Sequence[npt.NDArray[Any]]]
    Varied = Callable[[npt.NDArray[Any], int], npt.NDArray[Any]]


class CannedSession(DeviceSession):
    """A `DeviceSession` whose answer depends on the canvas size, and if `varied` says so on the place in the batch.

    Args:
        device: Where it runs.
        info: What it claims to be; also its metadata.
        answer: From a canvas size to the outputs for one image, without the batch axis.
        capturable: Whether its contexts say that they can be recorded.
        fails: Called at each enqueue; may raise.
        varied: From an output and the place of an image in its batch to that image's output; all alike by default.
    """

    def __init__(
        self,
        device: Device,
        info: ModelInfo,
        answer: Answer,
        *,
        capturable: bool = True,
        fails: Callable[[], None] = lambda: None,
        varied: Varied = lambda array, _place: array,
    ) -> None:
        side = tuple(side or name for side, name in zip(info.input_hw, ("height", "width"), strict=True))
        batch = info.batch or "batch"
        channels = info.channels
        shape = (batch, *side, channels) if info.input_form == "image" else (batch, channels, *side)
        outputs = [
            TensorSpec(f"head{n}", array.dtype.name, (batch, *(f"axis{axis}" for axis in range(array.ndim))))
            for n, array in enumerate(answer((64, 96)))
        ]
        super().__init__(
            device,
            (TensorSpec("images", "uint8" if info.input_form == "image" else "float32", shape),),
            outputs,
            {METADATA_KEY: info.to_json()},
        )
        self.answer = answer
        self.capturable = capturable
        self.fails = fails
        self.varied = varied
        self.closed = False
        self.contexts: list[CannedContext] = []

    @property
    def name(self) -> str:
        return "canned"

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> CannedContext:
        if self.closed:
            raise SessionError("the session is closed", subject=self.name)
        shape = input_shapes["images"]
        if shape[0] > 8:
            raise InputError("outside every profile", subject="images", expected="1 to 8 images", got=str(shape[0]))
        made = CannedContext(self, shape, stream)
        self.contexts.append(made)
        return made

    def close(self) -> None:
        self.closed = True


class CannedContext(DeviceContext):
    """One run in flight."""

    def __init__(self, session: CannedSession, shape: tuple[int, ...], stream: Stream) -> None:
        self._session = session
        self._copies: list[tuple[int, npt.NDArray[Any]]] = []
        spec = session.inputs[0]
        canvas_hw = shape[1:3] if spec.dtype == "uint8" else shape[2:4]
        with ExitStack() as stack:
            size = int(np.prod(shape)) * (1 if spec.dtype == "uint8" else 4)
            feed = stack.enter_context(DeviceBuffer(stream.device, size))
            outputs = []
            for out, array in zip(session.outputs, session.answer((canvas_hw[0], canvas_hw[1])), strict=True):
                whole = np.stack([session.varied(array, place) for place in range(shape[0])])
                kept = stack.enter_context(PinnedBuffer(stream.device, whole.nbytes)).array(whole.dtype, whole.shape)
                kept[...] = whole
                memory = stack.enter_context(DeviceBuffer(stream.device, whole.nbytes))
                dtype: Any = whole.dtype.name
                outputs.append(DeviceTensor(out.name, dtype, whole.shape, memory.pointer))
                self._copies.append((memory.pointer, kept))
            super().__init__(stream, [DeviceTensor("images", spec.dtype, shape, feed.pointer)], outputs)
            self._owned = stack.pop_all()

    @property
    def capturable(self) -> bool:
        return self._session.capturable

    def enqueue(self) -> None:
        self._session.fails()
        for target, source in self._copies:
            upload(self.stream, target, source)

    def rehearse(self) -> None:
        self.enqueue()
        self.stream.sync()

    def fed(self) -> npt.NDArray[Any]:
        """What lies on its input."""
        feed = self.inputs["images"]
        target = np.empty(feed.shape, feed.dtype)
        download(self.stream, target, feed.pointer)
        self.stream.sync()
        return target

    def close(self) -> None:
        self._owned.close()
        self._copies.clear()  # they keep pinned memory alive


def slow() -> None:
    """Something for `fails` that only takes time."""
    time.sleep(0.02)
