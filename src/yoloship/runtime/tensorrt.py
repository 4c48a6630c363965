"""TensorRT in all flavours: one engine for all threads, and an execution context for each run in flight.

Each input shape has its own context with its own recorded CUDA graph, so the size of the first image does not limit the
next. When a context is closed, its execution context is used for the next shape.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yoloship.engine.config import InputProfile
from yoloship.engine.file import read_engine
from yoloship.engine.fit import Installation, check_fit, find_installation
from yoloship.engine.flavours import listening, open_flavour
from yoloship.engine.network import dtype_of
from yoloship.engine.objects import construct, describing, device_memory_bytes, extents_of, hint_for
from yoloship.errors import EngineError, InputError, SessionError
from yoloship.model import DTYPES, TensorSpec
from yoloship.runtime.device_context import Lifetime, StreamContext, place_tensor
from yoloship.runtime.rtx_cache import runtime_cache
from yoloship.runtime.session import DeviceSession, Runtime, check_shapes, choose_profile
from yoloship.runtime.tensorrt_execution import Execution, engine_fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.file import EngineFile
    from yoloship.engine.flavours import Flavour
    from yoloship.engine.sidecar import EngineRecord
    from yoloship.runtime.session import DeviceTensor, RunOptions


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
    found = extents_of(engine.get_tensor_shape(name))
    if found is None:
        raise EngineError(f"TensorRT does not report the shape of its tensor {name!r}", subject=subject)
    names = known.shape if known is not None and len(known.shape) == len(found) else ()
    shape = tuple(
        extent if extent >= 0 else (names[axis] if names and isinstance(names[axis], str) else f"{name}.{axis}")
        for axis, extent in enumerate(found)
    )
    return TensorSpec(name, dtype, shape)  # type: ignore[arg-type]  # in DTYPES, as asked above


def _profile(engine: Any, name: str, number: int) -> InputProfile:
    shapes = engine.get_tensor_profile_shape(name, number)
    minimum, optimum, maximum = (extents_of(shape) or () for shape in shapes)
    return InputProfile(name, minimum, optimum, maximum)


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
        self._kernels = runtime_cache(flavour, file, device.info)
        with device.current(), listening(flavour) as (logger, messages):
            self._runtime: Any = construct(flavour, "Runtime", messages, logger)
            if allow_host_code:
                self._runtime.engine_host_code_allowed = True
            self._engine: Any = self._runtime.deserialize_cuda_engine(file.plan)
            if self._engine is None:
                fault = engine_fault("does not load it", messages, device, self._subject, len(file.plan))
                if not isinstance(fault, SessionError):
                    raise fault
                raise EngineError(fault.problem, subject=self._subject, hint=hint_for(fault.problem))
            with describing(self._subject, messages):
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
            run, inputs, outputs = self._prepared(input_shapes, stream, resources)
            context = StreamContext(stream, inputs, outputs, run.queue, resources, recordable=run.is_recordable)
            run.sound = True
            return context

    def layer_runs(
        self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream, runs: int
    ) -> tuple[tuple[tuple[str, float], ...], ...]:
        """Run on zeros, and ask TensorRT's profiler how long each layer took.

        Args:
            input_shapes: The shape of every input, by name.
            stream: A stream of the session's device.
            runs: How many runs; one more, before them, is not counted.

        Returns:
            For each run: name and milliseconds of each layer, in TensorRT's order.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a shape does not fit the engine, or no profile.
            SessionError: TensorRT refuses, or reports nothing.
        """
        self._life.enter()
        with ExitStack() as resources:
            resources.callback(self._life.leave)
            run, _, _ = self._prepared(input_shapes, stream, resources)
            with self._device.current():
                return run.profiled(runs)

    def _prepared(
        self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream, resources: ExitStack
    ) -> tuple[Execution, list[DeviceTensor], list[DeviceTensor]]:
        """An execution context with everything that a run needs; `resources` takes it over."""
        self._check_stream(stream)
        shapes = check_shapes(self.inputs, input_shapes)
        profile = choose_profile(self.profiles, shapes)
        run = Execution(self._take(), self._flavour, stream, self._subject)
        resources.callback(self._give_back, run)
        with self._device.current():
            run.set_profile(profile, int(self._engine.num_optimization_profiles))
            found = run.set_shapes(shapes, self.outputs)
        inputs = [place_tensor(spec, shapes[spec.name], stream, resources) for spec in self.inputs]
        outputs = [place_tensor(spec, found[spec.name], stream, resources) for spec in self.outputs]
        run.set_addresses([*inputs, *outputs])
        return run, inputs, outputs

    def _check_stream(self, stream: Stream) -> None:
        """Refuse streams on which TensorRT would fail late, or end the process."""
        if stream.device.ordinal != self._device.ordinal:
            raise InputError(
                "is a stream of another device", subject=self._subject, expected=str(self._device),
                got=str(stream.device), hint="make the stream on the session's device",
            )  # fmt: skip
        if stream.is_recording():
            raise InputError(
                "something is being recorded on this stream", subject=self._subject,
                hint="make the context before the recording",
            )  # fmt: skip

    def _take(self) -> Any:
        """An execution context that nobody uses."""
        with self._lock, self._device.current(), listening(self._flavour) as (_, messages):
            if self._idle:
                return self._idle.pop()
            made = self._make()
            if made is None:
                raise engine_fault(
                    "could not make an execution context", messages, self._device, self._subject,
                    device_memory_bytes(self._engine),
                )  # fmt: skip
            return made

    def _make(self) -> Any:
        strategies = getattr(self._flavour.module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return self._engine.create_execution_context()
        # TensorRT-RTX would compile kernels for a new shape in the background, and a recorded run would keep the slow
        # ones.
        config = self._engine.create_runtime_config()
        if config is None:
            return None
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if self._kernels is not None:
            self._kernels.attach(config)
        return self._engine.create_execution_context(config)

    def _give_back(self, run: Execution) -> None:
        if not self._device.in_this_process:
            _keep_for_ever(run.execution)
            return
        with self._lock, self._device.current():
            if run.sound and not self._life.closed and len(self._idle) < _IDLE_EXECUTIONS:
                self._idle.append(run.execution)
            del run.execution  # its destructor needs the device's context

    def _release(self) -> None:
        if not self._device.in_this_process:
            _keep_for_ever(self._idle, self._kernels, self._engine, self._runtime)
            return
        with self._device.current():
            if self._kernels is not None:
                self._kernels.save()
            self._idle.clear()
            self._kernels = None
            self._engine = None
            self._runtime = None

    def close(self) -> None:
        """Refuse new contexts. The engine is released when the last context is closed. It may be called twice."""
        self._life.close()


def _keep_for_ever(*objects: object) -> None:
    """Keep objects for ever in a forked child, because their destructors would call CUDA, which hangs there."""
    for kept in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
