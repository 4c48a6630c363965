"""ONNX Runtime, on the CPU and on an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship._util.cores import limited_cores, usable_cores
from yoloship.runtime.session import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.runtime.session import DeviceSession, RunOptions, Session

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
        """Load a model on the CPU; see `OnnxRuntimeSession.open` for what it raises."""
        from yoloship.runtime.onnxruntime.cpu import OnnxRuntimeSession

        runs, threads = (1, limited_cores()) if options.tuned_for == "latency" else _shared_out(usable_cores())
        return OnnxRuntimeSession.open(
            model,
            intra_op_threads=threads,
            concurrent_runs=runs,
            subject=options.model_name,
            limit_s=options.limit_s,
        )

    @classmethod
    def open_on(cls, device: Device, model: Path | bytes, options: RunOptions) -> DeviceSession:
        """Load a model on an NVIDIA GPU; see `OnnxRuntimeCudaSession.open` for what it raises."""
        from yoloship.runtime.onnxruntime.cuda import OnnxRuntimeCudaSession

        return OnnxRuntimeCudaSession.open(model, device, subject=options.model_name)


def _shared_out(cores: int) -> tuple[int, int]:
    """Runs at once, and threads for each."""
    runs = min(cores, MAX_RUNS)
    return runs, cores // runs
