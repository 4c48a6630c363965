"""Which models are measured how: `bench_cases` settles it, and refuses what cannot run here, before one is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from yoloship.cuda.device import find_gpu, find_gpus, parse_devices
from yoloship.engine import BuildConfig, Range, check_build, open_engine_file, open_flavour
from yoloship.errors import DependencyError, InputError, SessionError
from yoloship.evaluate.benchmark import BenchCase
from yoloship.kinds import MODEL_KINDS, refuse_others
from yoloship.model import FASTEST
from yoloship.models.releases import resolve
from yoloship.runtime import RUNTIMES, choose_runtime
from yoloship.runtime.onnxruntime.cpu import import_onnxruntime
from yoloship.runtime.session import RuntimePrecision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.detect.detector import Detector
    from yoloship.evaluate.bench_sources import Origin
    from yoloship.images import DecodeChoice
    from yoloship.kinds import Kind
    from yoloship.runtime.session import DeviceKind


@dataclass(frozen=True, slots=True)
class BenchRuntime:
    """What runs the network, as it was asked for.

    Attributes:
        name: In `yoloship.runtime.RUNTIMES`.
        precision: What float32 layers are computed in; None takes the runtime's default.
    """

    name: str
    precision: RuntimePrecision | None = None

    @classmethod
    def parse(cls, text: str) -> BenchRuntime:
        """Read ``openvino`` or ``openvino:bfloat16``.

        Raises:
            InputError: there is no such runtime, or no such precision.
        """
        name, colon, precision = text.partition(":")
        RUNTIMES.load(name)
        if not colon:
            return cls(name)
        for known in get_args(RuntimePrecision):
            if known == precision:
                return cls(name, known)
        raise InputError(
            "is not a precision of a runtime",
            subject=text[:60],
            expected=" or ".join(f"{name}:{known}" for known in get_args(RuntimePrecision)),
        )

    def __str__(self) -> str:
        return f"{self.name}:{self.precision}" if self.precision else self.name


@dataclass(frozen=True, slots=True)
class _Target:
    """A model on a device, through a runtime.

    Attributes:
        path: The file.
        kind: What it is.
        device: ``cpu``, ``cuda:N``, or ``cuda:0,cuda:1``.
        runtime: What runs the network.
        transform: Of a classification model, by name; None takes what the file says.
        class_names: By class id; None takes those in the file.
    """

    path: Path
    kind: Kind
    device: str
    runtime: BenchRuntime
    transform: str | None
    class_names: tuple[str, ...] | None

    @property
    def builds(self) -> bool:
        """Whether an engine must be built of it first."""
        return self.runtime.name == "tensorrt" and self.kind != "engine"


def bench_cases(  # noqa: PLR0913, PLR0917 - one parameter an option
    models: Sequence[str],
    devices: Sequence[str | None],
    runtimes: Sequence[BenchRuntime | None],
    batches: Sequence[int],
    streams: Sequence[int],
    input_hw: tuple[int, int] | None,
    transform: str | None = None,
    class_names: tuple[str, ...] | None = None,
    decode: DecodeChoice = "auto",
) -> list[BenchCase]:
    """Every combination that is to be measured.

    Args:
        models: Checkpoints, ONNX files, engines and release names.
        devices: ``cpu``, ``cuda``, ``cuda:N``, or ``cuda:all`` for all GPUs together; None takes the CPU, or the first
            GPU if the runtime needs one.
        runtimes: What runs the network; None decides by the file.
        batches: Images handed over together.
        streams: Threads that do so at once.
        input_hw: (height, width) of the model's input; None takes the graph's own, else that
            of the training if the checkpoint says it, else 640, or 224 for classification.
        transform: Of classification models: how an image becomes the input, by name; None takes what the file says.
        class_names: One name for each class of every model; None takes those in the files.
        decode: Who decodes image files, as for `yoloship.load`.

    Raises:
        InputError: options contradict each other or a file, or there is no such GPU.
        DependencyError: what a runtime needs is not installed.
        EngineError: an engine does not fit what is installed, or cannot be built here.
        SessionError: a file is not a model, or the CPU cannot run it.
    """
    every = tuple(dict.fromkeys(models))
    labels = _labels(every)
    settled = [
        (model, runtime, _settled(model, device, runtime, transform, class_names))
        for model, device, runtime in product(every, devices, runtimes)
    ]
    for _, _, target in settled:
        if decode == "gpu" and target.device == "cpu":
            raise InputError("needs the model on a GPU", subject="--decode gpu", expected="--device cuda", got="cpu")
        _check(target)
    cases = []
    for model, runtime, target in settled:
        label = labels[model] if runtime is None else f"{labels[model]}, {runtime}"
        cases += [
            BenchCase(label, target.device, batch, count, partial(_open, target, input_hw, batch, count, decode))
            for batch, count in product(batches, streams)
        ]
    return cases


def check_origin(cases: Sequence[BenchCase], origin: Origin) -> None:
    """Refuse cases that cannot begin there.

    Raises:
        InputError: images are to lie in a GPU's memory, and a case has no GPU, or several.
    """
    for case in cases if origin == "device" else ():
        if case.device == "cpu" or "," in case.device:
            raise InputError("needs models on one GPU", subject="--from device", expected="cuda", got=case.device)


def _labels(models: Sequence[str]) -> dict[str, str]:
    """File names; the whole text of those whose names are equal."""
    names = [Path(model).name for model in models]
    return {model: name if names.count(name) == 1 else model for model, name in zip(models, names, strict=True)}


def _settled(
    model: str,
    device: str | None,
    runtime: BenchRuntime | None,
    transform: str | None,
    class_names: tuple[str, ...] | None,
) -> _Target:
    path = resolve(model)
    kind = refuse_others(path, MODEL_KINDS, "model", subject=str(path), error=SessionError)
    runtime = runtime or BenchRuntime("tensorrt" if kind == "engine" else "onnxruntime")
    return _Target(path, kind, _device(device, runtime), runtime, transform, class_names)


def _device(device: str | None, runtime: BenchRuntime) -> str:
    if device == "cpu" or (device is None and "cpu" in RUNTIMES.load(runtime.name).devices):
        return "cpu"
    try:
        ordinals = parse_devices(device or "cuda")
    except InputError as error:
        raise InputError(
            error.problem, subject="--device", expected="cpu, cuda, cuda:N or cuda:all", got=repr(device)
        ) from error
    return ",".join(f"cuda:{ordinal}" for ordinal in ordinals) if device and ":" in device else "cuda"


def _check(target: _Target) -> None:
    """Refuse what is known to fail, before other models are loaded and measured."""
    if target.device == "cpu":
        _check_runtime(target, "cpu")
        _check_cpu(target)
        return
    devices, ordinals = find_gpus(), parse_devices(target.device)
    if max(ordinals) >= len(devices):
        raise InputError(
            "needs an NVIDIA GPU",
            subject=f"{target.path} on {target.device}",
            got=f"{len(devices)} of them" if devices else "no driver, or no GPU",
            hint="'yoloship doctor --for cuda' says what is missing",
        )
    _check_runtime(target, "cuda")
    if target.runtime.name == "onnxruntime":
        _check_provider()
    elif target.builds:
        check_build(open_flavour(), BuildConfig(), "float32", find_gpu())
    else:
        open_engine_file(target.path)


def _check_runtime(target: _Target, device: DeviceKind) -> None:
    runs: Kind = "engine" if target.builds or target.kind == "engine" else "onnx"
    choose_runtime(target.runtime.name, runs, device, target.runtime.precision, model_name=str(target.path))


def _check_cpu(target: _Target) -> None:
    if target.kind != "onnx" or target.runtime.name != "onnxruntime":
        return
    from yoloship.graph.onnx_file import parse_onnx, read_file
    from yoloship.models.vetting import refusal

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


def _open(
    target: _Target, input_hw: tuple[int, int] | None, batch: int, streams: int, decode: DecodeChoice
) -> Detector:
    """Load a model for one case; an engine is built first if there is none in the cache."""
    from yoloship.detect.gpu.transfer import MAX_BATCH, CudaTuning
    from yoloship.models.loading import load

    path = _engine(target, input_hw, batch) if target.builds else target.path
    on_gpu = target.device != "cpu"
    return load(
        path,
        imgsz=input_hw,
        device=target.device,
        runtime=target.runtime.name,
        runtime_precision=target.runtime.precision,
        transform=None if target.builds and target.kind == "checkpoint" else target.transform,  # it is in the engine
        class_names=target.class_names,
        decode=decode,
        cuda_tuning=CudaTuning(slots=max(4, streams), max_batch=max(MAX_BATCH, batch)) if on_gpu else None,
    )


def _engine(target: _Target, input_hw: tuple[int, int] | None, batch: int) -> Path:
    """An engine of the model, from the cache or built now, for batches up to this one."""
    from yoloship.graph import GraphConfig
    from yoloship.models.building import engine_for

    if target.kind != "checkpoint":
        return engine_for(target.path).path
    graph = GraphConfig(
        input_hw=input_hw or "usual", batch=None, input_form="image", output_form=FASTEST, transform=target.transform
    )
    return engine_for(target.path, BuildConfig(batch=Range(1, batch, batch)), graph=graph).path
