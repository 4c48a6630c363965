"""From a checkpoint or an ONNX file to a TensorRT engine: `build`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from yoloship._util.reading import read_start
from yoloship.conversion import CALIBRATED, MAX_DROP, calibration_of, check_types, lowered, name_of
from yoloship.conversion.exporting import check_head, file_beside, is_count, outputs_of, sides_of, suppression
from yoloship.errors import InputError, visible
from yoloship.kinds import HEAD_BYTES, kind_of, wrong_kind
from yoloship.model import STANDARD
from yoloship.tasks import suppressing_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.conversion import Calibration, Name
    from yoloship.conversion.exporting import Sides
    from yoloship.engine import BuildConfig, BuiltEngine, Flavour, FlavourName, Range, Recipe
    from yoloship.graph import GraphConfig
    from yoloship.graph.onnx_file import Model
    from yoloship.model import (
        Calibrator,
        HeadChoice,
        InputForm,
        ModelInfo,
        NmsConfig,
        OtherLayers,
        OutputForm,
        Placement,
        Precision,
    )
    from yoloship.models.build_check import BuildRequest
    from yoloship.transforms import Transform

_logger = logging.getLogger("yoloship.conversion")


@dataclass(frozen=True, slots=True)
class Built:
    """A TensorRT engine that was written.

    Attributes:
        path: The plan. A file of the same name with ``.json`` describes it.
        size_bytes: Size of the plan.
        info: The model's description; None if `yoloship.load` does not know the form of its output, so that only other
            programs can run it.
        precision: The arithmetic of the network's body; for an unknown form, the element types of its weights.
        runs_on: The GPUs that it runs on, in words.
        built_by: Which TensorRT built it.
        elapsed_s: How long TensorRT took, in seconds.
        details: How a quantized precision was reached and what it costs, in words; empty for others.
        trtexec: The command lines of NVIDIA's own tools that build the same engine; see docs/tensorrt.md.
    """

    path: Path
    size_bytes: int
    info: ModelInfo | None
    precision: str
    runs_on: str
    built_by: str
    elapsed_s: float
    details: str = ""
    trtexec: tuple[str, ...] = ()


def build(  # noqa: PLR0913 - all but the model have defaults
    model: Name,
    output: Name | None = None,
    *,
    imgsz: Sides | tuple[Sides, Sides, Sides] | None = None,
    batch: int | tuple[int, int, int] | None = None,
    input_form: InputForm | None = None,
    output_form: OutputForm | None = None,
    head: HeadChoice | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    precision: Precision = "float32",
    calibrate: Name | Iterable[Name] = (),
    labels: Name | None = None,
    max_drop: float | None = None,
    calibrator: Calibrator | None = None,
    other_layers: OtherLayers | None = None,
    flavour: FlavourName | None = None,
    config: BuildConfig | None = None,
    class_names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
    transform: Transform | str | None = None,
    overwrite: bool = False,
    protected: Iterable[Path] = (),
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Built:
    """Build a TensorRT engine: a plan file that any TensorRT program can load, and a JSON file that describes it.

    Args:
        model: A checkpoint (.pt), an ONNX file, or the name of an official release such as ``yolov5s``.
        output: The engine to write. None takes the model's name with ``.engine``, for a release in the current
            folder.
        imgsz: Input side, or (height, width), in pixels. Three of those are the smallest, the usual and the largest
            size of a dynamic input. None takes the size in the ONNX file, or, for a checkpoint, its training size if it
            states it, else 640, or 224 for classification.
        batch: Images per run. Three numbers are the smallest, the usual and the largest batch. None takes 1 for a
            checkpoint, and the batch in an ONNX file.
        input_form: For a checkpoint: ``float`` (default) or ``image``; see `export`.
        output_form: For a checkpoint: see `export`. For an ONNX file, only ``nms`` is possible, which adds NMS to the
            graph.
        head: For a checkpoint with two heads: which of them to use; see `export`.
        score_threshold: For the output form ``nms``: keep only boxes with a score above this. Default: 0.25.
        iou_threshold: For ``nms``: drop a box whose IoU with a better box is above this. Default: that of the
            model's own tool, 0.45 for YOLOv5 and 0.7 for Ultralytics' models.
        max_detections: For ``nms``: keep at most this many boxes per image. Default: 300.
        precision: The arithmetic of the network's body; float32 leaves the graph unchanged.
        calibrate: For int8 and float8: images like those the model will see; files, folders (with their subfolders) or
            patterns.
        labels: For int8 and float8: a folder of YOLO label files, arranged like the images.
        max_drop: For int8 and float8: the largest accepted loss of mAP, or of agreement without labels. Default: 0.005.
        calibrator: For int8 and float8: how the range of an activation is found. Default: ``percentile``.
        other_layers: For int8 and float8: precision of the layers that are not quantized. Default: float16.
        flavour: ``tensorrt`` or ``rtx``; None takes the one that is installed.
        config: TensorRT settings: targets, workspace, compatibility, optimization level, timing cache. It must not
            contain ranges, because batch, height and width come from `batch` and `imgsz`.
        class_names: One name for each class, to use instead of the names in the model.
        aliases: For checkpoints: class paths of a fork, each with the equivalent official class path.
        transform: For classification checkpoints: how an image becomes the input; see `export`.
        overwrite: Whether files of those names may be replaced. An input or a checkpoint is never replaced.
        protected: Other files that must not be replaced.
        on_progress: Called with the progress of calibration and of the build. An exception that it raises cancels the
            build.
        on_note: Called with each warning or note, one sentence each; None logs them.

    Returns:
        The engine that was built.

    Raises:
        InputError: an argument is wrong or contradicts another, or a file does not exist.
        CheckpointError: the checkpoint cannot be read safely.
        GraphError: the checkpoint cannot become the requested graph, or TensorRT would not read the ONNX file
            correctly.
        EngineError: TensorRT cannot build the engine, or not as requested.
        OutputError: a file exists and may not be overwritten, or cannot be written.
        DownloadError: a named release cannot be fetched.
        DependencyError: TensorRT is not installed, or a package that quantization needs.
    """
    say = on_note or _logger.warning
    check_types(class_names, aliases, protected)
    placement: Placement | None = "inputs" if precision in CALIBRATED else None
    calibration = calibration_of(calibrate, labels, calibrator, placement, max_drop, other_layers)
    calibration.check(precision)
    request = request_of(
        model, output, imgsz=imgsz, batch=batch, input_form=input_form, output_form=output_form, head=head,
        nms=suppression(output_form or STANDARD, score_threshold, iou_threshold, max_detections), precision=precision,
        flavour=flavour, config=config, class_names=class_names, aliases=aliases, transform=transform, say=say,
    )  # fmt: skip
    claim_engine(request, calibration, protected, overwrite=overwrite)
    return carry_out(request, calibration, model=model, overwrite=overwrite, on_progress=on_progress, say=say)


def request_of(  # noqa: PLR0913 - what `build` takes
    model: Name,
    output: Name | None,
    *,
    imgsz: Sides | Sequence[Sides] | None,
    batch: int | Sequence[int] | None,
    input_form: InputForm | None,
    output_form: OutputForm | None,
    head: HeadChoice | None,
    nms: NmsConfig | None,
    precision: Precision,
    flavour: FlavourName | None,
    config: BuildConfig | None,
    class_names: Sequence[str] | None,
    aliases: Mapping[str, str] | None,
    transform: Transform | str | None,
    say: Callable[[str], None],
) -> BuildRequest:
    """Check the arguments of `build` and make a request of them, without building anything.

    Raises:
        InputError: an argument is wrong or contradicts the model, or the file does not exist.
        DownloadError: a named release cannot be fetched.
    """
    from yoloship.engine import BuildConfig
    from yoloship.models.build_check import BuildRequest
    from yoloship.models.releases import resolve

    source = resolve(name_of(model, "model"), say=say)
    kind = kind_of(source)
    if kind in {"engine", "no-engine"}:
        start = read_start(source, HEAD_BYTES, error=InputError, wanted="a model")
        raise wrong_kind(kind, "onnx", subject=str(source), error=InputError, start=start)
    from_checkpoint = kind == "checkpoint"
    if not from_checkpoint and (input_form is not None or output_form not in {None, *suppressing_forms()}):
        raise InputError(
            "the input and output of an ONNX file are fixed; the output can only be changed to "
            + " or ".join(suppressing_forms()),
            subject=str(source),
        )
    if not from_checkpoint and transform is not None:
        raise InputError(
            "is for checkpoints; an ONNX file written by yoloship has its own", subject="transform",
            hint="leave it out; for files of other exporters give it when the engine is used",
        )  # fmt: skip
    check_head(head)
    if not from_checkpoint and head is not None:
        raise InputError("head is for checkpoints; the head of an ONNX file is fixed", subject=str(source))
    if not from_checkpoint and aliases:
        raise InputError("aliases are for checkpoints; an ONNX file contains no Python classes", subject=str(source))
    batches, sizes = _range(batch, "batch"), _size_ranges(imgsz)
    if not isinstance(config, BuildConfig | None):
        raise InputError("wrong type", subject="config", expected="a BuildConfig", got=type(config).__name__)
    settings = config or BuildConfig()
    if settings.batch or settings.height or settings.width:
        raise InputError("gives ranges, which are taken from batch and imgsz", subject="config", hint="leave them out")
    graph = None
    if from_checkpoint:
        graph = replace(
            _graph(batches, sizes),
            input_form=input_form or "float",
            output_form=output_form or STANDARD,
            nms=nms,
            head=head,
            transform=transform,
        )
    return BuildRequest(
        source,
        Path(output) if output is not None else file_beside(model, source, ".engine"),
        _with_ranges(settings, batches, sizes, keep_single=not from_checkpoint),
        graph,
        precision,
        nms,
        flavour,
        None if class_names is None else tuple(class_names),
        tuple((aliases or {}).items()),
    )


def claim_engine(
    request: BuildRequest, calibration: Calibration, protected: Iterable[Path] = (), *, overwrite: bool
) -> None:
    """Check the files that a build will write, before the work starts.

    Raises:
        OutputError: a file exists and may not be replaced, is an input, or cannot be written.
    """
    from yoloship.engine import sidecar_path

    outputs = outputs_of(request.source, calibration, protected, overwrite=overwrite)
    for place in (request.output, sidecar_path(request.output)):
        outputs.claim(place, streams=False)
    if request.config.timing_cache is not None:
        outputs.claim(request.config.timing_cache, streams=False, replaces=True)


def carry_out(
    request: BuildRequest,
    calibration: Calibration,
    *,
    model: Name,
    overwrite: bool,
    on_progress: OnProgress | None,
    say: Callable[[str], None],
) -> Built:
    """Build the engine of a request; `build` explains the other arguments."""
    from yoloship.cuda.device import find_gpu
    from yoloship.engine import check_build, open_flavour, runs_on, write_engine
    from yoloship.engine.trtexec import equal_commands
    from yoloship.models.build_check import check_source
    from yoloship.models.building import build_prepared, build_source, suppressing

    flavour = open_flavour(request.flavour)
    check_build(flavour, request.config, request.precision, find_gpu())
    details, behind_onnx = "", request.nms is not None and request.graph is None
    found = calibration.find(say, lambda: info_of_request(request))
    if request.precision in CALIBRATED:  # errors that would come after minutes of calibration come now
        check_source(request)

    def refine(whole: Model) -> Model:
        nonlocal details
        if request.precision != "float32":
            result = lowered(whole, request.precision, calibration, found, on_progress=on_progress, say=say)
            whole, details = result.model, result.words
        if request.nms is not None and behind_onnx:
            whole = suppressing(whole, request.nms, subject=str(request.source), class_names=request.names)
        return whole

    with build_source(
        request.source,
        request.graph,
        refine=refine if request.precision != "float32" or behind_onnx else None,
        class_names=request.names,
        aliases=dict(request.aliases),
    ) as source:
        built = build_prepared(source, request.config, flavour, on_progress)
        info = source.info
    record = write_engine(
        request.output,
        built,
        source_name=_said(model, request.source),
        model=info,
        recipe=recipe_of(request, calibration),
        overwrite=overwrite,
    )
    for text in (*(f"TensorRT warns: {text}" for text in built.warnings), *_precision_notes(flavour, built, info)):
        say(text)
    _logger.info("built %s by %s in %.1f s", request.output.name, flavour.title, built.elapsed_s)
    return Built(
        request.output,
        len(built.plan),
        info,
        info.precision if info else "/".join(record.dtypes),
        runs_on(record),
        flavour.title,
        built.elapsed_s,
        details.removeprefix(request.precision).lstrip(",; "),
        equal_commands(record, request.output.name, changed=behind_onnx or request.precision != "float32"),
    )


def _precision_notes(flavour: Flavour, built: BuiltEngine, info: ModelInfo | None) -> Iterator[str]:
    """Which layers did not take the precision of the model, if a GPU here can load the engine and say it."""
    from yoloship.cuda.device import find_gpu
    from yoloship.engine.inspect import load_facts, other_precision
    from yoloship.errors import EngineError

    if info is None or info.precision == "float32" or find_gpu() is None:
        return
    try:
        loaded = load_facts(flavour, memoryview(built.plan), subject="the engine")
    except EngineError as error:  # it was built for another GPU, for example
        _logger.info("the layers of the engine cannot be read here: %s", error)
        return
    others, told = other_precision(loaded.layers, info.precision)
    if not others:
        return
    names = ", ".join(f"{visible(layer.name)[:60]} ({layer.weights})" for layer in others[:_MOST_NAMES])
    more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
    yield f"{len(others)} of {told} layers with weights did not take {info.precision}: {names}{more}"


_MOST_NAMES: Final = 8


def info_of_request(request: BuildRequest) -> ModelInfo:
    """The description of the model that is to be built, before its graph is written.

    Raises:
        YoloshipError: the source cannot be read, or is a graph of an unknown form.
    """
    if request.graph is None:
        from yoloship.models.loading import load

        with load(request.source, device="cpu", class_names=request.names) as detector:
            return detector.info
    from yoloship.checkpoint.reader import read_checkpoint
    from yoloship.graph import model_info

    checkpoint = read_checkpoint(request.source, aliases=dict(request.aliases))
    if request.names is not None:
        checkpoint = checkpoint.with_class_names(request.names)
    return model_info(checkpoint, request.graph)


def recipe_of(request: BuildRequest, calibration: Calibration) -> Recipe:
    """Describe how an engine was made. Defaults are written out, because a later release may have others."""
    from yoloship.engine import Recipe, place_name
    from yoloship.engine.sidecar import MAX_WORDS

    calibrated = request.precision in CALIBRATED
    return Recipe(
        from_checkpoint=request.graph is not None,
        precision=None if request.precision == "float32" else request.precision,
        calibrate=tuple(place_name(place) for place in calibration.images[:MAX_WORDS]),
        labels=None if calibration.labels is None else place_name(str(calibration.labels)),
        calibrator=(calibration.calibrator or "percentile") if calibrated else None,
        max_drop=(MAX_DROP if calibration.max_drop is None else calibration.max_drop) if calibrated else None,
        other_layers=(calibration.other_layers or "float16") if calibrated else None,
        renamed=request.names is not None,
        aliases=tuple(f"{old}={official}" for old, official in request.aliases),
        transform=_transform_text(request.graph),
    )


def _transform_text(graph: GraphConfig | None) -> str | None:
    """The transform that was given for a checkpoint, as ``--transform`` takes it."""
    given = None if graph is None else graph.transform
    return given if given is None or isinstance(given, str) else given.text


def _said(model: Name, source: Path) -> str:
    """The name of the source in a sidecar: its file name, or the name of the release."""
    return source.name if source == Path(model) else fspath(model)


def _size_ranges(imgsz: Any) -> tuple[Range, Range] | None:
    """Ranges of height and width."""
    if imgsz is None:
        return None
    three = imgsz if isinstance(imgsz, tuple | list) and len(imgsz) == 3 else (imgsz,)
    sizes = [sides_of(size) for size in three]
    heights, widths = zip(*sizes, strict=True)
    height, width = _range(heights, "imgsz"), _range(widths, "imgsz")
    assert height is not None
    assert width is not None
    return height, width


def _range(extents: Any, subject: str) -> Range | None:
    """One number, or the smallest, the usual and the largest."""
    if extents is None:
        return None
    from yoloship.engine import Range

    numbers = tuple(extents) if isinstance(extents, tuple | list) else (extents,)
    if len(numbers) not in {1, 3} or not all(map(is_count, numbers)):
        raise InputError(
            "is not a range", subject=subject, expected="one number, or the smallest, the usual and the largest",
            got=repr(extents)[:60],
        )  # fmt: skip
    return Range.parse(":".join(str(int(number)) for number in numbers), option=subject)


def _graph(batches: Range | None, sizes: tuple[Range, Range] | None) -> GraphConfig:
    """The graph of a checkpoint: an axis with a range is dynamic, all other axes are fixed."""
    from yoloship.graph import GraphConfig

    input_hw: tuple[int, int] | Literal["usual"] | None = "usual"
    if sizes is not None:
        height, width = sizes
        input_hw = (height.optimum, width.optimum) if height.is_single and width.is_single else None
    return GraphConfig(
        input_hw=input_hw,
        batch=(batches.optimum if batches else 1) if batches is None or batches.is_single else None,
    )


def _with_ranges(
    config: BuildConfig, batches: Range | None, sizes: tuple[Range, Range] | None, *, keep_single: bool
) -> BuildConfig:
    """The configuration with ranges for the profile; the graph of a checkpoint already contains single extents."""
    if batches is not None and (keep_single or not batches.is_single):
        config = replace(config, batch=batches)
    if sizes is not None and (keep_single or not all(size.is_single for size in sizes)):
        config = replace(config, height=sizes[0], width=sizes[1])
    return config
