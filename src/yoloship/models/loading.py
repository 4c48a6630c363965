"""From a model's file to a `Detector`: `load`.

The graph that is written from a checkpoint is kept in the cache. The name of a cached file holds a key (what the graph
was made from, and how) and the SHA-256 of the file's bytes, so a file that was cut short or changed does not match its
name, and is built again. A result never depends on the cache: a folder that cannot be used costs time and is not an
error.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from numbers import Integral
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from yoloship._util.cache import cached
from yoloship._util.reading import file_sha256, open_regular, read_up_to
from yoloship._version import __version__
from yoloship.detect.cpu import CpuPipeline
from yoloship.detect.detector import Defaults, Detector
from yoloship.detect.options import DetectOptions
from yoloship.detect.pipeline import ModelInput, ShapeMode
from yoloship.errors import InputError, SessionError, visible
from yoloship.images.normalise import ChannelOrder, DecodeChoice
from yoloship.kinds import HEAD_BYTES, MODEL_KINDS, refuse_others
from yoloship.model import FASTEST, HeadChoice
from yoloship.runtime import choose_runtime
from yoloship.runtime.session import RunOptions, RuntimePrecision, TunedFor
from yoloship.tasks import info_of
from yoloship.transforms import Transform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from io import FileIO

    from yoloship.detect.gpu.transfer import CudaTuning
    from yoloship.kinds import Kind


MAX_GRAPH_BYTES: Final = 2 << 30
"""The largest size of a protobuf message."""


def cached_graph(made_from: tuple[object, ...], build: Callable[[], bytes]) -> bytes:
    """A graph from the cache; it is built if it is not there.

    It returns the bytes that were checked, not the file, because another process may remove the file at any time.

    Args:
        made_from: Everything that determines the result: the checkpoint's SHA-256 and the configuration. The code that
            builds the graph is added to it.
        build: Makes the file's bytes.
    """
    from importlib.util import find_spec

    # A checkout changes more often than our version, so our own modules count too, by name, size and time: all of them,
    # so that none that has a part in building can be forgotten. None is read, since a start waits for it; an editor, a
    # checkout and an installation all set the time. The library that writes graphs is not imported either, nor its
    # metadata searched: it says its version in a file.
    code: list[object] = [__version__]
    if (spec := find_spec("onnx")) is not None and spec.origin is not None:
        with suppress(OSError):
            code.append(Path(spec.origin).with_name("version.py").read_bytes())
    package = os.fspath(Path(__file__).parents[1])
    folders = [package]
    try:
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in sorted(entries, key=attrgetter("name")):
                    if entry.name.endswith(".py"):
                        status = entry.stat()
                        code.append((entry.path.removeprefix(package), status.st_size, status.st_mtime_ns))
                    elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    except OSError:  # our own modules cannot be listed
        return build()
    return cached("graphs", (*made_from, *code), ".onnx", MAX_GRAPH_BYTES, build)


_CanvasHw: TypeAlias = "tuple[int, int] | Literal['usual'] | None"
"""The canvas of a checkpoint's graph: a size, the usual one of its task and training, or any."""
_MAX_SIDE: Final = 8192
_LOADED: Final = "loaded %s on %s in %.2f s%s"
_logger = logging.getLogger("yoloship.models")


def load(  # noqa: PLR0913 - all but the model have defaults
    model: str | Path | bytes,
    *,
    task: str | None = None,
    imgsz: int | tuple[int, int] | None = None,
    shape_mode: ShapeMode = "square",
    device: str | None = None,
    options: DetectOptions | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    classes: Sequence[int | str] | None = None,
    max_detections: int | None = None,
    channels: ChannelOrder = "bgr",
    class_names: Sequence[str] | None = None,
    head: HeadChoice | None = None,
    aliases: Mapping[str, str] | None = None,
    transform: Transform | str | None = None,
    tuned_for: TunedFor = "latency",
    runtime: str | None = None,
    runtime_precision: RuntimePrecision | None = None,
    workers: int | None = None,
    cuda_tuning: CudaTuning | None = None,
    decode: DecodeChoice = "auto",
) -> Detector:
    """Load a model as a detector.

    A checkpoint is read as data and turned into a graph. The graph is kept in the user's cache folder, by the content
    of the checkpoint and not its name. The file type is also detected from the content, not the name.

    Args:
        model: A checkpoint (.pt) or an ONNX file, its bytes, a TensorRT engine, or the name of an official release such
            as ``yolov5s``.
        task: The task that the model must have: ``detect``, ``segment``, ``pose``, ``obb``, ``classify``, or one from
            another package. None accepts any.
        imgsz: Canvas side, or (height, width), in model pixels: multiples of the model's stride. None takes the graph's
            own, else the training size if the checkpoint states it, else 640.
        shape_mode: ``square`` pads every image to the whole canvas. ``rect`` pads it to the next multiple of the
            stride, which is faster and gives slightly different numbers; it needs a graph with dynamic height and
            width.
        device: ``cpu``, ``cuda`` or ``cuda:N``; or several GPUs that share the work, ``cuda:0,cuda:1`` or ``cuda:all``.
            None takes the CPU, and for an engine the first GPU.
        options: Which detections to keep. None takes the settings of NMS inside the graph. If there is none, it takes
            the defaults of `DetectOptions`, with the IoU threshold of the model's own tool: 0.45 for YOLOv5, 0.7 for
            Ultralytics' models.
        score_threshold: Keep only boxes with a score above this, in [0, 1]. This and the next three arguments are
            shortcuts for single `options`; None leaves the option unchanged.
        iou_threshold: Drop a box whose IoU with a better box of its class is above this, in [0, 1].
        classes: Keep only these classes, by id or name.
        max_detections: Keep at most this many boxes per image.
        channels: The colour order of arrays, unless a call gives another: ``bgr``, as in OpenCV, or ``rgb``. Files,
            Pillow images and nvImageCodec images state their own order, which is then used.
        class_names: One name for each class, to use instead of the names in the file.
        head: For checkpoints of networks with two heads, such as YOLOv10 and YOLO26: ``one2many``, which needs NMS, or
            ``one2one``, which does not. None takes the default of the version that wrote the checkpoint.
        aliases: For checkpoints: class paths of a fork, each with the equivalent official class path.
        transform: For classification models: how an image becomes the input. Either the name of the library that
            trained the model (``torchvision-v1``, ``torchvision-v2``, ``timm``, ``yolov5``, ``ultralytics``),
            optionally with parameters (``timm:crop_pct=0.95,interpolation=bicubic``), or a `Transform`. None takes the
            transform stated in the file.
        tuned_for: ``latency`` for one image at a time, or ``throughput`` for many. This matters only on the CPU.
        runtime: The library that runs the network: ``onnxruntime``, ``openvino``, ``tensorrt``, or one from another
            package. ``auto`` takes the first one that can do what you ask; the log and `Session.reason` say why. None
            takes ONNX Runtime, or TensorRT for an engine.
        runtime_precision: The arithmetic that the runtime uses for float32 layers: ``float32``, or ``bfloat16`` if the
            runtime and the processor support it; the boxes then differ slightly. None takes float32. The precision of
            an engine is fixed, so only None is allowed.
        workers: CPU cores to use; None takes all that this process may use. With ``throughput``, several images share
            them; with ``latency``, one image gets them all.
        cuda_tuning: How the GPU is used; not for the CPU. If the model does not take colour images, `transfer` and
            `on_full_memory` have no effect and are refused.
        decode: What decodes image files: ``cpu``; ``gpu``, which decodes JPEG files on the GPU that runs the model, and
            gives an error for them without a JPEG engine and the extra `gpu-media`; or ``auto``, which uses the GPU if
            it can. The CPU always decodes files that the GPU does not support. `Detector.decoding` says what was
            chosen. For videos (`Detector.video_decoding`) with ``auto``, the CPU decodes video files, because it
            detects damaged frames, and the GPU decodes live streams. With ``gpu``, damage inside a frame goes
            unnoticed, and a video that the GPU cannot decode gives an error in its place.

    Returns:
        A detector that the caller closes, or uses as a context manager.

    Raises:
        InputError: an argument is outside its range, or contradicts the model.
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: the checkpoint's architecture cannot be written as a graph.
        SessionError: the runtime refuses the model, or the file is not a model.
        DownloadError: a named release cannot be fetched.
        CudaError: there is no NVIDIA driver or no such GPU, or its memory is full.
        DependencyError: a package that a GPU or an engine needs is not installed.
        EngineError: the engine is damaged, or does not match what is installed here.
    """
    changes = DetectOptions.changes(
        options,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        classes=classes,
        max_detections=max_detections,
    )
    defaults = Defaults(options, changes, channels, task)
    replace(options or DetectOptions(), **changes)  # refuses wrong values before the model is read or downloaded
    ordinals = () if device is None or device == "cpu" else _ordinals(device)
    given: Any
    allowed: Any
    for subject, problem, given, allowed in (
        ("channels", "no such channel order", channels, get_args(ChannelOrder)),
        ("shape_mode", "no such mode", shape_mode, get_args(ShapeMode)),
        ("tuned_for", "no such choice", tuned_for, get_args(TunedFor)),
        ("runtime_precision", "no such choice", runtime_precision, (None, *get_args(RuntimePrecision))),
        ("head", "no such choice", head, (None, *get_args(HeadChoice))),
        ("decode", "no such choice", decode, get_args(DecodeChoice)),
    ):
        if not isinstance(given, str | None) or given not in allowed:
            expected = " or ".join(filter(None, allowed))
            raise InputError(problem, subject=subject, expected=expected, got=repr(given)[:60])
    for subject, given, allowed, expected in (
        ("runtime", runtime, str, "the name of a runtime"),
        ("class_names", class_names, Iterable, "a sequence of names"),
        ("aliases", aliases, Mapping, "a mapping from class paths to class paths"),
        ("transform", transform, (Transform, str), "the name of a transform or a Transform"),
    ):
        if given is not None and not isinstance(given, allowed):
            raise InputError("wrong type", subject=subject, expected=expected, got=repr(given)[:60])
    if workers is not None and not _is_count(workers):
        raise InputError("out of range", subject="workers", expected="1 or more cores", got=repr(workers)[:60])
    input_hw = None if imgsz is None else _input_hw(imgsz)
    started = time.perf_counter()
    file, model_name, kind, sha256 = _identified(model)
    if kind == "engine":
        if device == "cpu":
            raise InputError("a TensorRT engine runs on a GPU", subject=model_name, expected="cuda", got="cpu")
        ordinals = ordinals or (0,)
    if kind != "engine" or runtime or runtime_precision:  # an engine lacks a GPU first, and only then TensorRT
        runs_as: Kind = "engine" if kind == "engine" else "onnx"
        chosen, reason = choose_runtime(
            runtime, runs_as, "cuda" if ordinals else "cpu", runtime_precision, model_name=model_name
        )
    graph, limit_s = file, None
    if kind == "checkpoint":
        canvas_hw: _CanvasHw = None if shape_mode == "rect" else input_hw or "usual"
        batch = None if ordinals else 1
        names = None if class_names is None else tuple(class_names)
        graph = cached_graph(
            (
                sha256,
                canvas_hw,
                batch,
                "image",
                FASTEST,
                head,
                names,
                tuple(sorted((aliases or {}).items())),
                transform,
            ),
            partial(_written, file, sha256, canvas_hw, batch, _Choices(names, aliases, head, transform)),
        )
    elif aliases or head:
        subject, got = ("aliases", f"{len(aliases)} of them") if aliases else ("head", str(head))
        raise InputError("is for checkpoints", subject=subject, expected="none", got=got)
    elif kind != "engine":
        from yoloship.models.vetting import vetted

        checked = vetted(file, model_name, input_hw)
        graph, limit_s = checked.source, checked.limit_s
    if ordinals:
        if workers is not None:
            raise InputError("is for the CPU", subject="workers", expected="device='cpu'", got=f"cuda:{ordinals[0]}")
        from yoloship.models.gpu_loading import load_on_gpu

        on_gpu = load_on_gpu(
            graph,
            ordinals if len(ordinals) > 1 else ordinals[0],
            defaults=defaults,
            imgsz=input_hw,
            shape_mode=shape_mode,
            tuning=cuda_tuning,
            model_name=model_name,
            class_names=class_names,
            transform=transform,
            runtime=runtime,
            precision=runtime_precision,
            decode=decode,
        )
        where = on_gpu.session if len(ordinals) == 1 else f"{on_gpu.session}, {on_gpu.device}"
        _logger.info(_LOADED, visible(model_name), where, time.perf_counter() - started, "")
        return on_gpu

    if cuda_tuning is not None:
        raise InputError("is for GPUs", subject="cuda_tuning", expected="device='cuda'", got=repr(device or "cpu"))
    if decode == "gpu":
        raise InputError("needs the model on a GPU", subject="decode", expected="device='cuda'", got="device='cpu'")

    try:
        session = chosen.open(graph, RunOptions(runtime_precision, tuned_for, model_name, limit_s, workers))
        session.reason = reason
    except SessionError as error:
        from yoloship.models.vetting import explained

        raise explained(error, graph, model_name) from error
    try:
        info = info_of(session, model_name, class_names, canvas_hw=input_hw, transform=transform)
        model_input = ModelInput.checked(info, input_hw, shape_mode, model_name)
        detector = Detector.over(CpuPipeline(session, model_input), defaults)
    except BaseException:
        session.close()
        raise
    why = f": {reason}" if reason else ""
    _logger.info(_LOADED, visible(model_name), session, time.perf_counter() - started, why)
    return detector


def _ordinals(device: str) -> tuple[int, ...]:
    """The numbers of GPUs."""
    from yoloship.cuda.device import parse_devices

    try:
        return parse_devices(str(device))
    except InputError as error:
        hint = f"write 'cuda:{device}'" if str(device).isdecimal() else None
        expected = "cpu, cuda, cuda:N, cuda:N,cuda:M or cuda:all"
        raise InputError(error.problem, subject="device", expected=expected, got=repr(device), hint=hint) from error


def _input_hw(imgsz: int | tuple[int, int]) -> tuple[int, int]:
    sides: tuple[Any, ...] = tuple(imgsz) if isinstance(imgsz, tuple | list) else (imgsz, imgsz)
    if len(sides) != 2 or not all(map(_is_side, sides)):
        raise InputError(
            "bad size", subject="imgsz", expected=f"a side or (height, width), each 1 to {_MAX_SIDE}", got=repr(imgsz)
        )
    return int(sides[0]), int(sides[1])


def _is_side(value: Any) -> bool:
    return _is_count(value) and int(value) <= _MAX_SIDE


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 1


def _identified(model: str | Path | bytes) -> tuple[Path | bytes, str, Kind, str]:
    """The file or the bytes, what messages call it, what it is, and a checkpoint's SHA-256, from opening it once."""
    source: AbstractContextManager[BytesIO | FileIO]
    if isinstance(model, bytes | bytearray | memoryview):
        file: Path | bytes = bytes(model)
        name, source = "model in memory", BytesIO(model)
    elif isinstance(model, str | PathLike):
        file = Path(model)
        if not os.path.lexists(model):
            from yoloship.models.releases import resolve

            file = resolve(model)
        name, source = str(file), open_regular(file, error=SessionError, wanted="a model")
    else:
        raise InputError(
            "is not a model",
            subject="model",
            expected="a file's name, its bytes, or the name of a release",
            got=type(model).__name__,
        )
    with source as opened:
        start = read_up_to(opened.read, HEAD_BYTES)
        kind = refuse_others(start, MODEL_KINDS | {"unknown"}, "model", subject=name, error=SessionError)
        sha256 = file_sha256(opened, start) if kind == "checkpoint" else ""
    return file, name, kind, sha256


class _Choices(NamedTuple):
    """What a caller says about a checkpoint, beside the file itself."""

    class_names: Sequence[str] | None
    aliases: Mapping[str, str] | None
    head: HeadChoice | None
    transform: Transform | str | None


def _written(file: Path | bytes, sha256: str, input_hw: _CanvasHw, batch: int | None, choices: _Choices) -> bytes:
    """Write the ONNX graph of a checkpoint."""
    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, write_graph

    checkpoint = read_checkpoint(file, aliases=choices.aliases)
    if checkpoint.sha256 != sha256:  # its graph would be cached under the SHA-256 of another file
        raise SessionError("was changed while it was being read", subject=checkpoint.name, hint="try again")
    if choices.class_names is not None:
        checkpoint = checkpoint.with_class_names(choices.class_names)
    config = GraphConfig(
        input_hw=input_hw,
        batch=batch,
        input_form="image",
        output_form=FASTEST,
        head=choices.head,
        transform=choices.transform,
    )
    written = BytesIO()
    write_graph(checkpoint, config, written)  # takes less memory than a model that is serialized afterwards
    return written.getvalue()
