"""Loads models on an NVIDIA GPU: `load_on_gpu`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from yoloship._util.cache import trusted_folder
from yoloship.detect.batching import batch_range
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.gpu.transfer import CudaTuning
from yoloship.detect.pipeline import ModelInput
from yoloship.errors import CudaError, DependencyError, InputError, SessionError
from yoloship.kinds import kind_of
from yoloship.runtime import open_on_device
from yoloship.runtime.session import RunOptions
from yoloship.tasks import info_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.detect.pipeline import Pipeline, ShapeMode
    from yoloship.images import DecodeChoice
    from yoloship.model import ModelInfo
    from yoloship.runtime.session import DeviceSession, RuntimePrecision
    from yoloship.transforms import Transform


KERNEL_CHANNELS: Final = 3
"""Channels of the images that the letterbox on the GPU takes; for others the CPU prepares the input."""


@dataclass(frozen=True, slots=True)
class _Choices:
    """What `load_on_gpu` takes, except for the model, the GPU and the options."""

    imgsz: tuple[int, int] | None
    shape_mode: ShapeMode
    tuning: CudaTuning
    model_name: str
    class_names: Sequence[str] | None
    transform: Transform | str | None
    runtime: str | None
    precision: RuntimePrecision | None
    decode: DecodeChoice


def load_on_gpu(  # noqa: PLR0913 - what `load` takes, settled
    model: Path | bytes,
    ordinal: int | Sequence[int],
    *,
    defaults: Defaults,
    imgsz: tuple[int, int] | None,
    shape_mode: ShapeMode,
    tuning: CudaTuning | None,
    model_name: str,
    class_names: Sequence[str] | None = None,
    transform: Transform | str | None = None,
    runtime: str | None = None,
    precision: RuntimePrecision | None = None,
    decode: DecodeChoice = "auto",
) -> Detector:
    """Make a detector of an ONNX file or an engine.

    Args:
        model: An ONNX file, its bytes, or an engine.
        ordinal: Number of the GPU, or the numbers of several.
        defaults: Options of the detector that a call can override.
        imgsz: (height, width) of the canvas; None takes the graph's own.
        shape_mode: How images are padded, ``square`` or ``rect``.
        tuning: How the detector uses the GPU.
        model_name: The model's name, for messages.
        class_names: Class names to use instead of those in the file.
        transform: For classification models: how an image becomes the input; None takes what the file says.
        runtime: The runtime's name; None takes the default for the kind of file.
        precision: The arithmetic of float32 layers; None takes the runtime's default.
        decode: Who decodes JPEG files.

    Returns:
        A detector. If the model takes other inputs than one of RGB images in [0, 1], or classifies, only the network
        runs on the GPU, and the CPU does the rest.

    Raises:
        CudaError: there is no driver or no such device, or its memory is full.
        DependencyError: a package of the extra `cuda` or the runtime that the model needs is not installed.
        EngineError: the engine is damaged, or does not fit what is installed here.
        InputError: an argument contradicts the model.
        SessionError: the runtime refuses the model, or the model is an engine and no GPU can be used.
    """
    choices = _Choices(
        imgsz, shape_mode, tuning or CudaTuning(), model_name, class_names, transform, runtime, precision, decode
    )
    pipeline = _on_one(model, ordinal, choices) if isinstance(ordinal, int) else _on_several(model, ordinal, choices)
    try:
        return Detector.over(pipeline, defaults)
    except BaseException:
        pipeline.close()
        raise


def _on_several(model: Path | bytes, ordinals: Sequence[int], choices: _Choices) -> Pipeline:
    if len(ordinals) == 1:
        return _on_one(model, ordinals[0], choices)
    from yoloship.detect.gpu.filling import FEW_THREADS
    from yoloship.detect.gpu.several import SeveralGpus

    tuning = replace(choices.tuning, copy_threads=min(choices.tuning.copy_threads, FEW_THREADS))
    choices = replace(choices, tuning=tuning)
    with ExitStack() as stack:
        pipeline = SeveralGpus(
            [stack.enter_context(_on_one(model, ordinal, choices, len(ordinals))) for ordinal in ordinals]
        )
        stack.pop_all()
    return pipeline


def _on_one(model: Path | bytes, ordinal: int, choices: _Choices, gpus: int = 1) -> Pipeline:
    from yoloship.cuda.compiler import KernelSet
    from yoloship.detect.gpu.decoding import JpegDecoding
    from yoloship.detect.gpu.pipeline import CudaPipeline

    name, imgsz, transform = choices.model_name, choices.imgsz, choices.transform
    with ExitStack() as stack:
        device = _device(stack, model, ordinal, name)
        kernels = stack.enter_context(KernelSet(device, trusted_folder("kernels")))
        options = RunOptions(choices.precision, model_name=name)
        jpegs = stack.enter_context(JpegDecoding(device, kernels, choices.decode, name, gpus))
        jpegs.begin()  # which takes about as long as opening the network
        session = stack.enter_context(_open(model, device, options, choices.runtime))
        info = _recognised(session, name, choices.class_names, imgsz, transform)
        model_input = ModelInput.checked(info, imgsz, choices.shape_mode, name)
        on_cpu = info.channels != KERNEL_CHANNELS or info.pixels is not None or len(session.inputs) > 1
        if on_cpu or model_input.info.transform is not None:
            if choices.decode == "gpu":
                raise InputError(
                    "has no effect on this model, because the CPU prepares its images",
                    subject="decode", expected="auto or cpu", got="gpu", hint="leave it out",
                )  # fmt: skip
            jpegs.close()
            return _with_the_rest_on_the_cpu(stack, session, model_input, choices.tuning)
        owned = stack.pop_all()
        try:
            return CudaPipeline(session, kernels, model_input, tuning=choices.tuning, decode=jpegs, owned=owned)
        except BaseException:
            owned.close()
            raise


def load_network_on_gpu(
    model: Path | bytes,
    ordinal: int,
    *,
    imgsz: tuple[int, int] | None,
    model_name: str,
    transform: Transform | str | None = None,
    class_names: Sequence[str] | None = None,
) -> Detector:
    """A CPU pipeline around a network on a GPU, so that the network's outputs can be read on the host.

    Args:
        model: An ONNX file, its bytes, or an engine.
        ordinal: Number of the GPU.
        imgsz: (height, width) of the canvas; None takes the graph's own.
        model_name: The model's name, for messages.
        transform: For classification models: how an image becomes the input; None takes what the file says.
        class_names: Class names to use instead of those in the file.

    Raises:
        YoloshipError: what `load_on_gpu` raises.
    """
    with ExitStack() as stack:
        session = stack.enter_context(
            _open(model, _device(stack, model, ordinal, model_name), RunOptions(model_name=model_name))
        )
        info = _recognised(session, model_name, class_names, imgsz, transform)
        model_input = ModelInput.checked(info, imgsz, "square", model_name)
        pipeline = _with_the_rest_on_the_cpu(stack, session, model_input, CudaTuning())
        return Detector.over(pipeline)


def _device(stack: ExitStack, model: Path | bytes, ordinal: int, subject: str) -> Device:
    from yoloship.cuda.device import Device

    try:
        return stack.enter_context(Device.open(ordinal))
    except (CudaError, DependencyError) as error:
        if kind_of(model) == "engine":
            raise SessionError(
                f"an engine runs on an NVIDIA GPU, and none can be used here ({error.subject}: {error.problem})",
                subject=subject,
                hint="run 'yoloship doctor --for cuda'; on a CPU use the ONNX file that it was built from",
            ) from error
        raise


def _with_the_rest_on_the_cpu(
    stack: ExitStack, session: DeviceSession, model: ModelInput, tuning: CudaTuning
) -> Pipeline:
    """A pipeline around a network on the GPU, with all other steps on the CPU. It takes over what the stack owns."""
    for name in ("transfer", "on_full_memory"):
        if getattr(tuning, name) != getattr(CudaTuning(), name):
            raise InputError(
                "has no effect on this model, because the CPU prepares its images",
                subject=f"cuda_tuning.{name}",
                expected="the default",
                got=str(getattr(tuning, name)),
                hint="leave it out",
            )
    _, max_batch = batch_range(session, model.info.batch, tuning.max_batch)
    host = session.as_host_session(stack.pop_all(), streams=tuning.slots, shapes=tuning.plans)
    try:
        return CpuPipeline(host, model, parallel_runs=tuning.slots, max_batch=max_batch, device=str(session.device))
    except BaseException:
        host.close()
        raise


def _recognised(
    session: DeviceSession,
    subject: str,
    class_names: Sequence[str] | None,
    canvas_hw: tuple[int, int] | None,
    transform: Transform | str | None,
) -> ModelInfo:
    with session.as_host_session() as host:  # a foreign graph is run once
        return info_of(host, subject, class_names, canvas_hw=canvas_hw, transform=transform)


def _open(model: Path | bytes, device: Device, options: RunOptions, runtime: str | None = None) -> DeviceSession:
    return open_on_device(
        device, model, options, runtime=runtime, kind="engine" if kind_of(model) == "engine" else "onnx"
    )
