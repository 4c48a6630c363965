"""ONNX Runtime as an entry of the table of runtimes, and its session on the CPU, which is the default.

The session on a GPU (`cuda.py`) takes from here what both need: the import, sources, tensors and errors.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cores import usable_cores
from yoloship._util.text import shortened
from yoloship.errors import InputError, SessionError
from yoloship.kinds import Kind, damaged_onnx, refuse_others
from yoloship.model import DType, TensorSpec
from yoloship.runtime.session import Runtime, Session, check_feeds
from yoloship.runtime.watch import watched

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.cuda.device import Device
    from yoloship.runtime.session import DeviceSession, RunOptions

MAX_RUNS: Final = 16
"""Runs at once of a session tuned for throughput; each holds its own activations, about 30 MB for a yolov5n at 640."""


class OnnxRuntime(Runtime):
    """ONNX Runtime: the default for graphs. It computes what the graph says, and float32 in float32."""

    title = "ONNX Runtime"
    packages = ("onnxruntime",)
    install = "pip install onnxruntime"
    opens = frozenset({"onnx", "unknown"})  # content of no known kind may be ONNX of an unusual form
    devices = frozenset({"cpu", "cuda"})
    precisions = frozenset({"float32"})

    @classmethod
    def open(cls, model: Path | bytes, options: RunOptions) -> Session:
        """Load a model on the CPU. `OnnxRuntimeSession.open` says what it raises."""
        runs, cores = 1, options.cores or usable_cores()
        # The runtime counts the machine's cores. In a container with a quota it would start more threads than may run,
        # and they would wait for each other while throttled.
        threads = cores if options.cores or cores < (os.cpu_count() or 1) else None
        if options.tuned_for == "throughput":
            runs = min(cores, MAX_RUNS)
            threads = cores // runs
        return OnnxRuntimeSession.open(
            model,
            intra_op_threads=threads,
            concurrent_runs=runs,
            subject=options.model_name,
            limit_s=options.limit_s,
        )

    @classmethod
    def open_on(cls, device: Device, model: Path | bytes, options: RunOptions) -> DeviceSession:
        """Load a model on an NVIDIA GPU. `OnnxRuntimeCudaSession.open` says what it raises."""
        from yoloship.runtime.onnxruntime.cuda import OnnxRuntimeCudaSession

        return OnnxRuntimeCudaSession.open(model, device, subject=options.model_name)


class OnnxRuntimeSession(Session):
    """A model opened by ONNX Runtime on the CPU; make one with `open`.

    Graph optimisation stays at its highest level, the runtime's default. No other option was faster for one image, and
    one thread per run suits several workers that share a session.
    """

    def __init__(
        self,
        session: Any,
        subject: str,
        limit_s: float | None = None,
        concurrent_runs: int = 1,
    ) -> None:
        super().__init__(
            (tensor_spec(value, subject) for value in session.get_inputs()),
            (tensor_spec(value, subject) for value in session.get_outputs()),
            session.get_modelmeta().custom_metadata_map,
        )
        self._session: Any | None = session
        self._subject = subject
        self._limit_s = limit_s
        self.concurrent_runs = concurrent_runs

    @classmethod
    def open(
        cls,
        model: Path | str | bytes,
        *,
        intra_op_threads: int | None = None,
        concurrent_runs: int = 1,
        subject: str | None = None,
        limit_s: float | None = None,
    ) -> Self:
        """Load an ONNX model.

        Args:
            model: A file, or its bytes. Weights in other files (external data) are found only for a file.
            intra_op_threads: Threads that one run may use; None leaves it to the runtime: one per physical core.
            concurrent_runs: Number of runs at the same time that these threads are meant for; it is not a limit.
            subject: The name of a model that is given as bytes, for messages.
            limit_s: Time limit in seconds for opening the model and for each run, for untrusted files. None sets no
                limit.

        Raises:
            InputError: the number of threads is not positive.
            SessionError: the file is empty, not ONNX, damaged, or uses an operator that this runtime does not have.
        """
        if intra_op_threads is not None and intra_op_threads < 1:
            raise InputError(
                "too few threads", subject="intra_op_threads", expected="1 or more", got=f"{intra_op_threads}"
            )
        source, subject = open_source(model, subject)

        onnxruntime = import_onnxruntime()

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: every error comes as an exception, warnings tell users nothing
        if intra_op_threads is not None:
            options.intra_op_num_threads = intra_op_threads

        make = partial(onnxruntime.InferenceSession, source, options, providers=["CPUExecutionProvider"])

        def stop() -> None:
            if hasattr(options, "set_load_cancellation_flag"):  # since 1.22; before, its thread ends by itself
                options.set_load_cancellation_flag(True)

        try:
            session = make() if limit_s is None else watched(make, stop, limit_s, subject)
        except failures() as error:
            raise load_error(str(error), subject) from error
        if isinstance(source, bytes):
            session._model_bytes = None  # kept only for other providers, which are never used
        opened = cls(session, subject, limit_s, concurrent_runs)
        opened.run_threads = intra_op_threads
        return opened

    @property
    def name(self) -> str:
        """The runtime and its device, as text: ``onnxruntime 1.32.0 (CPU)``."""
        onnxruntime = import_onnxruntime()

        return f"onnxruntime {onnxruntime.__version__} (CPU)"

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], ...]:
        """Run once; many threads may call it at the same time. `Session.run` explains the arguments.

        Raises:
            InputError: a feed is missing, unknown, not contiguous, or of the wrong shape or dtype.
            SessionError: the runtime failed or took too long, or the session is closed.
        """
        session = self._session
        if session is None:
            raise SessionError("the session is closed", subject=self._subject)
        check_feeds(self.inputs, feeds)
        try:
            if self._limit_s is None:
                return tuple(session.run(None, dict(feeds)))
            return self._run_watched(session, dict(feeds), self._limit_s)
        except failures() as error:
            raise SessionError(f"the runtime failed: {plain_text(str(error))}", subject=self._subject) from error

    def _run_watched(
        self, session: Any, feeds: dict[str, npt.NDArray[np.generic]], limit_s: float
    ) -> tuple[npt.NDArray[np.generic], ...]:
        options = import_onnxruntime().RunOptions()

        def stop() -> None:
            options.terminate = True

        return watched(lambda: tuple(session.run(None, feeds, options)), stop, limit_s, self._subject)

    def close(self) -> None:
        """Release the model when no run is active. It may be called twice."""
        self._session = None


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
        return damaged_onnx(subject, error=SessionError)
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
