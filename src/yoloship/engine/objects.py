"""Makes TensorRT's objects and reads their answers; if TensorRT gives nothing, the error says why and what to do.

TensorRT's functions answer a failure with null, and write the reason to the log. The Python bindings turn null into
``TypeError: pybind11::init(): factory function returned nullptr`` for Runtime, Builder and OnnxParser, and into None
for everything else (seen with the bindings 10.0.1 to 11.4.0.106). A Runtime or Builder that cannot be made is the most
frequent error of a first run: the driver is too old, or another process holds the GPU.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from yoloship.cuda.device import find_gpu
from yoloship.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship.engine.flavours import Flavour, Messages

_UPDATE: Final = "update NVIDIA's driver, or install a TensorRT for an older CUDA, such as tensorrt-cu12"
_RESTART: Final = "restart the machine: its driver was updated or lost the GPU"
_HINTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: "free memory on the GPU; nvidia-smi shows which processes hold it",
        3: "CUDA cannot be used in a process forked after its first use: start processes with 'spawn'",
        35: _UPDATE,
        46: "another process holds the GPU: end it, or allow several with 'nvidia-smi -c DEFAULT'",
        100: "no NVIDIA GPU is visible to this process: see CUDA_VISIBLE_DEVICES; a container needs --gpus all",
        222: _UPDATE,
        802: "the GPUs' fabric is not ready: start the service nvidia-fabricmanager",
        803: _RESTART,
        804: "update NVIDIA's driver; its compatibility package does not support this GPU",
        999: _RESTART,
    }
)
"""What to do, by the code of cudaError_t (driver_types.h)."""
_CODE: Final = re.compile(
    r"(?:CUDA initialization failure with error|[Cc]uda(?:Error| error| failure))\s*:?\s*(\d{1,4})\b"
)
_NULL: Final = "nullptr"
"""In the text of the TypeError that pybind11 raises if a constructor gives a null pointer."""

Constructor = Literal["Builder", "Runtime", "OnnxParser"]


def construct(flavour: Flavour, kind: Constructor, messages: Messages, *arguments: Any) -> Any:
    """Call a constructor of TensorRT.

    Args:
        flavour: The TensorRT.
        kind: The class.
        messages: TensorRT's messages while this is called; they contain the reason for a failure.
        arguments: Of the constructor.

    Raises:
        EngineError: TensorRT gives no object; the reason is TensorRT's own.
    """
    try:
        return getattr(flavour.module, kind)(*arguments)
    except TypeError as error:
        if _NULL not in str(error):
            raise
        raise no_object(flavour, kind, messages) from error


def made(thing: Any, what: str, flavour: Flavour, messages: Messages) -> Any:
    """The object that a method of TensorRT has made.

    Args:
        thing: The method's answer.
        what: What was to be made, for the message.
        flavour: The TensorRT.
        messages: TensorRT's messages during the call.

    Raises:
        EngineError: it is None; the reason is TensorRT's own.
    """
    if thing is None:
        raise no_object(flavour, what, messages)
    return thing


def no_object(flavour: Flavour, what: str, messages: Messages) -> EngineError:
    """The error for an object that TensorRT did not make."""
    reason = reason_of(messages)
    gpu = find_gpu()
    too_old = gpu is not None and _code(reason) in {35, 222}
    return EngineError(
        f"cannot make its {what}: {reason}",
        subject=flavour.title,
        got=f"a driver for CUDA {gpu.cuda_version[0]}.{gpu.cuda_version[1]}" if gpu is not None and too_old else None,
        hint=hint_for(reason),
    )


def reason_of(messages: Messages) -> str:
    """TensorRT's reason for a failure: its first error, else its last warning."""
    said = messages.first_error or next(reversed(messages.warnings), None)
    return (said or "no reason given (is another logger registered in this process?)").rstrip(".")


def hint_for(reason: str) -> str | None:
    """What to do about a reason of TensorRT that names an error of CUDA; None for other reasons."""
    code = _code(reason)
    return None if code is None else _HINTS.get(code)


def _code(reason: str) -> int | None:
    found = _CODE.search(reason)
    return int(found[1]) if found else None


def extents_of(dims: Any) -> tuple[int, ...] | None:
    """The extents of TensorRT's Dims, -1 on dynamic axes.

    Returns:
        None for Dims of length -1. Bindings before 11.4 give those for a tensor that they do not know, and for a shape
        that is not known yet.
    """
    try:
        rank = len(dims)  # iteration would end at once, as if it were a scalar
    except ValueError:
        return None
    return tuple(int(dims[axis]) for axis in range(rank))


@contextmanager
def describing(subject: str, messages: Messages) -> Iterator[None]:
    """Turn the RuntimeError with which bindings from 11.4 on answer a question about an unknown tensor into ours.

    Args:
        subject: The file, for the message.
        messages: TensorRT's messages during the questions.

    Raises:
        EngineError: TensorRT does not answer; the reason is TensorRT's own.
    """
    try:
        yield
    except RuntimeError as error:
        reason = messages.first_error or " ".join(str(error).split())
        raise EngineError(f"TensorRT does not describe it: {reason}", subject=subject) from error


def device_memory_bytes(engine: Any) -> int | None:
    """Device memory that an execution context of an ICudaEngine needs; None if this TensorRT does not say it.

    TensorRT 10.0 has `device_memory_size`, 11 has `device_memory_size_v2`, and versions between them have both.
    """
    for name in ("device_memory_size_v2", "device_memory_size"):
        if (size := getattr(engine, name, None)) is not None:
            return int(size)
    return None
