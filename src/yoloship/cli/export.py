"""``yoloship export``: a checkpoint becomes an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli import options as precisions
from yoloship.cli.command import (
    CHECKPOINT_SUFFIXES,
    ENGINE_SUFFIXES,
    FILE,
    alias_table,
    argument,
    batch_size,
    command,
    graph_size,
    option,
    refuse_suffix,
)
from yoloship.cli.options import PRECISION, is_dash, noted_inputs, print_about
from yoloship.cli.output import print_err
from yoloship.cli.progress import progress
from yoloship.conversion import calibration_of, exporting
from yoloship.model import STANDARD, InputForm, Placement
from yoloship.tasks import all_forms, suppressing_forms

if TYPE_CHECKING:
    from typing import Literal

    from yoloship.model import Calibrator, HeadChoice, OtherLayers, OutputForm, Precision


FORMS = all_forms()
FORMS_HELP = " ".join(f"{name}: {form.description}." for name, form in FORMS.items())


@command(
    examples=(
        "yoloship export best.pt",
        "yoloship export best.pt -o cam.onnx --imgsz 384x640 --input image --output compact",
        "yoloship export best.pt -o best-int8.onnx --precision int8 --calibrate photos/",
        "yoloship export best.pt --precision int8 --calibrate photos/ --labels labels/ --max-drop 0.003",
        "yoloship export best.pt --imgsz dynamic --batch dynamic",
    )
)
@argument("model", metavar="MODEL", help="A checkpoint, or a release name such as yolov5s.")
@option(
    "-o", "--output-file", type=FILE, metavar="FILE", help="File to write. Default: the checkpoint's name with .onnx."
)
@option(
    "--imgsz",
    type=graph_size,
    metavar="640|HxW|dynamic",
    help="Input size in pixels. Default: the training size if the checkpoint states it, else 640, or 224 for "
    "classification.",
)
@option("--batch", type=batch_size, metavar="N|dynamic", default="1", help="Images per run.")
@option(
    "--input",
    "input_form",
    type=click.Choice(get_args(InputForm)),
    default="float",
    help="Input of the graph. float: (B,3,H,W) RGB in 0..1, the usual form. image: (B,H,W,3) uint8 BGR.",
)
@option(
    "--output",
    "output_form",
    type=click.Choice(tuple(FORMS)),
    help=f"{FORMS_HELP} Default: the standard form of the model's task.",
)
@options.head
@options.nms_conf
@options.nms_iou
@options.nms_max_det
@option(
    "--precision",
    type=PRECISION,
    default="float32",
    help="Arithmetic of the network's body; input, output and decoding stay float32. fp32, fp16, half, bf16 and fp8 "
    "are accepted too.",
)
@precisions.calibrate
@precisions.calibrator
@option(
    "--placement",
    type=click.Choice(get_args(Placement)),
    help="Where int8 and float8 quantize. inputs: before each convolution, as NVIDIA recommends (default). "
    "inputs_and_outputs: also after it, for ONNX Runtime on a CPU.",
)
@precisions.max_drop
@precisions.labels
@precisions.other_layers
@precisions.old_other_layers
@options.names
@options.names_from
@options.aliases
@options.open_transform
@options.overwrite
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    output_file: Path | None,
    imgsz: tuple[int, int] | Literal["dynamic"] | None,
    batch: int | Literal["dynamic"],
    input_form: InputForm,
    output_form: OutputForm | None,
    head: HeadChoice | None,
    conf: float | None,
    iou: float | None,
    max_det: int | None,
    precision: Precision,
    calibrate: tuple[str, ...],
    calibrator: Calibrator | None,
    placement: Placement | None,
    max_drop: float | None,
    labels: Path | None,
    other_layers: OtherLayers | None,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    aliases: tuple[tuple[str, str], ...],
    transform: str | None,
    overwrite: bool,
) -> None:
    """Write an ONNX file that any runtime can load, with the class names inside."""
    refuse_suffix(output_file, ENGINE_SUFFIXES, f"export writes ONNX files; 'yoloship build {model}' writes engines")
    refuse_suffix(output_file, CHECKPOINT_SUFFIXES, "export writes ONNX files, not checkpoints")
    target = Path("/dev/stdout") if is_dash(output_file) else output_file
    calibration = calibration_of(calibrate, labels, calibrator, placement, max_drop, other_layers)
    precisions.check_calibration(precision, calibration)
    check_suppression(output_form or STANDARD, conf, iou, max_det)
    with progress(in_pipes=True) as on_progress:
        written = exporting.export(
            model,
            target,
            imgsz=imgsz,
            batch=batch,
            input_form=input_form,
            output_form=output_form or STANDARD,
            head=head,
            score_threshold=conf,
            iou_threshold=iou,
            max_detections=max_det,
            precision=precision,
            calibrate=calibrate,
            labels=labels,
            max_drop=max_drop,
            calibrator=calibrator,
            placement=placement,
            other_layers=other_layers,
            class_names=options.chosen_names(names, names_from),
            aliases=alias_table(aliases),
            transform=transform,
            overwrite=overwrite,
            protected=noted_inputs(),
            on_progress=on_progress,
            on_note=print_err,
        )
    classes = counted(len(written.class_names), "class", "classes")
    details = f", {written.details}" if written.details else ""
    print_about(written.path, f"{written.path}: {written.size_bytes / 1e6:.1f} MB, {classes}{details}")


def check_suppression(output_form: OutputForm, conf: float | None, iou: float | None, max_det: int | None) -> None:
    """Refuse thresholds for a graph that does not suppress.

    Raises:
        click.UsageError: there are some.
    """
    if output_form not in suppressing_forms() and not conf is iou is max_det is None:
        raise click.UsageError(f"--conf, --iou and --max-det need --output {' or '.join(suppressing_forms())}")
