"""``yoloship build``: a checkpoint or an ONNX file becomes a TensorRT engine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli import options as precisions
from yoloship.cli.command import (
    FILE,
    WholeNumber,
    alias_table,
    argument,
    byte_size,
    command,
    flag,
    option,
    refuse_suffix,
)
from yoloship.cli.export import FORMS, FORMS_HELP, check_suppression
from yoloship.cli.options import PRECISION, is_dash, noted_inputs
from yoloship.cli.output import print_err, print_out
from yoloship.cli.progress import progress
from yoloship.conversion import CALIBRATED, calibration_of, engines
from yoloship.conversion.exporting import suppression
from yoloship.engine.config import MAX_OPTIMIZATION_LEVEL, HardwareCompatibility
from yoloship.kinds import kind_of
from yoloship.model import STANDARD, InputForm
from yoloship.tasks import suppressing_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.conversion import Calibration
    from yoloship.engine import FlavourName
    from yoloship.model import Calibrator, HeadChoice, OtherLayers, OutputForm, Placement, Precision
    from yoloship.models.build_check import BuildRequest

MODEL_SUFFIXES = frozenset({".onnx", ".pt"})
BUILDERS = ("tensorrt", "rtx")


@command(
    examples=(
        "yoloship build best.pt",
        "yoloship build best.onnx -o cam.engine --target sm89",
        "yoloship build best.pt --batch 1:4:16 --imgsz 384x640 --output compact",
        "yoloship build best.pt --precision int8 --calibrate photos/ --output nms",
        "yoloship build best.pt --target 8.9 --check",
    )
)
@argument("model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, or a release name such as yolov5s.")
@option(
    "-o", "--output-file", type=FILE, metavar="FILE", help="Engine to write. Default: the model's name with .engine."
)
@option(
    "--imgsz",
    metavar="640|HxW|MIN:OPT:MAX",
    help="Input size in pixels; a range makes it dynamic. Default for a checkpoint: its training size if it states "
    "it, else 640, or 224 for classification.",
)
@option("--batch", metavar="N|MIN:OPT:MAX", help="Images per run; a range makes it dynamic.")
@option(
    "--input",
    "input_form",
    type=click.Choice(get_args(InputForm)),
    help="Input of a checkpoint's graph. float: (B,3,H,W) RGB in 0..1 (default). image: (B,H,W,3) uint8 BGR.",
)
@option(
    "--output",
    "output_form",
    type=click.Choice(tuple(FORMS)),
    help=f"{FORMS_HELP} For an ONNX file only {' or '.join(suppressing_forms())} can be given. Default: the standard "
    "form of the model's task.",
)
@option(
    "--precision",
    type=PRECISION,
    help="Arithmetic of the network's body; all but float32 need a float32 graph. fp32, fp16, half, bf16 and fp8 are "
    "accepted too. Default: float32.",
)
@precisions.calibrate
@precisions.calibrator
@precisions.max_drop
@precisions.labels
@precisions.other_layers
@precisions.old_other_layers
@options.head
@options.nms_conf
@options.nms_iou
@options.nms_max_det
@option(
    "--flavour",
    type=click.Choice(BUILDERS),
    help="Which TensorRT to build with. Default: the one installed; tensorrt if both are.",
)
@option(
    "--target",
    "targets",
    multiple=True,
    metavar="SM",
    help="GPU to build for: portable (default), current, 7.5, 8.0, 8.6, 8.9, 12.0 or 12.1; may be repeated (only "
    "--flavour rtx).",
)
@option("--workspace", type=byte_size, metavar="SIZE", help="Maximum scratch memory for a layer, such as 2GB.")
@option(
    "--hardware-compatibility",
    type=click.Choice(get_args(HardwareCompatibility)),
    default="none",
    help="Other GPUs that the engine must also run on (only --flavour tensorrt).",
)
@flag("--version-compatible", help="Let later TensorRT versions load the engine (only --flavour tensorrt).")
@option(
    "--optimization-level",
    type=WholeNumber(0, MAX_OPTIMIZATION_LEVEL),
    metavar="0-5",
    help="0 builds fastest, 5 runs fastest (only --flavour tensorrt).",
)
@option(
    "--timing-cache",
    type=FILE,
    metavar="FILE",
    help="Keep layer timings in this file for the next build (only --flavour tensorrt).",
)
@options.names
@options.names_from
@options.aliases
@options.open_transform
@flag(
    "--check",
    help="Check in about a second whether the build would work, without building. The exit code is 1 if not.",
)
@flag(
    "--show-trtexec",
    help="Also print the equivalent command for NVIDIA's trtexec (for tensorrt_rtx with --flavour rtx).",
)
@options.overwrite
def build(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    output_file: Path | None,
    imgsz: str | None,
    batch: str | None,
    input_form: InputForm | None,
    output_form: OutputForm | None,
    head: HeadChoice | None,
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
    names_from: tuple[str, ...] | None,
    aliases: tuple[tuple[str, str], ...],
    transform: str | None,
    check: bool,
    show_trtexec: bool,
    overwrite: bool,
) -> None:
    """Build a TensorRT engine: a plan file that any TensorRT program can load, and a FILE.json that describes it."""
    from yoloship.engine import BuildConfig, parse_target

    if check and show_trtexec:
        raise click.UsageError("--show-trtexec needs a build: leave out --check")
    if is_dash(output_file):
        raise click.UsageError("-o: an engine needs a file name, because FILE.json is written beside it")
    refuse_suffix(output_file, MODEL_SUFFIXES, f"build writes engines; 'yoloship export {model}' writes ONNX files")
    wanted: Precision = precision or "float32"
    placement: Placement | None = "inputs" if wanted in CALIBRATED else None
    calibration = calibration_of(calibrate, labels, calibrator, placement, max_drop, other_layers)
    precisions.check_calibration(wanted, calibration)
    check_suppression(output_form or STANDARD, conf, iou, max_det)
    _refuse_for_onnx(model, input_form, output_form, aliases, transform)
    batches, sizes = _batch(batch), _sizes(imgsz)
    config = BuildConfig(
        workspace_bytes=workspace,
        targets=tuple(parse_target(word) for word in targets),
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
    )
    request = engines.request_of(
        model,
        output_file,
        imgsz=sizes,
        batch=batches,
        input_form=input_form,
        output_form=output_form,
        head=head,
        nms=suppression(output_form or STANDARD, conf, iou, max_det),
        precision=wanted,
        flavour=flavour,
        config=config,
        class_names=options.chosen_names(names, names_from),
        aliases=alias_table(aliases),
        transform=transform,
        say=print_err,
    )
    if check:
        _say_whether_it_would_go(request, calibration, overwrite=overwrite)
        return
    engines.claim_engine(request, calibration, noted_inputs(), overwrite=overwrite)
    with progress(in_pipes=True) as on_progress:
        built = engines.carry_out(
            request, calibration, model=model, overwrite=overwrite, on_progress=on_progress, say=print_err
        )
    if built.info is None:
        print_err(
            "predict cannot run this engine, because its output has an unknown form; other TensorRT programs can run it"
        )
    size = f"{built.size_bytes / 1e6:.1f} MB"
    print_out(
        f"{built.path}: {size}, {built.precision}, {built.runs_on}, "
        f"built by {built.built_by} in {built.elapsed_s:.1f} s" + (f"; {built.details}" if built.details else "")
    )
    for line in built.trtexec if show_trtexec else ():
        print_out(line)


def _say_whether_it_would_go(request: BuildRequest, calibration: Calibration, *, overwrite: bool) -> None:
    from yoloship.models.build_check import check_request, look

    def names() -> str:
        engines.claim_engine(request, calibration, noted_inputs(), overwrite=overwrite)
        return "free, or may be replaced"

    def images() -> str:
        found, truths = calibration.find(print_err, lambda: engines.info_of_request(request))
        words = counted(len(found), "image")
        if truths is None:
            return words
        return f"{words}, {counted(sum(len(truth.class_ids) for truth in truths), 'labelled object')}"

    findings = list(check_request(request))
    if all(finding.passed for finding in findings if finding.name == "output"):
        findings.append(look("names", names))
    if calibration.images:
        findings.append(look("calibration", images))
    for finding in findings:
        print_out(f"{'ok' if finding.passed else 'FAIL':4}  {finding.name}: {finding.words}")
    if not all(finding.passed for finding in findings):
        raise click.exceptions.Exit(1)


def _batch(text: str | None) -> Sequence[int] | None:
    """Read ``4``, or ``1:4:16`` for the smallest, the usual and the largest batch."""
    from yoloship.engine import Range

    if not text:
        return None
    batches = Range.parse(text, option="--batch")
    return batches.minimum, batches.optimum, batches.maximum


def _sizes(text: str | None) -> tuple[int, int] | Sequence[tuple[int, int]] | None:
    """Read ``640``, ``384x640``, or three sizes with colons between them: the smallest, the usual and the largest."""
    if text is None:
        return None
    parts = [re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", part.strip()) for part in text.split(":")]
    if len(parts) not in {1, 3} or None in parts:
        raise click.UsageError(f"{text!r} is not a size: give 640, HxW such as 384x640, or MIN:OPT:MAX of those")
    sizes = [(int(match[1]), int(match[2] or match[1])) for match in parts if match]
    return sizes[0] if len(sizes) == 1 else sizes


def _refuse_for_onnx(
    model: str,
    input_form: InputForm | None,
    output_form: OutputForm | None,
    aliases: Sequence[tuple[str, str]],
    transform: str | None,
) -> None:
    """Refuse options that have no effect on an ONNX file.

    Raises:
        click.UsageError: such an option is given.
    """
    if not os.path.lexists(model) or kind_of(Path(model)) in {"checkpoint", "engine"}:
        return
    if input_form is not None or output_form not in {None, *suppressing_forms()}:
        forms = " or ".join(suppressing_forms())
        raise click.UsageError(f"the input and output of an ONNX file are fixed; only --output {forms} can be given")
    if transform is not None:
        raise click.UsageError("--transform is for checkpoints: give it for an ONNX file when the engine is used")
    if aliases:
        raise click.UsageError("--alias is for checkpoints: an ONNX file contains no Python classes")
