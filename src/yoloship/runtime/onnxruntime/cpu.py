"""ONNX Runtime as an entry of the table of runtimes, and its session on the CPU, which is the default."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.cores import usable_cores
from yoloship.errors import InputError, SessionError
from yoloship.runtime.onnxruntime.common import (
    failures,
    import_onnxruntime,
    load_error,
    open_source,
    plain_text,
    tensor_spec,
    watched,
)
from yoloship.runtime.session import Runtime, Session, check_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
        runs, cores = 1, usable_cores()
        # The runtime counts the machine's cores. In a container with a quota it would start more threads than may run,
        # and they would wait for each other while throttled.
        threads = cores if cores < (os.cpu_count() or 1) else None
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
        return cls(session, subject, limit_s, concurrent_runs)

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
