"""``yoloship export``: a checkpoint becomes an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli import precision as precisions
from yoloship.cli.command import argument, command, option
from yoloship.cli.options import is_dash, outputs_for, print_about
from yoloship.cli.output import print_err
from yoloship.cli.precision import PRECISION, Quantizing, lowered
from yoloship.cli.values import (
    CHECKPOINT_SUFFIXES,
    ENGINE_SUFFIXES,
    FILE,
    alias_table,
    batch_size,
    graph_size,
    refuse_suffix,
)
from yoloship.model import InputForm, OutputForm, Placement

if TYPE_CHECKING:
    from yoloship.kinds import Kind
    from yoloship.model import Calibrator, NmsConfig, OtherLayers, Precision


CHECKPOINTS: frozenset[Kind] = frozenset({"checkpoint", "pickle", "unknown"})
"""What the reader of checkpoints looks into; it says more about what is none than its first bytes do."""


@command(
    "yoloship export best.pt",
    "yoloship export best.pt -o cam.onnx --imgsz 384x640 --input image --output compact",
    "yoloship export best.pt -o best-int8.onnx --precision int8 --calibrate photos/",
    "yoloship export best.pt --precision int8 --calibrate photos/ --labels labels/ --max-drop 0.003",
    "yoloship export best.pt --imgsz dynamic --batch dynamic",
)
@argument("model", metavar="MODEL", help="A checkpoint, or a release name such as yolov5s.")
@option("-o", "--output-file", type=FILE, metavar="FILE", help="Default: the checkpoint's name with .onnx.")
@option("--imgsz", type=graph_size, metavar="640|HxW|dynamic", default="640", help="Input size in pixels.")
@option("--batch", type=batch_size, metavar="N|dynamic", default="1", help="Images per run.")
@option(
    "--input",
    "input_form",
    type=click.Choice(get_args(InputForm)),
    default="float",
    help="float: (B,3,H,W) RGB 0..1, the field's standard. image: (B,H,W,3) uint8 BGR.",
)
@option(
    "--output",
    "output_form",
    type=click.Choice(get_args(OutputForm)),
    default="raw",
    help="raw: (B,N,5+C), the field's standard. heads: undecoded maps, fastest. compact: boxes, scores, ids. nms: "
    "final detections.",
)
@options.nms_conf
@options.nms_iou
@options.nms_max_det
@option(
    "--precision",
    type=PRECISION,
    default="float32",
    help="What the network's body computes in; its ends and the decoding stay float32. fp32, fp16, half, bf16 and fp8 "
    "are understood too.",
)
@precisions.calibrate
@precisions.calibrator
@option(
    "--placement",
    type=click.Choice(get_args(Placement)),
    help="inputs: the default, as NVIDIA advises. inputs_and_outputs: behind convolutions too.",
)
@precisions.max_drop
@precisions.labels
@precisions.other_layers
@precisions.old_other_layers
@options.names
@options.aliases
@options.overwrite
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    output_file: Path | None,
    imgsz: tuple[int, int] | str,
    batch: int | str,
    input_form: InputForm,
    output_form: OutputForm,
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
    aliases: tuple[tuple[str, str], ...],
    overwrite: bool,
) -> None:
    """Write an ONNX file that any runtime takes, with the class names inside."""
    refuse_suffix(output_file, ENGINE_SUFFIXES, f"export writes ONNX files; 'yoloship build {model}' writes engines")
    refuse_suffix(output_file, CHECKPOINT_SUFFIXES, "export writes ONNX files, not checkpoints")
    quantizing = Quantizing(calibrate, calibrator, placement, max_drop, labels, other_layers)
    quantizing.check(precision)
    nms = suppression(output_form, {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det})

    from yoloship._util.writing import find_place, replacing
    from yoloship.errors import CheckpointError
    from yoloship.kinds import refuse_others
    from yoloship.models.releases import resolve

    checkpoint_path = resolve(model)
    refuse_others(checkpoint_path, CHECKPOINTS, "checkpoint", subject=str(checkpoint_path), error=CheckpointError)
    target = output_file or _beside(model, checkpoint_path)
    if is_dash(target):
        target = Path("/dev/stdout")
    outputs_for((checkpoint_path,), calibrate=calibrate, labels=labels, overwrite=overwrite).claim(target)
    found = quantizing.find()

    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes, write_graph

    config = GraphConfig(
        input_hw=None if isinstance(imgsz, str) else imgsz,
        batch=None if isinstance(batch, str) else batch,
        input_form=input_form,
        output_form=output_form,
        nms=nms,
    )
    checkpoint = read_checkpoint(checkpoint_path, aliases=alias_table(aliases))
    if names is not None:
        checkpoint = checkpoint.with_class_names(names)
    outcome, data = "", b""
    if precision != "float32":
        result = lowered(build_graph(checkpoint, config), precision, quantizing, found)
        data, outcome = graph_bytes(result.model), f", {result.words}"
        if result.not_on_cpu is not None:
            print_err(f"note: it does not run on a CPU here: {result.not_on_cpu}")
    place = find_place(target)
    with replacing(target, overwrite=overwrite) as file:
        folder = None if place.is_stream else place.path.parent
        size = file.write(data) if data else write_graph(checkpoint, config, file, folder=folder)
    classes = counted(len(checkpoint.class_names), "class", "classes")
    print_about(target, f"{target}: {size / 1e6:.1f} MB, {classes}{outcome}")


def suppression(output: OutputForm, limits: dict[str, float | int | None]) -> NmsConfig | None:
    """Limits for a graph that suppresses; None for the others.

    Raises:
        click.UsageError: a limit was given, and the graph does not suppress.
    """
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if output != "nms":
        if given:
            raise click.UsageError("--conf, --iou and --max-det need --output nms")
        return None
    from yoloship.model import NmsConfig

    if "max_detections" in given:
        given["candidates"] = max(NmsConfig().candidates, given["max_detections"])
    return NmsConfig(**given)


def _beside(model: str, checkpoint_path: Path) -> Path:
    """Next to the user's own checkpoint; for a release, whose file lies in the cache, in the current folder."""
    return checkpoint_path.with_suffix(".onnx") if checkpoint_path == Path(model) else Path(f"{model}.onnx")
