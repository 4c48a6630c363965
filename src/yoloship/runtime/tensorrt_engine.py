"""What a deserialised TensorRT engine takes and gives, and what its log says when something fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.cuda._driver import failure
from yoloship.engine.config import InputProfile
from yoloship.engine.network import dtype_of
from yoloship.errors import EngineError, SessionError
from yoloship.runtime.device_faults import no_memory
from yoloship.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.cuda.device import Device
    from yoloship.engine.flavours import Flavour
    from yoloship.engine.log import Messages
    from yoloship.engine.record import EngineRecord
    from yoloship.errors import CudaError

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
"""The CUDA runtime's words, which is all that TensorRT's log has, and their codes (driver_types.h)."""


@dataclass(frozen=True, slots=True)
class EngineTensors:
    """The edge of an engine.

    Attributes:
        inputs: Names on dynamic axes.
        outputs: Names on dynamic axes.
        profiles: Ranges of the dynamic inputs for each profile; empty for a static engine.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[tuple[InputProfile, ...], ...]


def read_tensors(flavour: Flavour, engine: Any, record: EngineRecord | None, subject: str) -> EngineTensors:
    """Ask an engine for its tensors.

    Args:
        flavour: Whose engine it is.
        engine: An ICudaEngine.
        record: From the sidecar, which knows the names of dynamic axes; None invents them.
        subject: The file, for messages.

    Raises:
        EngineError: a tensor lies on the host, is not row-major, or has elements that we have no word for; or the
            sidecar names other tensors.
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
        doing: ``could not make an execution context``, for one.
        messages: Heard during the call.
        device: Asked for its free memory, where that was the reason.
        subject: The file.
        asked_bytes: What the call asks for at least, where TensorRT's log does not say.
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
