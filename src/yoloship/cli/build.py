"""``yoloship build``: a checkpoint or an ONNX file becomes a TensorRT engine."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloship.cli.export import Input, Output, suppression
from yoloship.cli.options import (
    Calibrate,
    CalibratorChoice,
    IouThreshold,
    Labels,
    MaxDetections,
    MaxDrop,
    ScoreThreshold,
)
from yoloship.cli.precision import MAX_DROP, Calibrator, Placement, Precision, Quantizing, Remainder, lowered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.engine import BuildConfig, BuildProgress, BuildStep, Range, Recipe
    from yoloship.graph import GraphConfig
    from yoloship.graph.sensitivity import Model

EXAMPLES = (
    "yoloship build best.pt",
    "yoloship build best.onnx -o cam.engine --target sm89",
    "yoloship build best.pt --batch 1:4:16 --imgsz 384x640 --output compact",
    "yoloship build best.pt --precision int8 --calibrate photos/ --output nms",
)


class FlavourChoice(str, Enum):
    """Which TensorRT builds."""

    tensorrt = "tensorrt"
    rtx = "rtx"


class Compatibility(str, Enum):
    """Which other GPUs an engine of TensorRT shall run on."""

    none = "none"
    ampere_plus = "ampere_plus"
    same_compute_capability = "same_compute_capability"


def build(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A checkpoint (.pt), an ONNX file, or a release name such as yolov5s."),
    ],
    output_file: Annotated[
        Path | None, typer.Option("-o", "--output-file", metavar="FILE", help="Default: the model's name with .engine.")
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(metavar="640|HxW|MIN:OPT:MAX", help="Input size in pixels; a range makes it dynamic."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="N|MIN:OPT:MAX", help="Pictures a run; a range makes it dynamic.")
    ] = None,
    input: Annotated[  # noqa: A002 - the option's name
        Input | None, typer.Option(help="From a checkpoint: float (B,3,H,W) RGB 0..1, or image (B,H,W,3) uint8 BGR.")
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option(help="From a checkpoint: (B,N,5+C), undecoded, boxes, or final; nms from an ONNX file too."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="What the network's body computes in, where its graph is float32."),
    ] = None,
    calibrate: Calibrate = None,
    calibrator: CalibratorChoice = None,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    remainder: Annotated[
        Remainder | None,
        typer.Option(help="What int8 and float8 leave: float16 (the default), or float32."),
    ] = None,
    conf: ScoreThreshold = None,
    iou: IouThreshold = None,
    max_det: MaxDetections = None,
    flavour: Annotated[FlavourChoice | None, typer.Option(help="Which TensorRT. Default: what is installed.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="SM", help="GPU to build for: portable, current, 7.5, 8.6, 8.9, 12.0; may be repeated."),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Scratch memory that a layer may use, such as 2GB.")
    ] = None,
    hardware_compatibility: Annotated[
        Compatibility, typer.Option(help="Other GPUs that it shall run on (TensorRT).")
    ] = Compatibility.none,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Later TensorRT versions load it too (TensorRT).")
    ] = False,
    optimization_level: Annotated[
        int | None, typer.Option(metavar="0-5", help="0 builds fastest, 5 runs fastest (TensorRT).")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps timings from build to build (TensorRT).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")] = False,
) -> None:
    """Build a TensorRT engine that knows what it is: a plain plan, and beside it FILE.json."""
    from yoloship.engine import BuildConfig, open_flavour, parse_target, runs_on, sidecar_path, write_engine
    from yoloship.pipeline.building import build_prepared, build_source, is_checkpoint, suppressing
    from yoloship.pipeline.releases import resolve
    from yoloship.sinks import plan_file

    wanted = precision or Precision.float32
    placement = Placement.inputs if wanted.needs_pictures else None
    quantizing = Quantizing(calibrate or (), calibrator, placement, max_drop, labels, remainder)
    quantizing.check(wanted)
    nms = suppression(output or Output.raw, {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det})
    source_path = resolve(model)
    from_checkpoint = is_checkpoint(source_path)
    if not from_checkpoint and (input is not None or output not in {None, Output.nms}):
        raise typer.BadParameter("an ONNX file has its own input and output; it can only be given --output nms")
    batches, sizes = _batch(batch), _sizes(imgsz)
    config = BuildConfig(
        workspace_bytes=_bytes(workspace) if workspace else None,
        targets=tuple(parse_target(word) for word in target or ()),
        hardware_compatibility=hardware_compatibility.value,
        version_compatible=version_compatible,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
    )
    config = _with_ranges(config, batches, sizes, keep_single=not from_checkpoint)
    graph = None
    if from_checkpoint:
        graph = replace(
            _graph(batches, sizes),
            input_form=(input or Input.float).value,
            output_form=(output or Output.raw).value,
            nms=nms,
        )
    path = output_file or (
        source_path.with_suffix(".engine") if source_path == Path(model) else Path(f"{model}.engine")
    )
    for place in (path, sidecar_path(path)):  # before the work; publishing checks once more
        plan_file(place, (source_path,), overwrite=overwrite)
    chosen = open_flavour(flavour.value if flavour else None)
    outcome = ""

    def refine(whole: Model) -> Model:
        nonlocal outcome
        if wanted is not Precision.float32:
            whole, outcome = lowered(whole, wanted, quantizing)
        return whole if nms is None or from_checkpoint else suppressing(whole, nms, subject=str(source_path))

    changes = wanted is not Precision.float32 or (nms is not None and not from_checkpoint)
    with build_source(source_path, graph, refine=refine if changes else None) as source:
        with _progress(chosen.title) as progress:
            built = build_prepared(source, config, chosen, progress)
        info = source.info
    record = write_engine(
        path,
        built,
        source_name=source_path.name if source_path == Path(model) else model,
        model=info,
        recipe=_recipe(wanted, quantizing, from_checkpoint=from_checkpoint),
        overwrite=overwrite,
    )
    for text in built.warnings:
        typer.echo(f"TensorRT warns: {text}", err=True)
    if info is None:
        typer.echo("its form is none that detect knows; other TensorRT programs can run it", err=True)
    computes = info.precision if info else "/".join(record.dtypes)
    size = f"{len(built.plan) / 1e6:.1f} MB"
    about = outcome.removeprefix(wanted.value).lstrip(",; ")  # the precision stands there already
    typer.echo(
        f"{path}: {size}, {computes}, {runs_on(record)}, built by {chosen.title} in {built.elapsed_s:.1f} s"
        + (f"; {about}" if about else "")
    )


def _recipe(precision: Precision, quantizing: Quantizing, *, from_checkpoint: bool) -> Recipe:
    """What was given, with defaults spelt out: a later release may have others."""
    from yoloship.engine import Recipe, place_name

    calibrated = precision.needs_pictures
    return Recipe(
        from_checkpoint=from_checkpoint,
        precision=None if precision is Precision.float32 else precision.value,
        calibrate=tuple(place_name(place) for place in quantizing.pictures),
        labels=None if quantizing.labels is None else place_name(str(quantizing.labels)),
        calibrator=(quantizing.calibrator or Calibrator.percentile).value if calibrated else None,
        max_drop=(MAX_DROP if quantizing.max_drop is None else quantizing.max_drop) if calibrated else None,
        remainder=(quantizing.remainder or Remainder.float16).value if calibrated else None,
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
        raise typer.BadParameter(f"{text!r} is not a size: give 640, HxW such as 384x640, or MIN:OPT:MAX of those")
    heights = [match[1] for match in parts if match]
    widths = [match[2] or match[1] for match in parts if match]
    return Range.parse(":".join(heights), option="--imgsz"), Range.parse(":".join(widths), option="--imgsz")


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size in bytes: give 2GB, 512MB or a number of bytes")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


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


@contextmanager
def _progress(title: str) -> Iterator[BuildProgress | None]:
    """A bar with who builds, the phase and the elapsed time, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{title}: reading the model", total=1.0)

        def show(step: BuildStep) -> None:
            bar.update(task, completed=step.fraction, description=f"{title}: {step.phase}")

        yield show
