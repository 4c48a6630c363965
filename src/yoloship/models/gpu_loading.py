"""From a model's file to a detector on an NVIDIA GPU: `load_on_gpu`."""

from __future__ import annotations

from contextlib import ExitStack
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
from yoloship.tasks.recognise import recognise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.cuda.device import Device
    from yoloship.detect.pipeline import ShapeMode
    from yoloship.model import ModelInfo
    from yoloship.runtime.session import DeviceSession, RuntimePrecision


KERNEL_CHANNELS: Final = 3
"""Of the images that the letterbox on the GPU takes; for others the CPU prepares the input."""


def load_on_gpu(  # noqa: PLR0913 - what `load` takes, settled
    model: Path | bytes,
    ordinal: int,
    *,
    defaults: Defaults,
    imgsz: tuple[int, int] | None,
    shape_mode: ShapeMode,
    tuning: CudaTuning | None,
    model_name: str,
    class_names: Sequence[str] | None = None,
    runtime: str | None = None,
    precision: RuntimePrecision | None = None,
) -> Detector:
    """Make a detector of an ONNX file or an engine.

    Args:
        model: An ONNX file, its bytes, or an engine.
        ordinal: Number of the GPU.
        defaults: What the detector does unless a call says otherwise.
        imgsz: (height, width) of the canvas; None takes the graph's own.
        shape_mode: How an image meets the canvas.
        tuning: How the device is shared out.
        model_name: For messages.
        class_names: In place of those in the file.
        runtime: What runs the network; None takes the default for the kind of file.
        precision: What float32 layers are computed in; None takes the runtime's default.

    Returns:
        A detector. If the model does not take colour images, only the network runs on the GPU, and the CPU does the
        rest.

    Raises:
        CudaError: no driver, no such device, or out of its memory.
        DependencyError: a package of the extra `cuda` is not installed, or the runtime that the model needs.
        EngineError: the engine is damaged, or does not fit what is installed here.
        InputError: an argument contradicts the model.
        SessionError: the runtime refuses the model; an engine, and no GPU can be used.
    """
    from yoloship.cuda.compiler import KernelSet
    from yoloship.detect.gpu.pipeline import CudaPipeline

    with ExitStack() as stack:
        device = _device(stack, model, ordinal, model_name)
        kernels = stack.enter_context(KernelSet(device, trusted_folder("kernels")))
        session = stack.enter_context(_open(model, device, RunOptions(precision, model_name=model_name), runtime))
        info = _recognised(session, model_name, class_names, imgsz)
        model_input = ModelInput.checked(info, imgsz, shape_mode, model_name)
        if info.channels != KERNEL_CHANNELS:
            return _with_the_rest_on_the_cpu(stack, session, model_input, defaults, tuning or CudaTuning())
        owned = stack.pop_all()
        try:
            pipeline = CudaPipeline(session, kernels, model_input, tuning=tuning, owned=owned)
        except BaseException:
            owned.close()
            raise
        try:
            return Detector.over(pipeline, defaults)
        except BaseException:
            pipeline.close()
            raise


def load_network_on_gpu(
    model: Path | bytes, ordinal: int, *, imgsz: tuple[int, int] | None, model_name: str
) -> Detector:
    """The CPU's pipeline around a network on a GPU, so that its outputs can be looked at on the host.

    Args:
        model: An ONNX file, its bytes, or an engine.
        ordinal: Number of the GPU.
        imgsz: (height, width) of the canvas; None takes the graph's own.
        model_name: For messages.

    Raises:
        YoloshipError: as `load_on_gpu`.
    """
    with ExitStack() as stack:
        session = stack.enter_context(
            _open(model, _device(stack, model, ordinal, model_name), RunOptions(model_name=model_name))
        )
        info = _recognised(session, model_name, canvas_hw=imgsz)
        model_input = ModelInput.checked(info, imgsz, "square", model_name)
        return _with_the_rest_on_the_cpu(stack, session, model_input, Defaults(), CudaTuning())


def _device(stack: ExitStack, model: Path | bytes, ordinal: int, subject: str) -> Device:
    from yoloship.cuda.device import Device

    try:
        return stack.enter_context(Device.open(ordinal))
    except (CudaError, DependencyError) as error:
        if kind_of(model) == "engine":
            raise SessionError(
                f"an engine runs on an NVIDIA GPU, and none can be used here ({error.subject}: {error.problem})",
                subject=subject,
                hint="see 'yoloship doctor --for cuda'; on a CPU take the ONNX file it was built from",
            ) from error
        raise


def _with_the_rest_on_the_cpu(
    stack: ExitStack, session: DeviceSession, model: ModelInput, defaults: Defaults, tuning: CudaTuning
) -> Detector:
    """A detector around a network on the GPU, which owns from now on what the stack holds."""
    for name in ("transfer", "on_full_memory"):
        if getattr(tuning, name) != getattr(CudaTuning(), name):
            raise InputError(
                f"has no effect on this model, because the CPU prepares its images of {model.info.channels} channels",
                subject=f"cuda_tuning.{name}",
                expected="the default",
                got=str(getattr(tuning, name)),
                hint="leave it out",
            )
    _, max_batch = batch_range(session, model.info.batch, tuning.max_batch)
    host = session.as_host_session(stack.pop_all(), streams=tuning.slots, shapes=tuning.plans)
    try:
        pipeline = CpuPipeline(host, model, parallel_runs=tuning.slots, max_batch=max_batch, device=str(session.device))
        return Detector.over(pipeline, defaults)
    except BaseException:
        host.close()
        raise


def _recognised(
    session: DeviceSession,
    subject: str,
    class_names: Sequence[str] | None = None,
    canvas_hw: tuple[int, int] | None = None,
) -> ModelInfo:
    with session.as_host_session() as host:  # a foreign graph is run once
        return recognise(host, subject, class_names, canvas_hw=canvas_hw)


def _open(model: Path | bytes, device: Device, options: RunOptions, runtime: str | None = None) -> DeviceSession:
    return open_on_device(
        device, model, options, runtime=runtime, kind="engine" if kind_of(model) == "engine" else "onnx"
    )
