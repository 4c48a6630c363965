"""Models as ONNX Runtime has them, whatever runs them there: sources, tensors, and one line for each error."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import SessionError
from yoloship.libraries import import_onnxruntime
from yoloship.tensors import DType, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_FAILURE_NAMES: Final = (
    "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelRequiresCompilation",
    "NoModel", "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException",
)  # fmt: skip
"""What ONNX Runtime raises; each derives from Exception directly, and not every release has all of them."""

HEAD_BYTES: Final = 512
"""How much of a file `check_head` wants to see."""


def open_source(model: Path | str | bytes) -> tuple[str | bytes, str]:
    """What the runtime is given, and what messages call it.

    Raises:
        SessionError: the file is missing, empty, or plainly no ONNX.
    """
    if isinstance(model, bytes):
        check_head(model[:HEAD_BYTES], "ONNX model in memory")
        return model, "ONNX model in memory"
    check_head(read_head(Path(model)), str(model))
    return str(model), str(model)


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of the ONNX Runtime that is installed."""
    import_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(getattr(state, name) for name in _FAILURE_NAMES if hasattr(state, name))


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


def read_head(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        SessionError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise SessionError("no such file", subject=str(path)) from error
    except IsADirectoryError as error:
        raise SessionError("is a folder, not a model", subject=str(path)) from error
    except OSError as error:
        raise SessionError(f"cannot be read: {error.strerror or error}", subject=str(path)) from error
    except ValueError as error:  # a NUL in the name
        raise SessionError(f"is no file name: {error}", subject=repr(str(path))) from error


def check_head(head: bytes, subject: str) -> None:
    """Refuse what is plainly no ONNX, with a better reason than a parser's.

    Raises:
        SessionError: it is empty, text, or a pointer to the real file.
    """
    if not head:
        raise SessionError(
            "the file is empty", subject=subject, expected="an ONNX model", hint="copy or export it again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise SessionError(
            "is a Git LFS pointer, not the model itself", subject=subject, hint="fetch the file with 'git lfs pull'"
        )
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        raise SessionError("is text", subject=subject, expected="an ONNX model", got=repr(head[:24].decode("ascii")))


def load_error(text: str, subject: str) -> SessionError:
    """One line for the runtime's own words, which hold paths of its sources and often several lines."""
    plain = plain_text(text)
    if "protobuf parsing failed" in text.lower() or "No graph was found" in text:
        return SessionError(
            "is no ONNX model, or is damaged or truncated", subject=subject, hint="copy or export it again"
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
    """The runtime's sentence without its code, its C++ signature and its line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/?[\w/.]*/onnxruntime/core/\S+ .*?\)(?: const)? (?=[A-Z])", "", text)
    return text if len(text) <= 300 else f"{text[:297]}..."
