"""``yoloship build``: a checkpoint or an ONNX file becomes a TensorRT engine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli import precision as precisions
from yoloship.cli.command import WholeNumber, argument, command, flag, option
from yoloship.cli.export import suppression
from yoloship.cli.options import is_dash, outputs_for
from yoloship.cli.output import print_err, print_out, progress
from yoloship.cli.precision import CALIBRATED, MAX_DROP, PRECISION, Quantizing, lowered
from yoloship.cli.values import FILE, alias_table, byte_size, refuse_suffix
from yoloship.engine.config import MAX_OPTIMIZATION_LEVEL, HardwareCompatibility
from yoloship.model import InputForm, OutputForm

if TYPE_CHECKING:
    from yoloship.engine import BuildConfig, Flavour, FlavourName, Range, Recipe
    from yoloship.graph import GraphConfig
    from yoloship.graph.onnx_file import Model
    from yoloship.model import Calibrator, OtherLayers, Placement, Precision
    from yoloship.models.build_check import BuildRequest

MODEL_SUFFIXES = frozenset({".onnx", ".pt"})
BUILDERS = ("tensorrt", "rtx")


@command(
    "yoloship build best.pt",
    "yoloship build best.onnx -o cam.engine --target sm89",
    "yoloship build best.pt --batch 1:4:16 --imgsz 384x640 --output compact",
    "yoloship build best.pt --precision int8 --calibrate photos/ --output nms",
    "yoloship build best.pt --target 8.9 --check",
)
@argument("model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, or a release name such as yolov5s.")
@option("-o", "--output-file", type=FILE, metavar="FILE", help="Default: the model's name with .engine.")
@option("--imgsz", metavar="640|HxW|MIN:OPT:MAX", help="Input size in pixels; a range makes it dynamic.")
@option("--batch", metavar="N|MIN:OPT:MAX", help="Images per run; a range makes it dynamic.")
@option(
    "--input",
    "input_form",
    type=click.Choice(get_args(InputForm)),
    help="From a checkpoint: float (B,3,H,W) RGB 0..1, or image (B,H,W,3) uint8 BGR.",
)
@option(
    "--output",
    "output_form",
    type=click.Choice(get_args(OutputForm)),
    help="raw: (B,N,5+C). heads: undecoded. compact: boxes, scores, ids. nms: final detections, also from an ONNX "
    "file. Default: raw.",
)
@option(
    "--precision",
    type=PRECISION,
    help="What the network's body computes in, if its graph is float32. fp32, fp16, half, bf16 and fp8 are understood "
    "too. Default: float32.",
)
@precisions.calibrate
@precisions.calibrator
@precisions.max_drop
@precisions.labels
@precisions.other_layers
@precisions.old_other_layers
@options.nms_conf
@options.nms_iou
@options.nms_max_det
@option("--flavour", type=click.Choice(BUILDERS), help="Which TensorRT. Default: what is installed.")
@option(
    "--target",
    "targets",
    multiple=True,
    metavar="SM",
    help="GPU to build for: portable, current, 7.5, 8.6, 8.9, 12.0; may be repeated.",
)
@option("--workspace", type=byte_size, metavar="SIZE", help="Scratch memory that a layer may use, such as 2GB.")
@option(
    "--hardware-compatibility",
    type=click.Choice(get_args(HardwareCompatibility)),
    default="none",
    help="Other GPUs that it should also run on (TensorRT).",
)
@flag("--version-compatible", help="Later TensorRT versions load it too (TensorRT).")
@option(
    "--optimization-level",
    type=WholeNumber(0, MAX_OPTIMIZATION_LEVEL),
    metavar="0-5",
    help="0 builds fastest, 5 runs fastest (TensorRT).",
)
@option("--timing-cache", type=FILE, metavar="FILE", help="Keeps timings from build to build (TensorRT).")
@options.names
@options.aliases
@flag("--check", help="Say within a second whether the build would work, without building; exit code 1 if not.")
@options.overwrite
def build(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    output_file: Path | None,
    imgsz: str | None,
    batch: str | None,
    input_form: InputForm | None,
    output_form: OutputForm | None,
    precision: Precision | None,
    calibrate: tuple[str, ...],
    calibrator: Calibrator | None,
    max_drop: float | None,
    labels: Path | None,
    other_layers: OtherLayers | None,
    conf: float | None,
    iou: float | None,
    max_det: int | None,
    flavour: FlavourName | None,
    targets: tuple[str, ...],
    workspace: int | None,
    hardware_compatibility: HardwareCompatibility,
    version_compatible: bool,
    optimization_level: int | None,
    timing_cache: Path | None,
    names: tuple[str, ...] | None,
    aliases: tuple[tuple[str, str], ...],
    check: bool,
    overwrite: bool,
) -> None:
    """Build a TensorRT engine: a plain plan for any TensorRT program, and beside it FILE.json that describes it."""
    from yoloship.cuda.driver import find_gpu
    from yoloship.engine import BuildConfig, check_build, open_flavour, parse_target
    from yoloship.errors import InputError
    from yoloship.kinds import kind_of, wrong_kind
    from yoloship.models.build_check import BuildRequest
    from yoloship.models.releases import resolve

    if is_dash(output_file):
        raise click.UsageError("-o: an engine needs a file name, because its sidecar stands beside it")
    refuse_suffix(output_file, MODEL_SUFFIXES, f"build writes engines; 'yoloship export {model}' writes ONNX files")
    wanted: Precision = precision or "float32"
    placement: Placement | None = "inputs" if wanted in CALIBRATED else None
    quantizing = Quantizing(calibrate, calibrator, placement, max_drop, labels, other_layers)
    quantizing.check(wanted)
    nms = suppression(output_form or "raw", {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det})
    source_path = resolve(model)
    kind = kind_of(source_path)
    if kind == "engine":
        raise wrong_kind(kind, "onnx", subject=str(source_path), error=InputError)
    from_checkpoint = kind == "checkpoint"
    if not from_checkpoint and (input_form is not None or output_form not in {None, "nms"}):
        raise click.UsageError("an ONNX file has its own input and output; it can only be given --output nms")
    if not from_checkpoint and aliases:
        raise click.UsageError("--alias is for checkpoints: an ONNX file has no classes to be read")
    batches, sizes = _batch(batch), _sizes(imgsz)
    config = BuildConfig(
        workspace_bytes=workspace,
        targets=tuple(parse_target(word) for word in targets),
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
    )
    config = _with_ranges(config, batches, sizes, keep_single=not from_checkpoint)
    graph = None
    if from_checkpoint:
        graph = replace(
            _graph(batches, sizes),
            input_form=input_form or "float",
            output_form=output_form or "raw",
            nms=nms,
        )
    path = output_file or (
        source_path.with_suffix(".engine") if source_path == Path(model) else Path(f"{model}.engine")
    )
    request = BuildRequest(
        source_path, path, config, graph, wanted, nms, flavour, names, tuple(alias_table(aliases).items())
    )
    if check:
        _say_whether_it_would_go(request, quantizing, overwrite=overwrite)
        return
    _claim(request, quantizing, overwrite=overwrite)
    chosen = open_flavour(flavour)
    check_build(chosen, config, wanted, find_gpu())
    _build(
        request,
        chosen,
        quantizing,
        source_name=source_path.name if source_path == Path(model) else model,
        overwrite=overwrite,
    )


def _claim(request: BuildRequest, quantizing: Quantizing, *, overwrite: bool) -> None:
    """Settle what will be written, before the work."""
    from yoloship.engine import sidecar_path

    outputs = outputs_for(
        (request.source,), calibrate=quantizing.pictures, labels=quantizing.labels, overwrite=overwrite
    )
    for place in (request.output, sidecar_path(request.output)):
        outputs.claim(place, streams=False)
    if request.config.timing_cache is not None:
        outputs.claim(request.config.timing_cache, streams=False, replaces=True)


def _say_whether_it_would_go(request: BuildRequest, quantizing: Quantizing, *, overwrite: bool) -> None:
    from yoloship.models.build_check import check_request, look

    def names() -> str:
        _claim(request, quantizing, overwrite=overwrite)
        return "free, or may be replaced"

    def images() -> str:
        found = quantizing.find()
        images = counted(len(found.images), "image")
        if found.truths is None:
            return images
        return f"{images}, {counted(sum(len(one.class_ids) for one in found.truths), 'labelled object')}"

    findings = list(check_request(request))
    if all(finding.passed for finding in findings if finding.name == "output"):
        findings.append(look("names", names))
    if quantizing.pictures:
        findings.append(look("calibration", images))
    for finding in findings:
        print_out(f"{'ok' if finding.passed else 'FAIL':4}  {finding.name}: {finding.words}")
    if not all(finding.passed for finding in findings):
        raise click.exceptions.Exit(1)


def _build(
    request: BuildRequest, flavour: Flavour, quantizing: Quantizing, *, source_name: str, overwrite: bool
) -> None:
    from yoloship.engine import runs_on, write_engine
    from yoloship.models.build_check import check_source
    from yoloship.models.building import build_prepared, build_source, suppressing

    outcome, wanted, behind_onnx = "", request.precision, request.nms is not None and request.graph is None
    found = quantizing.find()
    if wanted in CALIBRATED:  # what would fail after minutes of calibration fails now
        check_source(request)

    def refine(whole: Model) -> Model:
        nonlocal outcome
        if wanted != "float32":
            result = lowered(whole, wanted, quantizing, found)
            whole, outcome = result.model, result.words
        if request.nms is not None and behind_onnx:
            whole = suppressing(whole, request.nms, subject=str(request.source), class_names=request.names)
        return whole

    changes = wanted != "float32" or behind_onnx
    with build_source(
        request.source,
        request.graph,
        refine=refine if changes else None,
        class_names=request.names,
        aliases=dict(request.aliases),
    ) as source:
        with progress(in_pipes=True) as on_progress:
            built = build_prepared(source, request.config, flavour, on_progress)
        info = source.info
    recipe = _recipe(request, quantizing)
    record = write_engine(
        request.output, built, source_name=source_name, model=info, recipe=recipe, overwrite=overwrite
    )
    for text in built.warnings:
        print_err(f"TensorRT warns: {text}")
    if info is None:
        print_err("detect does not know its form; other TensorRT programs can run it")
    computes = info.precision if info else "/".join(record.dtypes)
    size = f"{len(built.plan) / 1e6:.1f} MB"
    about = outcome.removeprefix(wanted).lstrip(",; ")  # the precision stands there already
    print_out(
        f"{request.output}: {size}, {computes}, {runs_on(record)}, built by {flavour.title} in {built.elapsed_s:.1f} s"
        + (f"; {about}" if about else "")
    )


def _recipe(request: BuildRequest, quantizing: Quantizing) -> Recipe:
    """What was given, with defaults spelt out: a later release may have others."""
    from yoloship.engine import Recipe, place_name
    from yoloship.engine.sidecar import MAX_WORDS

    calibrated = request.precision in CALIBRATED
    return Recipe(
        from_checkpoint=request.graph is not None,
        precision=None if request.precision == "float32" else request.precision,
        calibrate=tuple(place_name(place) for place in quantizing.pictures[:MAX_WORDS]),
        labels=None if quantizing.labels is None else place_name(str(quantizing.labels)),
        calibrator=(quantizing.calibrator or "percentile") if calibrated else None,
        max_drop=(MAX_DROP if quantizing.max_drop is None else quantizing.max_drop) if calibrated else None,
        other_layers=(quantizing.other_layers or "float16") if calibrated else None,
        renamed=request.names is not None,
        aliases=tuple(f"{old}={official}" for old, official in request.aliases),
    )


def _batch(text: str | None) -> Range | None:
    from yoloship.engine import Range

    return Range.parse(text, option="--batch") if text else None


def _sizes(text: str | None) -> tuple[Range, Range] | None:
    """``640``, ``384x640`` or three of those with colons between: ranges of height and width."""
    from yoloship.engine import Range

    if text is None:
        return None
    parts = [re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", part.strip()) for part in text.split(":")]
    if len(parts) not in {1, 3} or None in parts:
        raise click.UsageError(f"{text!r} is not a size: give 640, HxW such as 384x640, or MIN:OPT:MAX of those")
    heights = [match[1] for match in parts if match]
    widths = [match[2] or match[1] for match in parts if match]
    return Range.parse(":".join(heights), option="--imgsz"), Range.parse(":".join(widths), option="--imgsz")


def _graph(batches: Range | None, sizes: tuple[Range, Range] | None) -> GraphConfig:
    """The graph that a checkpoint becomes: what has a range is dynamic, all else is fixed."""
    from yoloship.graph import GraphConfig

    fixed_size = sizes is None or all(size.is_single for size in sizes)
    height, width = sizes or (None, None)
    return GraphConfig(
        input_hw=(height.optimum if height else 640, width.optimum if width else 640) if fixed_size else None,
        batch=(batches.optimum if batches else 1) if batches is None or batches.is_single else None,
    )


def _with_ranges(
    config: BuildConfig, batches: Range | None, sizes: tuple[Range, Range] | None, *, keep_single: bool
) -> BuildConfig:
    """Ranges for the profile; a single extent is in the graph already where that was made of a checkpoint."""
    if batches is not None and (keep_single or not batches.is_single):
        config = replace(config, batch=batches)
    if sizes is not None and (keep_single or not all(size.is_single for size in sizes)):
        config = replace(config, height=sizes[0], width=sizes[1])
    return config
