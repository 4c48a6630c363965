"""Which models are measured how: `bench_cases` settles it, and refuses what cannot run here, before one is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from yoloship.cuda.driver import find_gpu, find_gpus
from yoloship.engine import BuildConfig, Range, check_build, open_engine_file, open_flavour
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.evaluate.benchmark import BenchCase
from yoloship.kinds import MODEL_KINDS, refuse_others
from yoloship.models.releases import resolve
from yoloship.runtime.onnxruntime.common import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.detect.detector import Detector
    from yoloship.kinds import Kind

Backend: TypeAlias = Literal["onnxruntime", "tensorrt"]
BACKENDS: Final[tuple[Backend, ...]] = ("onnxruntime", "tensorrt")
_DEFAULT_HW: Final = (640, 640)


@dataclass(frozen=True, slots=True)
class _Target:
    """A model on a device, through a runtime.

    Attributes:
        path: The file.
        kind: What it is.
        device: ``cpu``, or ``cuda:N``.
        backend: What runs the network.
    """

    path: Path
    kind: Kind
    device: str
    backend: Backend

    @property
    def builds(self) -> bool:
        """Whether an engine must be built of it first."""
        return self.backend == "tensorrt" and self.kind != "engine"


def bench_cases(
    models: Sequence[str],
    devices: Sequence[str | None],
    backends: Sequence[Backend | None],
    batches: Sequence[int],
    streams: Sequence[int],
    input_hw: tuple[int, int] | None,
) -> list[BenchCase]:
    """Every combination that is to be measured.

    Args:
        models: Checkpoints, ONNX files, engines and release names.
        devices: ``cpu``, ``cuda`` or ``cuda:N``; None takes the CPU, or the first GPU if the runtime is TensorRT.
        backends: What runs the network; None decides by the file.
        batches: Pictures handed over together.
        streams: Threads that do so at once.
        input_hw: (height, width) of the model's input; None takes the graph's own, else 640.

    Raises:
        InputError: options contradict each other or a file, or there is no such GPU.
        DependencyError: what a runtime needs is not installed.
        EngineError: an engine does not fit what is installed, or cannot be built here.
        SessionError: a file is not a model, or the CPU cannot run it.
    """
    every = tuple(dict.fromkeys(models))
    labels = _labels(every)
    settled = [
        (model, backend, _settled(model, device, backend))
        for model, device, backend in product(every, devices, backends)
    ]
    for _, _, target in settled:
        _check(target)
    cases = []
    for model, backend, target in settled:
        label = labels[model] if backend is None else f"{labels[model]}, {backend}"
        cases += [
            BenchCase(label, target.device, batch, count, partial(_open, target, input_hw, batch, count))
            for batch, count in product(batches, streams)
        ]
    return cases


def _labels(models: Sequence[str]) -> dict[str, str]:
    """File names; the whole text of those whose names are equal."""
    names = [Path(model).name for model in models]
    return {model: name if names.count(name) == 1 else model for model, name in zip(models, names, strict=True)}


def _settled(model: str, device: str | None, backend: Backend | None) -> _Target:
    path = resolve(model)
    kind = refuse_others(path, MODEL_KINDS, "model", subject=str(path), error=SessionError)
    if backend == "onnxruntime" and kind == "engine":
        raise InputError("is an engine, which ONNX Runtime does not run", subject=str(path))
    runs_by = backend or ("tensorrt" if kind == "engine" else "onnxruntime")
    if runs_by == "tensorrt" and device == "cpu":
        raise InputError(
            "TensorRT runs on a GPU",
            subject=str(path) if kind == "engine" else "--backend",
            expected="--device cuda",
            got="cpu",
        )
    return _Target(path, kind, _device(device, runs_by), runs_by)


def _device(device: str | None, backend: Backend) -> str:
    if device == "cpu" or (device is None and backend == "onnxruntime"):
        return "cpu"
    from yoloship.cuda.device import parse_device

    try:
        ordinal = parse_device(device or "cuda")
    except InputError as error:
        raise InputError(
            "no such device", subject="--device", expected="cpu, cuda or cuda:N", got=repr(device)
        ) from error
    return f"cuda:{ordinal}" if device and ":" in device else "cuda"


def _check(target: _Target) -> None:
    """Refuse what is known to fail, before other models are loaded and measured."""
    if target.device == "cpu":
        _check_cpu(target)
        return
    devices, ordinal = find_gpus(), int(target.device.partition(":")[2] or 0)
    if ordinal >= len(devices):
        raise InputError(
            "needs an NVIDIA GPU",
            subject=f"{target.path} on {target.device}",
            got=f"{len(devices)} of them" if devices else "no driver, or no GPU",
            hint="'yoloship doctor --for cuda' says what is missing",
        )
    if target.backend == "onnxruntime":
        _check_provider()
    elif target.builds:
        check_build(open_flavour(), BuildConfig(), "float32", find_gpu())
    else:
        open_engine_file(target.path)


def _check_cpu(target: _Target) -> None:
    if target.kind != "onnx":
        return
    from yoloship.graph.onnx_file import parse_onnx, read_file
    from yoloship.models.cpu_kernels import refusal

    subject = str(target.path)
    if (error := refusal(parse_onnx(read_file(target.path), subject), subject)) is not None:
        raise error


def _check_provider() -> None:
    onnxruntime = import_onnxruntime()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DependencyError(
            "is the build without CUDA",
            subject=f"onnxruntime {onnxruntime.__version__}",
            expected="onnxruntime-gpu",
            hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; both install the same files",
        )


def _open(target: _Target, input_hw: tuple[int, int] | None, batch: int, streams: int) -> Detector:
    """Load a model for one case; an engine is built first if there is none in the cache."""
    from yoloship.detect.gpu.transfer import MAX_BATCH, CudaTuning
    from yoloship.models.loading import load

    if target.device == "cpu":
        return load(target.path, imgsz=input_hw, device="cpu")
    path = _engine(target, input_hw, batch) if target.builds else target.path
    tuning = CudaTuning(slots=max(4, streams), max_batch=max(MAX_BATCH, batch))
    return load(path, imgsz=input_hw, device=target.device, cuda_tuning=tuning)


def _engine(target: _Target, input_hw: tuple[int, int] | None, batch: int) -> Path:
    """An engine of the model, from the cache or built now, for batches up to this one."""
    from yoloship.graph import GraphConfig
    from yoloship.models.building import engine_for

    if target.kind != "checkpoint":
        return engine_for(target.path).path
    graph = GraphConfig(input_hw=input_hw or _DEFAULT_HW, batch=None, input_form="image", output_form="heads")
    return engine_for(target.path, BuildConfig(batch=Range(1, batch, batch)), graph=graph).path
