"""Shared by ONNX Runtime's sessions on CPU and GPU: sources, tensors, errors, and runs with a time limit.

Python handles a signal only between two of its own instructions, so a main thread inside a runtime's C++ code handles
none. Therefore the call is made in another thread, while this one waits and can be interrupted.
"""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from yoloship._util.text import shortened
from yoloship.errors import SessionError
from yoloship.kinds import Kind, refuse_others
from yoloship.model import DType, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType


_Result = TypeVar("_Result")

SLICE_S: Final = 0.1
"""Longest wait at a time; a signal that another thread receives is handled after it."""
GRACE_S: Final = 1.5
"""How long to wait for a call to end after it is asked to; a runtime checks between two operators."""


def watched(call: Callable[[], _Result], stop: Callable[[], None], limit_s: float, subject: str) -> _Result:
    """Make a call that is stopped if it takes too long or is interrupted.

    Args:
        call: The function to call. If it does not end when asked, it continues in its thread.
        stop: Asks the call to end; called from this thread, and again until it ends: a runtime does not hear what it is
            asked before it has begun.
        limit_s: Time limit in seconds.
        subject: The model's name, for messages.

    Returns:
        What the call returns; what it raises is raised here.

    Raises:
        SessionError: it took too long.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()  # joining a thread is not safe to interrupt before Python 3.13

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="yoloship-run", daemon=True).start()
    left_s = limit_s
    try:
        while not done.is_set() and left_s > 0:
            began_s = time.monotonic()
            done.wait(min(left_s, SLICE_S))
            left_s -= min(time.monotonic() - began_s, 10 * SLICE_S)  # a suspended process (Ctrl-Z) does not run either
    except BaseException:
        _end(stop, done)
        raise
    if not done.is_set():
        _end(stop, done)
        raise SessionError("the run took too long and was ended", subject=subject, expected=f"at most {limit_s:.0f} s")
    if errors:
        raise errors[0]
    return results[0]


def _end(stop: Callable[[], None], done: threading.Event) -> None:
    until_s = time.monotonic() + GRACE_S
    while not done.is_set() and time.monotonic() < until_s:
        stop()
        done.wait(SLICE_S)


_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime without the device id that it would write into the home folder.

    Its Linux wheels (1.32.0) write ``~/.cache/Microsoft/DeveloperTools/.onnxruntime`` when a session is made, unless a
    variable is set while the library is imported; calling `disable_telemetry_events` afterwards is too late (measured).
    The variable is removed again after the import; a variable that the user has set stays.
    """
    if _TELEMETRY in os.environ:
        import onnxruntime

        return onnxruntime  # type: ignore[no-any-return]  # the package has no types
    os.environ[_TELEMETRY] = "1"
    try:
        import onnxruntime
    finally:
        os.environ.pop(_TELEMETRY, None)
    return onnxruntime  # type: ignore[no-any-return]  # the package has no types


_DTYPES: Final[Mapping[str, DType]] = MappingProxyType(
    {
        "tensor(bool)": "bool",
        "tensor(uint8)": "uint8",
        "tensor(int8)": "int8",
        "tensor(int16)": "int16",
        "tensor(int32)": "int32",
        "tensor(int64)": "int64",
        "tensor(float16)": "float16",
        "tensor(bfloat16)": "bfloat16",
        "tensor(float)": "float32",
        "tensor(double)": "float64",
        "tensor(float8e4m3fn)": "float8_e4m3fn",
    }
)
_RUNNABLE: Final = frozenset[Kind]({"onnx", "unknown"})
"""A file of unknown kind may be an unusual ONNX file; the runtime's parser decides."""
_FAILURE_NAMES: Final = (
    "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelRequiresCompilation",
    "NoModel", "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException",
)  # fmt: skip
"""Names of ONNX Runtime's exceptions. They all derive directly from Exception; not every release has all of them."""


def open_source(model: Path | str | bytes, subject: str | None = None) -> tuple[str | bytes, str]:
    """The source for the runtime, and its name for messages.

    Args:
        model: A file, or its bytes.
        subject: The name of bytes, for messages; None says that the model is in memory.

    Raises:
        SessionError: the file is empty, or plainly not ONNX.
    """
    if isinstance(model, bytes):
        subject = subject or "ONNX model in memory"
        refuse_others(model, _RUNNABLE, "onnx", subject=subject, error=SessionError)
        return model, subject
    refuse_others(Path(model), _RUNNABLE, "onnx", subject=str(model), error=SessionError)
    return str(model), str(model)


def failures() -> tuple[type[Exception], ...]:
    """The exception classes of the installed ONNX Runtime."""
    import_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    known: list[type[Exception]] = [getattr(state, name) for name in _FAILURE_NAMES if hasattr(state, name)]
    return (*known, UnicodeDecodeError)  # a message of the runtime may quote a damaged name


def tensor_spec(value: Any, subject: str) -> TensorSpec:
    """An input or output of a session as a `TensorSpec`.

    Raises:
        SessionError: no array has such elements.
    """
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise SessionError(
            f"{value.name!r} has a type that no array has",
            subject=subject,
            expected=", ".join(_DTYPES.values()),
            got=str(value.type),
        )
    axes = (
        axis if isinstance(axis, str) or (isinstance(axis, int) and axis >= 0) else f"{value.name}.{place}"
        for place, axis in enumerate(value.shape)
    )
    return TensorSpec(value.name, dtype, tuple(axes))


def load_error(text: str, subject: str) -> SessionError:
    """A one-line error from the runtime's message, which has source paths and often several lines."""
    plain = plain_text(text)
    if "protobuf parsing failed" in text.lower() or "No graph was found" in text:
        return SessionError(
            "is not a valid ONNX file: it is damaged or truncated", subject=subject, hint="copy or export it again"
        )
    if "xternal data" in text or "xternal initializer" in text or "annot get file size" in text:
        match = re.search(r'"([^"]+)"|file or directory \[([^\]]+)\]', text)
        missing = Path(match[1] or match[2]).name if match else None
        return SessionError(
            "the weights that belong beside it are missing or too short",
            subject=subject,
            expected=missing,
            hint="keep the external data file in the same folder",
        )
    if ("opset" in text and "support" in text) or "Unsupported model IR version" in text:
        return SessionError(
            f"was made for a newer runtime: {plain}",
            subject=subject,
            hint="update onnxruntime, or export for an older opset",
        )
    return SessionError(f"the runtime refuses it: {plain}", subject=subject)


def plain_text(text: str) -> str:
    """The runtime's message without its code, its C++ signature and its line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/?[\w/.]*/onnxruntime/core/\S+ .*?\)(?: const)? (?=[A-Z])", "", text)
    return shortened(text, 300)
