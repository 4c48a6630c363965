"""TensorRT in all flavours: one engine for all threads, and an execution context for each run in flight.

Each input shape has its own context with its own recorded CUDA graph, so the size of the first image does not limit the
next. When a context is closed, its execution context is used for the next shape.
"""

from __future__ import annotations

import ctypes
import re
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.cuda.device import failure
from yoloship.engine.config import InputProfile
from yoloship.engine.file import read_engine
from yoloship.engine.fit import Installation, check_fit, find_installation
from yoloship.engine.flavours import listening, open_flavour
from yoloship.engine.network import dtype_of
from yoloship.errors import EngineError, InputError, SessionError
from yoloship.model import DTYPES, TensorSpec
from yoloship.runtime.device_context import Lifetime, StreamContext, no_memory, place_tensor
from yoloship.runtime.session import DeviceSession, Runtime, Shapes, check_shapes, choose_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.file import EngineFile
    from yoloship.engine.flavours import Flavour, Messages
    from yoloship.engine.sidecar import EngineRecord
    from yoloship.errors import CudaError
    from yoloship.runtime.session import DeviceTensor, RunOptions


_NO_MEMORY = re.compile(r"out of memory|outOfMemory|OutOfMemory", re.IGNORECASE)
_ASKED = re.compile(r"GPU memory \((\d+) bytes\)|Requested size was (\d+) bytes|allocate (\d+) bytes")


_LOST: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "illegal memory access": (700, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        "launch timed out": (702, "CUDA_ERROR_LAUNCH_TIMEOUT"),
        "device-side assert": (710, "CUDA_ERROR_ASSERT"),
        "misaligned address": (716, "CUDA_ERROR_MISALIGNED_ADDRESS"),
        "unspecified launch failure": (719, "CUDA_ERROR_LAUNCH_FAILED"),
    }
)
"""Error texts of the CUDA runtime and their codes (driver_types.h); TensorRT's log contains only the texts."""


@dataclass(frozen=True, slots=True)
class EngineTensors:
    """The inputs, outputs and profiles of an engine.

    Attributes:
        inputs: The inputs; dynamic axes have names.
        outputs: The outputs; dynamic axes have names.
        profiles: Ranges of the dynamic inputs for each profile; empty for a static engine.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[tuple[InputProfile, ...], ...]


def read_tensors(flavour: Flavour, engine: Any, record: EngineRecord | None, subject: str) -> EngineTensors:
    """Ask an engine for its tensors.

    Args:
        flavour: The TensorRT that the engine was built for.
        engine: An ICudaEngine.
        record: The content of the sidecar, which has the names of dynamic axes; None makes up names.
        subject: The file's name, for messages.

    Raises:
        EngineError: a tensor is in host memory, is not row-major, or has an unknown element type; or the sidecar names
            other tensors.
    """
    known = {spec.name: spec for spec in (*record.inputs, *record.outputs)} if record else {}
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = str(engine.get_tensor_name(index))
        spec = _spec(flavour, engine, name, known.get(name), subject)
        is_input = engine.get_tensor_mode(name) == flavour.module.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(spec)
    if record is not None and known.keys() != {spec.name for spec in (*inputs, *outputs)}:
        raise EngineError(
            "its sidecar names other tensors than the engine has",
            subject=subject,
            expected=", ".join(spec.name for spec in (*inputs, *outputs)),
            got=", ".join(known),
        )
    dynamic = [spec for spec in inputs if any(isinstance(axis, str) for axis in spec.shape)]
    count = int(engine.num_optimization_profiles) if dynamic else 0
    profiles = tuple(tuple(_profile(engine, spec.name, number) for spec in dynamic) for number in range(count))
    return EngineTensors(tuple(inputs), tuple(outputs), profiles)


def _spec(flavour: Flavour, engine: Any, name: str, known: TensorSpec | None, subject: str) -> TensorSpec:
    module = flavour.module
    dtype = dtype_of(engine.get_tensor_dtype(name))
    for what, is_right, expected in (
        ("lies on the host", engine.get_tensor_location(name) == module.TensorLocation.DEVICE, "device memory"),
        ("is not row-major", engine.get_tensor_format(name) == module.TensorFormat.LINEAR, "the format LINEAR"),
        (f"has elements of type {dtype}", dtype in DTYPES, "a type that arrays have"),
    ):
        if not is_right:
            raise EngineError(
                f"its tensor {name!r} {what}", subject=subject, expected=expected,
                hint="build it with yoloship build, or trtexec without --inputIOFormats and --outputIOFormats",
            )  # fmt: skip
    found = tuple(int(extent) for extent in engine.get_tensor_shape(name))
    names = known.shape if known is not None and len(known.shape) == len(found) else ()
    shape = tuple(
        extent if extent >= 0 else (names[axis] if names and isinstance(names[axis], str) else f"{name}.{axis}")
        for axis, extent in enumerate(found)
    )
    return TensorSpec(name, dtype, shape)  # type: ignore[arg-type]  # in DTYPES, as asked above


def _profile(engine: Any, name: str, number: int) -> InputProfile:
    shapes = engine.get_tensor_profile_shape(name, number)
    minimum, optimum, maximum = (tuple(int(extent) for extent in shape) for shape in shapes)
    return InputProfile(name, minimum, optimum, maximum)


def engine_fault(
    doing: str, messages: Messages, device: Device, subject: str, asked_bytes: int | None = None
) -> CudaError | SessionError:
    """The error for a call that TensorRT answered with null or false.

    Args:
        doing: What failed, such as ``could not make an execution context``.
        messages: TensorRT's messages during the call.
        device: The device, which reports its free memory if that was the reason.
        subject: The file's name.
        asked_bytes: The least that the call requests, used if TensorRT's log does not say it.
    """
    texts = " ".join(text for _, text in messages.heard)
    for words, (code, name) in _LOST.items():
        if words in texts:
            return failure(code, name, "TensorRT", subject)
    if _NO_MEMORY.search(texts):
        found = _ASKED.search(texts)
        named = next((int(group) for group in found.groups() if group), None) if found else None
        return no_memory(named or asked_bytes, device, subject)
    reason = messages.first_error or "no reason given (is another logger registered in this process?)"
    return SessionError(f"TensorRT {doing}: {reason.rstrip('.')}", subject=subject)


_IDLE_EXECUTIONS: Final = 2
"""Execution contexts to keep for the next shape; each has the memory of its activations."""


class TensorRT(Runtime):
    """TensorRT, TensorRT-RTX or TensorRT's lean runtime, whichever an engine was built for."""

    title = "TensorRT"
    packages = ("tensorrt", "tensorrt_rtx", "tensorrt_lean")
    install = "pip install 'yoloship[tensorrt]'"
    opens = frozenset({"engine"})
    devices = frozenset({"cuda"})
    precisions = frozenset()

    @classmethod
    def open_on(cls, device: Device, model: Path | bytes, options: RunOptions) -> DeviceSession:  # noqa: ARG003 - none fits
        """Load an engine; `TensorRTSession.open` says what it raises.

        Raises:
            InputError: it is not a file.
        """
        if isinstance(model, bytes):
            raise InputError("an engine is loaded from a file", subject="engine in memory", hint="write it to a file")
        return TensorRTSession.open(model, device)


class TensorRTSession(DeviceSession):
    """A `DeviceSession` that runs TensorRT engines; make one with `open`."""

    def __init__(self, flavour: Flavour, file: EngineFile, device: Device, *, allow_host_code: bool) -> None:
        self._flavour = flavour
        self._subject = str(file.path)
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        with device.current(), listening(flavour) as (logger, messages):
            self._runtime: Any = flavour.module.Runtime(logger)
            if allow_host_code:
                self._runtime.engine_host_code_allowed = True
            self._engine: Any = self._runtime.deserialize_cuda_engine(file.plan)
            if self._engine is None:
                fault = engine_fault("does not load it", messages, device, self._subject, len(file.plan))
                raise EngineError(fault.problem, subject=self._subject) if isinstance(fault, SessionError) else fault
            tensors = read_tensors(flavour, self._engine, file.record, self._subject)
        super().__init__(device, tensors.inputs, tensors.outputs, file.metadata, tensors.profiles)
        self._life = Lifetime(self._release, self._subject)

    @classmethod
    def open(
        cls, path: Path, device: Device, *, flavour: Flavour | None = None, allow_host_code: bool = False
    ) -> TensorRTSession:
        """Load an engine, after comparing its sidecar with the installed TensorRT and the device.

        Args:
            path: The engine; its sidecar must be beside it.
            device: The device that it runs on; it must stay open longer than the session.
            flavour: Which TensorRT; None takes the one that fits.
            allow_host_code: Whether to allow a version-compatible plan, which contains code that runs on the host.

        Raises:
            CudaError: out of device memory, or the device failed.
            DependencyError: TensorRT is installed, but cannot be imported.
            EngineError: it is not an engine, is damaged, or does not fit what is installed here.
        """
        file = read_engine(path)
        versions = {flavour.name: flavour.version} if flavour else find_installation().versions
        installation = Installation(versions, device.info)
        name = check_fit(file.record, file.header, installation, subject=str(path), engine_name=path.name)
        if file.record is not None and file.record.config.version_compatible and name != "lean" and not allow_host_code:
            raise EngineError(
                "is version compatible, so it contains code that runs on the host",
                subject=str(path),
                hint="if you trust the file, open it with allow_host_code=True, or run it with tensorrt_lean",
            )
        chosen = flavour or open_flavour(name, to_build=False)
        return cls(chosen, file, device, allow_host_code=allow_host_code)

    @property
    def name(self) -> str:
        """The runtime and its device, as text: ``tensorrt 10.13.0 (cuda:0)``."""
        return f"{self._flavour.title} ({self._device})"

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> StreamContext:
        """Prepare runs with inputs of these shapes on a stream. `DeviceSession.context` explains the arguments.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a shape does not fit the engine, or no profile; the ranges are named.
            SessionError: TensorRT refuses, or the session is closed.
        """
        self._life.enter()
        with ExitStack() as resources:
            resources.callback(self._life.leave)
            shapes = check_shapes(self.inputs, input_shapes)
            profile = choose_profile(self.profiles, shapes)
            execution = self._take()
            run = _Execution(execution, self._flavour, stream, self._subject)
            resources.callback(self._give_back, run)
            with self._device.current():
                found = run.set_shapes(profile, shapes, self.outputs)
            inputs = [place_tensor(spec, shapes[spec.name], stream, resources) for spec in self.inputs]
            outputs = [place_tensor(spec, found[spec.name], stream, resources) for spec in self.outputs]
            run.set_addresses([*inputs, *outputs])
            context = StreamContext(stream, inputs, outputs, run.queue, resources, recordable=run.is_recordable)
            run.sound = True
            return context

    def _take(self) -> Any:
        """An execution context that nobody uses."""
        with self._lock, self._device.current(), listening(self._flavour) as (_, messages):
            if self._idle:
                return self._idle.pop()
            made = self._make()
            if made is None:
                asked = getattr(self._engine, "device_memory_size_v2", None) or getattr(
                    self._engine, "device_memory_size", None
                )
                raise engine_fault(
                    "could not make an execution context", messages, self._device, self._subject,
                    int(asked) if asked else None,
                )  # fmt: skip
            return made

    def _make(self) -> Any:
        strategies = getattr(self._flavour.module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return self._engine.create_execution_context()
        # TensorRT-RTX would compile kernels for a new shape in the background, and a recorded run would keep the slow
        # ones.
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return self._engine.create_execution_context(config)

    def _give_back(self, run: _Execution) -> None:
        if not self._device.in_this_process:
            _keep_for_ever(run.execution)
            return
        with self._lock, self._device.current():
            if run.sound and not self._life.closed and len(self._idle) < _IDLE_EXECUTIONS:
                self._idle.append(run.execution)
            del run.execution  # its destructor needs the device's context

    def _release(self) -> None:
        if not self._device.in_this_process:
            _keep_for_ever(self._idle, self._engine, self._runtime)
            return
        with self._device.current():
            self._idle.clear()
            self._engine = None
            self._runtime = None

    def close(self) -> None:
        """Refuse new contexts. The engine is released when the last context is closed. It may be called twice."""
        self._life.close()


class _Execution:
    """An execution context of TensorRT in use by one of our contexts."""

    def __init__(self, execution: Any, flavour: Flavour, stream: Stream, subject: str) -> None:
        self.execution = execution
        self.sound = False
        self._flavour = flavour
        self._stream = stream
        self._subject = subject

    def set_shapes(self, profile: int, shapes: Shapes, outputs: tuple[TensorSpec, ...]) -> Shapes:
        """Set the profile and the input shapes, and return the shapes of the outputs."""
        execution = self.execution
        with listening(self._flavour) as (_, messages):
            if execution.active_optimization_profile != profile:
                if not execution.set_optimization_profile_async(profile, self._stream.address):
                    raise engine_fault(
                        f"refuses profile {profile}", messages, self._stream.device, self._subject
                    )  # fmt: skip
                self._stream.sync()
            for name, shape in shapes.items():
                if not execution.set_input_shape(name, shape):
                    raise engine_fault(
                        f"refuses {shape} for {name!r}", messages, self._stream.device, self._subject
                    )  # fmt: skip
            try:
                missing = list(execution.infer_shapes())
            except RuntimeError as error:
                raise SessionError(f"TensorRT cannot infer shapes: {error}", subject=self._subject) from error
            if missing:
                raise SessionError(f"TensorRT still misses {', '.join(missing)}", subject=self._subject)
        found = {spec.name: tuple(int(extent) for extent in execution.get_tensor_shape(spec.name)) for spec in outputs}
        for name, shape in found.items():
            if min(shape, default=0) < 0:
                raise SessionError(f"the shape of {name!r} depends on the data", subject=self._subject, got=str(shape))
        return found

    def set_addresses(self, tensors: list[DeviceTensor]) -> None:
        """Set the addresses of the tensors."""
        with listening(self._flavour) as (_, messages):
            for tensor in tensors:
                if not self.execution.set_tensor_address(tensor.name, tensor.pointer):
                    raise engine_fault(
                        f"refuses the address of {tensor.name!r}", messages, self._stream.device, self._subject
                    )

    def is_recordable(self) -> bool:
        """Whether TensorRT says that a run can be recorded; flavours that cannot say it are taken as recordable."""
        ask = getattr(self.execution, "is_stream_capturable", None)
        return ask is None or bool(ask(self._stream.address))

    def queue(self) -> None:
        """Queue a run.

        Raises:
            CudaError: out of device memory, or the device is lost.
            SessionError: TensorRT failed.
        """
        with listening(self._flavour) as (_, messages):
            if self.execution.execute_async_v3(self._stream.address):
                return
            self.sound = False
            if not self._stream.is_recording():
                self._stream.is_idle()  # raises if the device is lost
            raise engine_fault("failed", messages, self._stream.device, self._subject)


def _keep_for_ever(*objects: object) -> None:
    """Keep objects for ever in a forked child, because their destructors would call CUDA, which hangs there."""
    for kept in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
