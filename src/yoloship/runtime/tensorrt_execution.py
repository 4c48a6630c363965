"""An execution context of TensorRT in use: its profile, shapes and addresses, and the errors of its calls.

A refusal has three forms in the bindings, and a version has its own mixture of them (seen with 10.0.1 to 11.4.0.106):
False or None, Dims of length -1, and RuntimeError. `set_optimization_profile_async` and `infer_shapes` have a fourth
one: up to 10.12 these bindings throw without holding the interpreter's lock, which ends the process. So what the first
one could refuse is checked before the call, and the second one is never called: the shapes of all inputs are set here,
and `get_tensor_shape` says whether those of the outputs follow from them.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.cuda.device import failure
from yoloship.engine.flavours import listening, tidy
from yoloship.engine.objects import extents_of, reason_of
from yoloship.errors import SessionError
from yoloship.runtime.device_context import no_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import Stream
    from yoloship.engine.flavours import Flavour, Messages
    from yoloship.errors import CudaError
    from yoloship.model import TensorSpec
    from yoloship.runtime.session import DeviceTensor, Shapes


_NO_MEMORY: Final = re.compile(r"out of memory|outOfMemory|OutOfMemory", re.IGNORECASE)
_ASKED: Final = re.compile(r"GPU memory \((\d+) bytes\)|Requested size was (\d+) bytes|allocate (\d+) bytes")


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


def engine_fault(
    doing: str,
    messages: Messages,
    device: Device,
    subject: str,
    asked_bytes: int | None = None,
    said: str | None = None,
) -> CudaError | SessionError:
    """The error for a call that TensorRT answered with null or false.

    Args:
        doing: What failed, such as ``could not make an execution context``.
        messages: TensorRT's messages during the call.
        device: The device, which reports its free memory if that was the reason.
        subject: The file's name.
        asked_bytes: The least that the call requests, used if TensorRT's log does not say it.
        said: The text of the exception that the bindings raised, used if the log is empty.
    """
    texts = " ".join((*(text for _, text in messages.heard), said or ""))
    for words, (code, name) in _LOST.items():
        if words in texts:
            return failure(code, name, "TensorRT", subject)
    if _NO_MEMORY.search(texts):
        found = _ASKED.search(texts)
        named = next((int(group) for group in found.groups() if group), None) if found else None
        return no_memory(named or asked_bytes, device, subject)
    heard = messages.first_error or messages.warnings
    reason = reason_of(messages) if heard or said is None else tidy(said).rstrip(".")
    return SessionError(f"TensorRT {doing}: {reason}", subject=subject)


class Execution:
    """An IExecutionContext in use by one of our contexts.

    Args:
        execution: The IExecutionContext.
        flavour: The TensorRT that made it.
        stream: The stream of its runs.
        subject: The file's name, for messages.

    Attributes:
        execution: The IExecutionContext.
        sound: Whether it may be used again for other shapes. A failed call leaves it in an unknown state.
    """

    def __init__(self, execution: Any, flavour: Flavour, stream: Stream, subject: str) -> None:
        self.execution = execution
        self.sound = False
        self._flavour = flavour
        self._stream = stream
        self._subject = subject
        self._profiler: Any = None

    def set_profile(self, profile: int, count: int) -> None:
        """Choose an optimization profile, and wait until the choice has taken effect.

        Args:
            profile: Its number.
            count: How many profiles the engine has.

        Raises:
            CudaError: the device failed.
            SessionError: there is no such profile, or TensorRT refuses it.
        """
        if not 0 <= profile < count:
            raise SessionError(
                "the engine has no such profile", subject=self._subject, expected=f"0 to {count - 1}", got=str(profile)
            )
        if self.execution.active_optimization_profile == profile:
            return
        address = self._stream.address
        self._ask(f"refuses profile {profile}", self.execution.set_optimization_profile_async, profile, address)
        self._stream.sync()

    def set_shapes(self, shapes: Shapes, outputs: tuple[TensorSpec, ...]) -> Shapes:
        """Set the shapes of the inputs.

        Args:
            shapes: The shape of each input.
            outputs: The outputs.

        Returns:
            The shapes of the outputs.

        Raises:
            SessionError: TensorRT refuses a shape, or does not know the shape of an output before a run.
        """
        for name, shape in shapes.items():
            self._ask(f"refuses {shape} for {name!r}", self.execution.set_input_shape, name, shape)
        return {spec.name: self._shape_of(spec.name) for spec in outputs}

    def _shape_of(self, name: str) -> tuple[int, ...]:
        shape = extents_of(self._ask(f"does not know {name!r}", self.execution.get_tensor_shape, name))
        if shape is None:
            raise SessionError(
                f"TensorRT cannot infer the shape of {name!r} from those of the inputs", subject=self._subject
            )
        if min(shape, default=0) < 0:
            raise SessionError(f"the shape of {name!r} depends on the data", subject=self._subject, got=str(shape))
        return shape

    def set_addresses(self, tensors: list[DeviceTensor]) -> None:
        """Set the addresses of all inputs and outputs.

        Raises:
            SessionError: TensorRT refuses one.
        """
        for tensor in tensors:
            doing = f"refuses the address of {tensor.name!r}"
            self._ask(doing, self.execution.set_tensor_address, tensor.name, tensor.pointer)

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
        said = None
        with listening(self._flavour) as (_, messages):
            try:
                if self.execution.execute_async_v3(self._stream.address):
                    return
            except RuntimeError as error:
                said = str(error)
            self.sound = False
            if not self._stream.is_recording():
                self._stream.is_idle()  # raises if the device is lost
            raise self._fault("failed", messages, said)

    def profiled(self, runs: int) -> tuple[tuple[tuple[str, float], ...], ...]:
        """Run with TensorRT's profiler, after one run without it. The device's context has to be current.

        Args:
            runs: How many runs, 1 or more.

        Returns:
            For each run: name and milliseconds of each layer, in TensorRT's order.

        Raises:
            CudaError: the device failed.
            SessionError: TensorRT failed, or reported nothing.
        """
        self.queue()
        self._stream.sync()
        heard: list[tuple[str, float]] = []
        self._profiler = _profiler(self._flavour, heard)  # kept, whether or not the binding keeps it
        self.execution.profiler = self._profiler
        self.execution.enqueue_emits_profile = False  # else each run would wait, and report from inside
        found = []
        for _ in range(runs):
            heard.clear()
            self.queue()
            self._stream.sync()
            self._ask("does not report its profile", self.execution.report_to_profiler)
            found.append(tuple(heard))
        if not found or not found[0]:
            raise SessionError("TensorRT's profiler reports no layers", subject=self._subject)
        return tuple(found)

    def _ask(self, doing: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Call TensorRT, and turn a refusal into an error.

        Args:
            doing: What a refusal means, for the message.
            function: A method of the IExecutionContext.
            arguments: Of the method.
        """
        with listening(self._flavour) as (_, messages):
            try:
                answer = function(*arguments)
            except RuntimeError as error:
                raise self._fault(doing, messages, str(error)) from error
            if answer is False:
                raise self._fault(doing, messages)
            return answer

    def _fault(self, doing: str, messages: Messages, said: str | None = None) -> CudaError | SessionError:
        return engine_fault(doing, messages, self._stream.device, self._subject, said=said)


def _profiler(flavour: Flavour, heard: list[tuple[str, float]]) -> Any:
    """A profiler of TensorRT that appends the name and the milliseconds of each layer to a list."""
    module = flavour.module

    class LayerProfiler(module.IProfiler):  # type: ignore[misc,name-defined]  # the base exists only once it is imported
        def __init__(self) -> None:
            module.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            heard.append((layer_name, ms))

    return LayerProfiler()
