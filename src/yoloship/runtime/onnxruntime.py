"""ONNX Runtime on the CPU, the default session."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import InputError, SessionError
from yoloship.runtime.feeds import check_feeds
from yoloship.tensors import DType, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

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
_FAILURES: Final = (
    "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelRequiresCompilation",
    "NoModel", "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException",
)  # fmt: skip
"""What ONNX Runtime raises; each derives from Exception directly, and not every release has all of them."""

_HEAD_BYTES: Final = 512


class OnnxRuntimeSession:
    """A model opened by ONNX Runtime on the CPU; make one with `open`.

    Graph optimisation stays at its highest level, the runtime's default; of the other options none was faster for one
    picture, and one thread a run is what several workers that share a session want.
    """

    def __init__(self, session: Any, failures: tuple[type[Exception], ...], subject: str) -> None:
        self._session: Any | None = session
        self._failures = failures
        self._subject = subject
        self._inputs = tuple(_spec(value, subject) for value in session.get_inputs())
        self._outputs = tuple(_spec(value, subject) for value in session.get_outputs())
        self._metadata = MappingProxyType(dict(session.get_modelmeta().custom_metadata_map))

    @classmethod
    def open(cls, model: Path | str | bytes, *, intra_op_threads: int | None = None) -> Self:
        """Load an ONNX model.

        Args:
            model: A file, or its bytes. Weights beside the file (external data) are found for a file only.
            intra_op_threads: Threads that one run may use; None leaves it to the runtime: one a physical core.

        Raises:
            InputError: the number of threads is not positive.
            SessionError: the file is missing, empty, no ONNX, damaged, or asks for what this runtime does not have.
        """
        if intra_op_threads is not None and intra_op_threads < 1:
            raise InputError(
                "too few threads", subject="intra_op_threads", expected="1 or more", got=f"{intra_op_threads}"
            )
        source: bytes | str
        if isinstance(model, bytes):
            subject, source = "ONNX model in memory", model
            _check_head(model[:_HEAD_BYTES], subject)
        else:
            subject, source = str(model), str(model)
            _check_head(_head(Path(model)), subject)

        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        failures = tuple(getattr(state, name) for name in _FAILURES if hasattr(state, name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: every error comes as an exception, warnings tell users nothing
        if intra_op_threads is not None:
            options.intra_op_num_threads = intra_op_threads
        try:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except failures as error:
            raise _load_error(str(error), subject) from error
        return cls(session, failures, subject)

    @property
    def name(self) -> str:
        """``onnxruntime 1.32.0 (CPU)``."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__} (CPU)"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the order of the file."""
        return self._outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """Key and value texts embedded in the file; untrusted."""
        return self._metadata

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may. See `Session.run`.

        Raises:
            InputError: a feed is missing, unknown, not contiguous, or of the wrong shape or dtype.
            SessionError: the runtime failed, or the session is closed.
        """
        session = self._session
        if session is None:
            raise SessionError("the session is closed", subject=self._subject)
        check_feeds(self._inputs, feeds)
        try:
            return tuple(session.run(None, dict(feeds)))
        except self._failures as error:
            raise SessionError(f"the runtime failed: {_plain(str(error))}", subject=self._subject) from error

    def close(self) -> None:
        """Give the model's memory back once no run is under way. Closing twice is no error."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _spec(value: Any, subject: str) -> TensorSpec:
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


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise SessionError("no such file", subject=str(path)) from error
    except IsADirectoryError as error:
        raise SessionError("is a folder, not a model", subject=str(path)) from error
    except OSError as error:
        raise SessionError(f"cannot be read: {error.strerror or error}", subject=str(path)) from error
    except ValueError as error:  # a NUL in the name
        raise SessionError(f"is no file name: {error}", subject=repr(str(path))) from error


def _check_head(head: bytes, subject: str) -> None:
    """Refuse what is plainly no ONNX, with a better reason than a parser's."""
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


def _load_error(text: str, subject: str) -> SessionError:
    """One line for the runtime's own words, which hold paths of its sources and often several lines."""
    plain = _plain(text)
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


def _plain(text: str) -> str:
    """The runtime's sentence without its code, its C++ signature and its line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/?[\w/.]*/onnxruntime/core/\S+ .*?\)(?: const)? (?=[A-Z])", "", text)
    return text if len(text) <= 300 else f"{text[:297]}..."
