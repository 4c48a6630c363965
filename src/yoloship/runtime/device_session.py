"""What every GPU runtime looks like to the pipeline: `DeviceSession`, and `DeviceContext`, one run of it in flight.

A session is a loaded model whose weights lie on one GPU; threads share it. `session.context(shapes, stream)` is slow,
so the context is kept: work on the stream writes `context.inputs[…].pointer`, `context.enqueue()` queues the network,
and later work on the stream reads `context.outputs[…].pointer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.config import InputProfile
    from yoloship.tensors import DType, TensorSpec

ITEM_BYTES: Final[Mapping[DType, int]] = MappingProxyType(
    {
        "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
        "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "float8_e4m3fn": 1,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """One input or output of a run, where it lies; row-major and dense.

    Attributes:
        name: As the model has it.
        dtype: Element type.
        shape: Extents, outermost first.
        pointer: Its address on the device, a multiple of 256; it stays the same until its context is closed.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    pointer: int

    @property
    def size_bytes(self) -> int:
        """Of its elements."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


@runtime_checkable
class DeviceContext(Protocol):
    """One run in flight: device buffers for one set of input shapes, bound to one stream. It owns the buffers.

    One thread at a time may use it; what it queued may still run when it is used again, since a stream keeps its order.
    """

    @property
    def stream(self) -> Stream:
        """Where it queues its work; the caller keeps it open longer than the context."""

    @property
    def inputs(self) -> Mapping[str, DeviceTensor]:
        """By name: written by the caller's work on the stream before `enqueue`. Not initialised."""

    @property
    def outputs(self) -> Mapping[str, DeviceTensor]:
        """By name: valid for work on the stream after `enqueue`, until the next one."""

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be called while a `yoloship.cuda.graph.Graph` of this stream is being recorded.

        On the thread that made the context all warming up is done; another one calls `rehearse` before it records.
        """

    def enqueue(self) -> None:
        """Queue one run on the stream; nothing is waited for where `capturable` is true.

        It replays a CUDA graph of its own where that is possible and nothing is being recorded.

        Raises:
            CudaError: the device failed, or the process was forked.
            SessionError: the runtime failed, or the context is closed.
        """

    def rehearse(self) -> None:
        """Run once in this thread, and wait: what a runtime keeps for each thread must not be made in a recording.

        Raises:
            CudaError: as `enqueue`.
            SessionError: as `enqueue`.
        """

    def close(self) -> None:
        """Wait for the stream, then give the buffers back. Closing twice is no error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@runtime_checkable
class DeviceSession(Protocol):
    """A loaded model on one GPU, whose weights it owns. Many threads may use it at once."""

    @property
    def name(self) -> str:
        """What runs it, for people: ``onnxruntime 1.31.1 (cuda:0)``."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file; names on dynamic axes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file; names on dynamic axes."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Key and value texts that belong to the model; untrusted."""

    @property
    def device(self) -> Device:
        """Where it runs; whoever opened the device closes it."""

    @property
    def profiles(self) -> tuple[tuple[InputProfile, ...], ...]:
        """Shapes of the dynamic inputs that are allowed, for each profile; empty where any shape will do."""

    @property
    def making(self) -> AbstractContextManager[object]:
        """Held while contexts are made, run for the first time by a thread, recorded, or closed.

        `context` and the contexts themselves hold it where they must. Whoever makes more than that at once, such as a
        recording around a context, holds it for the whole of it. One thread may hold it several times over. Runs that
        are ready go on meanwhile.
        """

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> DeviceContext:
        """Make ready to run inputs of these shapes on a stream.

        Slow (allocates, warms up, waits for the stream), so contexts are kept. Each has memory of its own.

        Args:
            input_shapes: Of every input, by name.
            stream: Of the session's device; nothing is being recorded on it.

        Raises:
            CudaError: out of device memory (the message says what was asked and what is free), or the device failed.
            InputError: a shape does not fit the model, or no profile; the range is named.
            SessionError: the runtime refuses, or the session is closed.
        """

    def close(self) -> None:
        """Refuse new contexts; weights go when the last context is closed. Closing twice is no error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
