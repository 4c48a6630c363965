"""The base classes of all runtimes: `Session`, `DeviceSession` on a GPU, and `Runtime`, which opens them.

A device session is a loaded model whose weights are on one GPU; threads share it. `session.context(shapes, stream)` is
slow, so keep the context: work on the stream writes `context.inputs[…].pointer`, `context.enqueue()` queues the
network, and later work on the stream reads `context.outputs[…].pointer`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from yoloship._util.closing import Closing
from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.config import InputProfile
    from yoloship.kinds import Kind
    from yoloship.model import DType, Precision, TensorSpec


TunedFor: TypeAlias = Literal["latency", "throughput"]
"""``latency``: one run uses all cores, for one image at a time. ``throughput``: several runs at once share the cores,
which is faster for many images. On a GPU both are the same: a single image runs at once, and waiting images run
together."""
RuntimePrecision: TypeAlias = Literal["float32", "bfloat16"]
"""The arithmetic that a runtime can use for the float32 layers of a graph."""
DeviceKind: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a model is to be run.

    Attributes:
        precision: The arithmetic of float32 layers; None takes float32, or what an engine was built for.
        tuned_for: ``latency`` for one image at a time, or ``throughput`` for many.
        model_name: The model's name, for messages; None takes the file's name.
        limit_s: Time limit in seconds for opening the model and for each run, for untrusted files. None sets no limit.
        cores: Cores to keep busy; None takes those that this process may use.
    """

    precision: RuntimePrecision | None = None
    tuned_for: TunedFor = "latency"
    model_name: str | None = None
    limit_s: float | None = None
    cores: int | None = None


class Runtime(ABC):
    """Base class of the entries of `yoloship.runtime.RUNTIMES`: a library that runs models.

    A subclass sets the attributes, and overrides `open`, `open_on`, or both, according to `devices`. Importing its
    module must not import the library, which is imported when a model is opened. Other packages add a class by an entry
    point of the group ``yoloship.runtimes``.

    Attributes:
        title: The runtime's name in messages.
        packages: Python packages; any one of them is enough.
        install: The command that installs it.
        opens: Kinds of files that it runs.
        devices: Devices that it runs them on.
        precisions: Arithmetic that it can use for float32 layers; empty if only the file decides.
    """

    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    install: ClassVar[str]
    opens: ClassVar[frozenset[Kind]]
    devices: ClassVar[frozenset[DeviceKind]]
    precisions: ClassVar[frozenset[RuntimePrecision]]

    @classmethod
    def is_installed(cls) -> bool:
        """Whether one of its packages is installed; nothing is imported."""
        return any(find_spec(package) is not None for package in cls.packages)

    @classmethod
    def check(cls, precision: RuntimePrecision | None) -> None:  # noqa: ARG003 - what overrides need
        """Raise an error if the runtime cannot work on this machine.

        Args:
            precision: The requested precision; one of `precisions`, or None.

        Raises:
            DependencyError: it is not installed.
            InputError: this machine cannot compute in the precision.
        """
        if not cls.is_installed():
            raise DependencyError(f"{cls.title} is not installed", subject="runtime", hint=cls.install)

    @classmethod
    def open(cls, model: Path | bytes, options: RunOptions) -> Session:  # noqa: ARG003 - what overrides need
        """Load a model on the CPU.

        Args:
            model: A file, or its bytes. Weights beside the file (external data) are found for a file only.
            options: How it is to be run.

        Raises:
            DependencyError: the runtime is not installed.
            InputError: an option does not fit the runtime or the machine.
            SessionError: the runtime refuses the model.
        """
        raise InputError(f"{cls.title} does not run on a CPU", subject="device", expected="cuda", got="cpu")

    @classmethod
    def open_on(
        cls,
        device: Device,
        model: Path | bytes,  # noqa: ARG003 - what overrides need
        options: RunOptions,  # noqa: ARG003 - what overrides need
    ) -> DeviceSession:
        """Load a model on an NVIDIA GPU.

        Args:
            device: Where it runs; open longer than the session.
            model: A file, or its bytes.
            options: How it is to be run.

        Raises:
            CudaError: out of device memory, or the device failed.
            DependencyError: the runtime is not installed.
            EngineError: an engine is damaged, or does not fit what is installed here.
            InputError: an option does not fit the runtime or the machine.
            SessionError: the runtime refuses the model.
        """
        raise InputError(f"{cls.title} does not run on a GPU", subject="device", expected="cpu", got=str(device))


class _Loaded(Closing):
    """What all loaded models have: what they take, what they give, and what their file says.

    Args:
        inputs: In the order of the file.
        outputs: In the order of the file.
        metadata: Key and value texts that belong to the model; copied.

    Attributes:
        inputs: In the order of the file; names on dynamic axes.
        outputs: In the order of the file; names on dynamic axes.
        metadata: Key and value texts that belong to the model; untrusted.
        reason: Why this runtime was taken, if the choice was left to yoloship; else empty.
    """

    def __init__(
        self, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], metadata: Mapping[str, str]
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata))
        self.reason = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """The runtime and its device, as text: ``onnxruntime 1.32 (CPU)``."""

    def __str__(self) -> str:
        return self.name

    @property
    def precision(self) -> Precision | None:
        """The arithmetic of float32 layers, if the runtime chooses it; None if the graph alone determines it."""
        return None


class Session(_Loaded):
    """A loaded model that maps arrays to arrays. It owns its runtime's resources until closed.

    `run` may be called from many threads at once.

    Args:
        inputs: The model's inputs, in the order of the file.
        outputs: The model's outputs, in the order of the file.
        metadata: Key and value texts that belong to the model; copied.

    Attributes:
        concurrent_runs: Number of runs at the same time that use the processor best: 1 if one run uses all cores.
        run_threads: Threads of one run; None if the runtime decides.
    """

    concurrent_runs: int = 1
    run_threads: int | None = None

    @abstractmethod
    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once.

        Args:
            feeds: An array for each input by name, C-contiguous; read only, not kept.

        Returns:
            One array for each output, in the order of `outputs`; the caller owns them.

        Raises:
            InputError: a feed is missing, unknown, or of the wrong shape or dtype.
            SessionError: the runtime failed, or the session is closed.
        """

    def run_as_computed(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Do what `run` does, without converting large outputs of which little is read.

        A float32 output may be of type `yoloship._util.bfloat16.BFLOAT16` if the runtime computes in bfloat16, and lie
        in memory in any order. Without an override it is the same as `run`.
        """
        return self.run(feeds)


ITEM_BYTES: Final[Mapping[DType, int]] = MappingProxyType(
    {
        "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
        "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "float8_e4m3fn": 1,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """One input or output of a run on the device; row-major and dense.

    Attributes:
        name: The tensor's name in the model.
        dtype: Element type.
        shape: Extents, outermost first.
        pointer: Its address on the device, a multiple of 256. It does not change until its context is closed.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    pointer: int

    @property
    def size_bytes(self) -> int:
        """Size of the tensor in bytes."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


class DeviceContext(Closing):
    """Device buffers for runs with one set of input shapes, on one stream. It owns the buffers.

    Only one thread at a time may use it. It may be used again while its queued work still runs, because a stream keeps
    the order of its work.

    Args:
        stream: The stream of its work; the caller keeps it open longer than the context.
        inputs: The inputs on the device.
        outputs: The outputs on the device.
    """

    def __init__(self, stream: Stream, inputs: Iterable[DeviceTensor], outputs: Iterable[DeviceTensor]) -> None:
        self._stream = stream
        self._inputs = MappingProxyType({tensor.name: tensor for tensor in inputs})
        self._outputs = MappingProxyType({tensor.name: tensor for tensor in outputs})

    @property
    def stream(self) -> Stream:
        """The stream of its work; the caller keeps it open longer than the context."""
        return self._stream

    @property
    def inputs(self) -> Mapping[str, DeviceTensor]:
        """Inputs by name. The caller's work on the stream writes them before `enqueue`; they are not initialised."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, DeviceTensor]:
        """Outputs by name. They are valid for work on the stream after `enqueue`, until the next `enqueue`."""
        return self._outputs

    @property
    @abstractmethod
    def capturable(self) -> bool:
        """Whether `enqueue` may be called while a `yoloship.cuda.stream.Graph` of this stream is being recorded.

        The thread that made the context has warmed it up; another thread calls `rehearse` before it records.
        """

    @abstractmethod
    def enqueue(self) -> None:
        """Queue one run on the stream; it does not wait for anything if `capturable` is true.

        It replays a CUDA graph of its own if that is possible and nothing is being recorded.

        Raises:
            CudaError: the device failed, or the process was forked.
            SessionError: the runtime failed, or the context is closed.
        """

    @abstractmethod
    def rehearse(self) -> None:
        """Run once in this thread and wait: a recording must not create what a runtime creates for each thread.

        Raises:
            CudaError: the device failed, or the process was forked.
            SessionError: the runtime failed, or the context is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Wait for the stream, then release the buffers. It may be called twice."""


class DeviceSession(_Loaded):
    """A loaded model on one GPU, whose weights it owns. Many threads may use it at once.

    Args:
        device: The device that it runs on; the code that opened the device closes it.
        inputs: The model's inputs, in the order of the file.
        outputs: The model's outputs, in the order of the file.
        metadata: Key and value texts that belong to the model; copied.
        profiles: The shapes of dynamic inputs that each profile allows; empty if any shape is allowed.
    """

    def __init__(
        self,
        device: Device,
        inputs: Iterable[TensorSpec],
        outputs: Iterable[TensorSpec],
        metadata: Mapping[str, str],
        profiles: Iterable[Iterable[InputProfile]] = (),
    ) -> None:
        super().__init__(inputs, outputs, metadata)
        self._device = device
        self._profiles = tuple(map(tuple, profiles))

    @property
    def device(self) -> Device:
        """The device that it runs on; the code that opened the device closes it."""
        return self._device

    @property
    def profiles(self) -> tuple[tuple[InputProfile, ...], ...]:
        """The shapes of dynamic inputs that each profile allows; empty if any shape is allowed."""
        return self._profiles

    @property
    def making(self) -> AbstractContextManager[object]:
        """A lock for making, recording and closing contexts, and for the first run of a thread.

        `context` and the contexts take it if necessary. Code that does several of these things together, such as a
        recording around a context, takes it for the whole time. One thread may take it repeatedly. Prepared runs do not
        need it. By default it does nothing, because the runtime's own locks are enough.
        """
        return nullcontext()

    @abstractmethod
    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> DeviceContext:
        """Prepare runs with inputs of these shapes on a stream.

        This is slow (it allocates, warms up and waits for the stream), so keep contexts. Each has its own memory.

        Args:
            input_shapes: The shape of every input, by name.
            stream: A stream of the session's device, on which nothing is being recorded.

        Raises:
            CudaError: out of device memory (the message says what was asked and what is free), or the device failed.
            InputError: a shape does not fit the model, or no profile; the range is named.
            SessionError: the runtime refuses, or the session is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Refuse new contexts. The weights are released when the last context is closed. It may be called twice."""

    def as_host_session(
        self, owned: AbstractContextManager[object] | None = None, *, streams: int = 2, shapes: int = 4
    ) -> Session:
        """A session for this model that takes and gives arrays in the host's memory.

        Args:
            owned: Closed when the host session is closed and its last run is finished: this session, or an `ExitStack`
                with it and its device. None closes nothing; the caller still owns this session.
            streams: Runs at the same time, each on its own stream; other callers wait.
            shapes: Number of input shapes that each stream keeps ready.
        """
        from yoloship.runtime.device_context import HostSession

        return HostSession(self, owned, streams=streams, shapes=shapes)


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Refuse feeds that do not fit a model's inputs.

    Args:
        specs: The model's inputs.
        feeds: Arrays by input name; read only.

    Raises:
        InputError: a feed is missing, unknown, not C-contiguous, or of another dtype or shape, or two dynamic axes of
            one name differ.
    """
    names = [spec.name for spec in specs]
    if feeds.keys() != set(names):
        raise InputError(
            "the feeds are not the model's inputs",
            expected=", ".join(names) or "none",
            got=", ".join(map(str, feeds)) or "none",
        )
    extents: dict[str, int] = {}
    for spec in specs:
        array = feeds[spec.name]
        if array.dtype.name != spec.dtype:
            raise InputError("wrong element type", subject=spec.name, expected=spec.dtype, got=array.dtype.name)
        if len(array.shape) != len(spec.shape) or not all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        ):
            raise InputError("wrong shape", subject=spec.name, expected=spec.shape_text, got=str(tuple(array.shape)))
        if not array.flags.c_contiguous:
            raise InputError("array is not C-contiguous", subject=spec.name, hint="pass numpy.ascontiguousarray of it")
        for axis, extent in zip(spec.shape, array.shape, strict=True):
            if isinstance(axis, str) and extents.setdefault(axis, extent) != extent:
                raise InputError(
                    f"axis {axis!r} differs from the same axis elsewhere",
                    subject=spec.name,
                    expected=str(extents[axis]),
                    got=str(extent),
                )


Shapes = dict[str, tuple[int, ...]]


def check_shapes(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Refuse shapes that do not fit a model's inputs.

    Args:
        specs: The model's inputs.
        shapes: The shape of each input, by name.

    Returns:
        The same, in the order of the inputs, extents as plain integers.

    Raises:
        InputError: an input is missing or unknown, or a shape has another rank, another fixed extent, or one below 1,
            or two dynamic axes of one name differ.
    """
    if shapes.keys() != {spec.name for spec in specs}:
        raise InputError(
            "the shapes are not those of the model's inputs",
            expected=", ".join(spec.name for spec in specs) or "none",
            got=", ".join(map(str, shapes)) or "none",
        )
    extents: dict[str, int] = {}
    checked: Shapes = {}
    for spec in specs:
        shape = tuple(int(extent) for extent in shapes[spec.name])
        fits = len(shape) == len(spec.shape) and all(
            have >= 1 and (have == want if isinstance(want, int) else extents.setdefault(want, have) == have)
            for want, have in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InputError("wrong shape", subject=spec.name, expected=spec.shape_text, got=str(shape))
        checked[spec.name] = shape
    return checked


def choose_profile(profiles: Sequence[Sequence[InputProfile]], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Of the profiles that allow these shapes, the one whose optimum is nearest; 0 if the engine has no profiles.

    Args:
        profiles: Ranges of the dynamic inputs, for each profile.
        shapes: The shape of each input; extents are 1 or more.

    Raises:
        InputError: no profile allows them; the ranges are named.
    """
    if not profiles:
        return 0
    fitting = [number for number, profile in enumerate(profiles) if all(_allows(entry, shapes) for entry in profile)]
    if not fitting:
        raise _outside(profiles, shapes)
    return min(fitting, key=lambda number: sum(_distance(entry, shapes) for entry in profiles[number]))


def _allows(entry: InputProfile, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    shape = shapes[entry.name]
    return len(shape) == len(entry.minimum) and all(
        low <= have <= high for low, have, high in zip(entry.minimum, shape, entry.maximum, strict=True)
    )


def _distance(entry: InputProfile, shapes: Mapping[str, tuple[int, ...]]) -> float:
    return sum(abs(math.log(have / best)) for have, best in zip(shapes[entry.name], entry.optimum, strict=True))


def _outside(profiles: Sequence[Sequence[InputProfile]], shapes: Mapping[str, tuple[int, ...]]) -> InputError:
    """The error for the first input that no profile allows; if there is none, for the first input."""
    entries = [entry for profile in profiles for entry in profile]
    names = [name for name in shapes if any(entry.name == name for entry in entries)]
    wrong = [name for name in names if not any(_allows(entry, shapes) for entry in entries if entry.name == name)]
    name = (wrong or names)[0]
    ranges = dict.fromkeys(f"{entry.minimum} to {entry.maximum}" for entry in entries if entry.name == name)
    return InputError(
        "the shape is outside every optimization profile of the engine",
        subject=name,
        expected=" or ".join(ranges),
        got=str(shapes[name]),
        hint="build the engine for a wider range (yoloship build --batch MIN:OPT:MAX --imgsz MIN:OPT:MAX)",
    )
