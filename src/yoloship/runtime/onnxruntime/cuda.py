"""ONNX Runtime on an NVIDIA GPU: its CUDA provider, with our buffers and our streams.

The provider gets its stream when a session of ONNX Runtime is made, and runs of other shapes must not use the memory of
a recorded run. So every context has its own session of ONNX Runtime, with its own weights.

The provider and cuDNN fail if two threads set up at the same time: ``CUDNN_BACKEND_API_FAILED`` in the first
convolution, or an error while the session is made (measured on an H100 with ONNX Runtime 1.31.1, for every convolution
search). A run during a setup is safe. So only one thread of the process at a time sets up, runs for the first time or
closes, because several sessions share the same libraries.
"""

from __future__ import annotations

import ctypes
import io
import re
import sys
import threading
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from yoloship.cuda.device import OUT_OF_MEMORY, failure
from yoloship.errors import CudaError, DependencyError, InputError, SessionError
from yoloship.runtime.device_context import Lifetime, StreamContext, no_memory, place_tensor
from yoloship.runtime.onnxruntime.cpu import (
    failures,
    import_onnxruntime,
    load_error,
    open_source,
    plain_text,
    tensor_spec,
)
from yoloship.runtime.session import DeviceSession, Shapes, check_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.model import TensorSpec
    from yoloship.runtime.session import DeviceTensor


_NO_MEMORY = re.compile(r"[Ff]ailed to allocate memory for requested buffer of size (\d+)|out of memory")
_FAILURE = re.compile(r"CUDA (?:failure|error) (\d+): ([^;]+)")
_LIBRARY = re.compile(r"CU(?:BLAS|DNN|FFT) (?:failure|error)[^;]*")


def device_fault(text: str, device: Device, subject: str) -> CudaError | None:
    """The device error that caused a failure of the runtime; None if the runtime itself failed.

    Args:
        text: The runtime's message.
        device: The device, which reports its free memory.
        subject: The model, for the message.
    """
    found = _FAILURE.search(text)
    code = int(found[1]) if found else None
    memory = _NO_MEMORY.search(text)
    if code == OUT_OF_MEMORY or (code is None and memory):
        return no_memory(int(memory[1]) if memory and memory[1] else None, device, subject)
    if found and code is not None:
        name = f"cudaError: {found[2].strip()}"
        return failure(code, name, "ONNX Runtime", subject)
    if library := _LIBRARY.search(text):
        return CudaError(f"a CUDA library failed in ONNX Runtime: {library[0].strip()}", subject=subject)
    return None


def not_installed(version: str | None = None) -> DependencyError:
    """The error for an ONNX Runtime that has no CUDA provider or is not installed."""
    return DependencyError(
        "is not installed" if version is None else "is the build without CUDA",
        subject="onnxruntime" if version is None else f"onnxruntime {version}",
        expected="onnxruntime-gpu",
        hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; both install the same files",
    )


def provider_missing(onnxruntime: Any, device: Device) -> DependencyError:
    """The error for a provider that cannot be loaded. Without it, ONNX Runtime would silently run on the CPU."""
    built_for = getattr(onnxruntime, "cuda_version", "") or "its version"
    missing = _missing_libraries(built_for)
    return DependencyError(
        "cannot load its CUDA provider, and would run on the CPU instead",
        subject=f"onnxruntime {onnxruntime.__version__}",
        expected=f"the libraries of CUDA {built_for} and cuDNN 9",
        got=", ".join(f"no {name}" for name in missing)
        or f"a driver for CUDA {'.'.join(map(str, device.driver_version))}",
        hint="pip install 'onnxruntime-gpu[cuda,cudnn]', or put the libraries on LD_LIBRARY_PATH",
    )


def _missing_libraries(cuda_version: str) -> list[str]:
    """Libraries that the provider needs and the loader does not find; ONNX Runtime names them only in its log."""
    major = cuda_version.split(".", maxsplit=1)[0]
    if not sys.platform.startswith("linux") or not major.isdecimal():
        return []
    names = [f"{name}.so.{major}" for name in ("libcudart", "libcublas", "libcublasLt")]
    return [name for name in (*names, "libcudnn.so.9") if not _loads(name)]


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


PROVIDER: Final = "CUDAExecutionProvider"
_MEMORY: Final = "cuda"
"""What ONNX Runtime's binding calls the memory of the provider's device."""
_WARM_UPS: Final = 2
"""After the run that chooses algorithms: the first uses the final memory layout, the second confirms it."""
_SHRINK: Final = "memory.enable_memory_arena_shrinkage"
_TURN: Final = threading.RLock()
"""The lock of the thread that sets up the provider or closes one of its objects."""

ConvolutionSearch: TypeAlias = Literal["exhaustive", "heuristic", "default"]
"""How cuDNN's algorithms are chosen: by timing all, by its own guess, or always the same.

Measured with yolov5n on an H100: the guess takes 0.15 to 0.2 s for each batch size and stream, timing all 0.8 to 1.5 s.
Runs by the guess are as fast with 1 image and 2 % slower with 32; always the same is 50 % slower.
"""
Layout: TypeAlias = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True)
class CudaProviderOptions:
    """Options of ONNX Runtime's CUDA provider. With the defaults, boxes are the same as on the CPU.

    Attributes:
        convolution_search: How cuDNN's algorithms are chosen; `ConvolutionSearch` names the choices.
        layout: How the provider keeps maps; ``nhwc`` suits tensor cores, and is slower for float32.
        tf32: Whether float32 may be multiplied with 10 bits of mantissa; this is faster, and boxes change slightly.
        recorded: Whether runs are recorded into CUDA graphs if possible.
        memory_limit_bytes: The largest size of each context's memory; None sets no limit.

    Raises:
        InputError: a value is not one of the choices, or is out of range.
    """

    convolution_search: ConvolutionSearch = "heuristic"
    layout: Layout = "nchw"
    tf32: bool = False
    recorded: bool = True
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("convolution_search", ("exhaustive", "heuristic", "default")),
            ("layout", ("nchw", "nhwc")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    "no such choice", subject=name, expected=" or ".join(choices), got=str(getattr(self, name))
                )
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < 1:
            raise InputError(
                "out of range", subject="memory_limit_bytes", expected="1 or more", got=str(self.memory_limit_bytes)
            )

    def for_runtime(self, device: Device, stream: Stream | None) -> dict[str, str]:
        """The options with ONNX Runtime's names and values."""
        chosen = {
            "device_id": str(device.ordinal),
            "cudnn_conv_algo_search": self.convolution_search.upper(),
            "prefer_nhwc": str(int(self.layout == "nhwc")),
            "use_tf32": str(int(self.tf32)),
            "arena_extend_strategy": "kSameAsRequested",  # the other strategy doubles the memory each time
        }
        if stream is not None:
            chosen["user_compute_stream"] = str(stream.address)
        if self.memory_limit_bytes is not None:
            chosen["gpu_mem_limit"] = str(self.memory_limit_bytes)
        return chosen


class OnnxRuntimeCudaSession(DeviceSession):
    """A `DeviceSession` that runs models with ONNX Runtime; make one with `open`."""

    def __init__(
        self, source: str | bytes, subject: str, device: Device, options: CudaProviderOptions, described: Any
    ) -> None:
        self._source = source
        self._subject = subject
        self._options = options
        super().__init__(
            device,
            (tensor_spec(value, subject) for value in described.get_inputs()),
            (tensor_spec(value, subject) for value in described.get_outputs()),
            described.get_modelmeta().custom_metadata_map,
        )
        self._life = Lifetime(self._forget, subject)

    @classmethod
    def open(
        cls,
        model: Path | str | bytes,
        device: Device,
        options: CudaProviderOptions | None = None,
        *,
        subject: str | None = None,
    ) -> OnnxRuntimeCudaSession:
        """Load an ONNX model, and check that the provider really runs it.

        Args:
            model: A file, or its bytes. Weights beside the file (external data) are found for a file only.
            device: Where it runs; open longer than the session.
            options: Options of the provider; None takes the defaults.
            subject: The name of a model that is given as bytes, for messages.

        Raises:
            CudaError: out of device memory, or the device failed.
            DependencyError: ONNX Runtime is not installed, or is the build without CUDA, or lacks CUDA's libraries.
            SessionError: the file is empty, not ONNX, damaged, or refused by the runtime.
        """
        source, subject = open_source(model, subject)
        options = options or CudaProviderOptions()
        with device.current(), _TURN:
            described = cls.open_runtime(source, subject, device, options.for_runtime(device, None), optimize=False)
            session = cls(source, subject, device, options, described)
            del described  # its destructor calls the provider, so it must run while we hold the lock
        return session

    @classmethod
    def open_runtime(
        cls, source: str | bytes, subject: str, device: Device, chosen: dict[str, str], *, optimize: bool = True
    ) -> Any:
        """Open a session of ONNX Runtime with the provider; it is an error if it would run on the CPU instead.

        Args:
            source: A file's name, or the bytes of a model.
            subject: The model, for messages.
            device: Where it runs.
            chosen: Options of the provider, with ONNX Runtime's names and values.
            optimize: Whether the graph is optimised.
        """
        return _open_session(source, subject, device, chosen, optimize=optimize)

    @property
    def name(self) -> str:
        """The runtime and its device, as text: ``onnxruntime 1.31.1 (cuda:0)``."""
        onnxruntime = import_onnxruntime()

        return f"onnxruntime {onnxruntime.__version__} ({self._device})"

    @property
    def making(self) -> AbstractContextManager[object]:
        """A lock that one thread of the process holds at a time: the provider fails if two threads set it up."""
        return _turn_on(self._device)

    def context(self, input_shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> StreamContext:
        """Prepare runs with inputs of these shapes on a stream. `DeviceSession.context` explains the arguments.

        Raises:
            CudaError: out of device memory, or the device failed.
            InputError: a shape does not fit the model.
            SessionError: the runtime refuses, or the session is closed.
        """
        self._life.enter()
        with ExitStack() as resources:
            resources.callback(self._life.leave)
            shapes = check_shapes(self.inputs, input_shapes)
            with self.making:
                return self._make(shapes, stream, resources)

    def _make(self, shapes: Shapes, stream: Stream, resources: ExitStack) -> StreamContext:
        with self._device.current():  # refuses a forked child before the runtime is touched
            chosen = self._options.for_runtime(self._device, stream)
            session = self.open_runtime(self._source, self._subject, self._device, chosen)
            bound = _BoundRun(session, self._subject, stream)
        resources.callback(bound.close)
        inputs = [place_tensor(spec, shapes[spec.name], stream, resources) for spec in self.inputs]
        bound.bind_inputs(inputs)
        with _quiet():  # the first runs try algorithms, and each one that the device lacks would print an error in red
            found = bound.output_shapes(self.outputs)
            outputs = [place_tensor(spec, found[spec.name], stream, resources) for spec in self.outputs]
            bound.bind_outputs(outputs)
            bound.settle()
            return _TurnTakingContext(
                stream,
                inputs,
                outputs,
                bound.queue,
                resources,
                warm_ups=_WARM_UPS,
                recordable=lambda: self._options.recorded,
            )

    def _forget(self) -> None:
        self._source = b""

    def close(self) -> None:
        """Refuse new contexts. Each context keeps its weights until it is closed. It may be called twice."""
        self._life.close()


class _TurnTakingContext(StreamContext):
    """A context whose first run in another thread also takes the lock."""

    def rehearse(self) -> None:
        """Run once in this thread and wait, while holding the lock."""
        with _turn_on(self.stream.device):
            super().rehearse()


class _BoundRun:
    """A session of ONNX Runtime with its inputs and outputs at fixed addresses."""

    def __init__(self, session: Any, subject: str, stream: Stream) -> None:
        self._failures: tuple[type[Exception], ...] = (
            *failures(),
            RuntimeError,
        )  # some of the provider's errors have no class of their own
        self._subject = subject
        self._stream = stream
        self._session: Any = session
        self._binding: Any = session.io_binding()
        self._run_options = self._made_options()

    @staticmethod
    def _made_options() -> Any:
        options = import_onnxruntime().RunOptions()
        options.log_severity_level = 4
        # Without this the runtime waits for the stream at the end of each run, which also forbids recording it.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options

    def bind_inputs(self, tensors: list[DeviceTensor]) -> None:
        for tensor in tensors:
            self._binding.bind_input(*self._place(tensor))

    def bind_outputs(self, tensors: list[DeviceTensor]) -> None:
        self._binding.clear_binding_outputs()
        for tensor in tensors:
            self._binding.bind_output(*self._place(tensor))

    def _place(self, tensor: DeviceTensor) -> tuple[str, str, int, Any, list[int], int]:
        if tensor.dtype in {"bfloat16", "float8_e4m3fn"}:
            raise SessionError(
                "ONNX Runtime cannot bind this element type", subject=tensor.name, got=tensor.dtype,
                hint="export it with float32 inputs and outputs",
            )  # fmt: skip
        ordinal = self._stream.device.ordinal
        return tensor.name, _MEMORY, ordinal, np.dtype(tensor.dtype).type, list(tensor.shape), tensor.pointer

    def output_shapes(self, specs: tuple[TensorSpec, ...]) -> Shapes:
        """The shapes of the outputs. If the file leaves them open, a run with outputs of the runtime finds them."""
        fixed = {spec.name: tuple(axis for axis in spec.shape if isinstance(axis, int)) for spec in specs}
        if all(len(fixed[spec.name]) == len(spec.shape) for spec in specs):
            return fixed
        for spec in specs:
            self._binding.bind_output(spec.name, _MEMORY, self._stream.device.ordinal)
        with self._stream.device.current():
            self.queue()
        self._stream.sync()
        values = self._binding.get_outputs()
        return {spec.name: tuple(map(int, value.shape())) for spec, value in zip(specs, values, strict=True)}

    def settle(self) -> None:
        """Run once, and give back the memory that only the choice of algorithms needed.

        Algorithms are tried with as much memory as any of them can use, and the runtime would keep that. What a run
        really needs is allocated again by the next one.

        Raises:
            CudaError: out of device memory, or the device failed.
            SessionError: the runtime failed.
        """
        options = self._made_options()
        options.add_run_config_entry(_SHRINK, f"gpu:{self._stream.device.ordinal}")
        with self._stream.device.current():
            try:
                self._run(options)
            except SessionError as error:
                if "arena" not in str(error):
                    raise
                self.queue()  # without an arena, which keeps memory, there is nothing to give back
        self._stream.sync()

    def queue(self) -> None:
        """Queue a run.

        Raises:
            CudaError: out of device memory, or the device failed.
            SessionError: the runtime failed.
        """
        self._run(self._run_options)

    def _run(self, options: Any) -> None:
        try:
            self._session.run_with_iobinding(self._binding, options)
        except self._failures as error:
            text = plain_text(str(error))
            fault = device_fault(text, self._stream.device, self._subject)
            raise fault or SessionError(f"the runtime failed: {text}", subject=self._subject) from error

    def close(self) -> None:
        """Release the runtime's session. In a forked child it is kept, because its destructors would hang in CUDA."""
        if not self._stream.device.in_this_process:
            for kept in (self._session, self._binding):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        with _turn_on(self._stream.device):
            self._binding = self._session = None


def _turn_on(device: Device) -> AbstractContextManager[object]:
    """The lock. In a forked child it is nothing, because the parent may hold it; every call is refused there anyway."""
    return _TURN if device.in_this_process else nullcontext()


def _open_session(
    source: str | bytes, subject: str, device: Device, chosen: dict[str, str], *, optimize: bool = True
) -> Any:
    """Open a session of ONNX Runtime with the provider; it is an error if it would run on the CPU instead."""
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise not_installed() from error
    if PROVIDER not in onnxruntime.get_available_providers():
        raise not_installed(onnxruntime.__version__)
    make = partial(
        onnxruntime.InferenceSession,
        source,
        session_options(onnxruntime, optimize=optimize),
        providers=[(PROVIDER, chosen)],  # the runtime adds the CPU by itself, which computes shapes
        enable_fallback=0,
    )
    session = _attempt(make, device, subject)
    if session is None and hasattr(onnxruntime, "preload_dlls"):
        _preload(onnxruntime)  # pip installs CUDA's libraries outside the search path
        session = _attempt(make, device, subject)
    if session is None:
        raise provider_missing(onnxruntime, device)
    return session


def _attempt(make: Callable[[], Any], device: Device, subject: str) -> Any | None:
    """Open a session with the provider; None if its libraries are not found."""
    with refusals(device, subject), _quiet():
        session = make()
    return session if PROVIDER in session.get_providers() else None


def session_options(onnxruntime: Any, *, optimize: bool) -> Any:
    """Options of a session of ONNX Runtime on a device, whose graph is optimised or stays as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: every error comes as an exception
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


@contextmanager
def refusals(device: Device, subject: str) -> Iterator[None]:
    """Give what ONNX Runtime raises when it opens a model on a device the form of our errors.

    Raises:
        CudaError: out of device memory, or the device failed.
        SessionError: it refuses the model.
    """
    known = failures()
    try:
        yield
    except known as error:
        fault = device_fault(plain_text(str(error)), device, subject)
        raise fault or load_error(str(error), subject) from error
    except (RuntimeError, ValueError) as error:
        raise SessionError(f"the runtime refuses it: {plain_text(str(error))}", subject=subject) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the runtime's log about its providers: errors are raised as exceptions, the rest is not useful.

    The log is the process's, not the session's, and its level cannot be read; its default is 2.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)


def _preload(onnxruntime: Any) -> None:
    """Load CUDA's libraries. The runtime would print the ones that it does not find, so its output is hidden."""
    with redirect_stdout(io.StringIO()), suppress(OSError, RuntimeError):
        onnxruntime.preload_dlls()
