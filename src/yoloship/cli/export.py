"""``yoloship export``: a checkpoint becomes an ONNX file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yoloship.cli.options import (
    Calibrate,
    CalibratorChoice,
    IouThreshold,
    Labels,
    MaxDetections,
    MaxDrop,
    ScoreThreshold,
)
from yoloship.cli.precision import Placement, Precision, Quantizing, Remainder, lowered
from yoloship.cli.values import batch_size, image_size

if TYPE_CHECKING:
    from yoloship.model import NmsConfig

EXAMPLES = (
    "yoloship export best.pt",
    "yoloship export best.pt -o cam.onnx --imgsz 384x640 --input image --output compact",
    "yoloship export best.pt -o best-int8.onnx --precision int8 --calibrate photos/",
    "yoloship export best.pt --precision int8 --calibrate photos/ --labels labels/ --max-drop 0.003",
    "yoloship export best.pt --imgsz dynamic --batch dynamic",
)


class Input(str, Enum):
    """How pictures go in."""

    float = "float"
    image = "image"


class Output(str, Enum):
    """What comes out."""

    raw = "raw"
    heads = "heads"
    compact = "compact"
    nms = "nms"


def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint, or a release name such as yolov5s.")],
    output_file: Annotated[
        Path | None,
        typer.Option("-o", "--output-file", metavar="FILE", help="Default: the checkpoint's name with .onnx."),
    ] = None,
    imgsz: Annotated[str, typer.Option(metavar="640|HxW|dynamic", help="Input size in pixels.")] = "640",
    batch: Annotated[str, typer.Option(metavar="N|dynamic", help="Pictures a run.")] = "1",
    input: Annotated[  # noqa: A002 - the option's name
        Input, typer.Option(help="float: (B,3,H,W) RGB 0..1, the field's standard. image: (B,H,W,3) uint8 BGR.")
    ] = Input.float,
    output: Annotated[
        Output,
        typer.Option(
            help="raw: (B,N,5+C), the field's standard. heads: undecoded maps, fastest. compact: boxes, scores, ids. "
            "nms: final detections."
        ),
    ] = Output.raw,
    conf: ScoreThreshold = None,
    iou: IouThreshold = None,
    max_det: MaxDetections = None,
    precision: Annotated[
        Precision, typer.Option(help="What the network's body computes in; its ends and the decoding stay float32.")
    ] = Precision.float32,
    calibrate: Calibrate = None,
    calibrator: CalibratorChoice = None,
    placement: Annotated[
        Placement | None,
        typer.Option(help="inputs: the default, as NVIDIA advises. both_ends: behind convolutions too."),
    ] = None,
    max_drop: MaxDrop = None,
    labels: Labels = None,
    remainder: Annotated[
        Remainder | None,
        typer.Option(help="What int8 and float8 leave: float16, or float32 (the default with both_ends)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")] = False,
) -> None:
    """Write an ONNX file that any runtime takes, with the class names inside."""
    input_hw, batch_or_none = image_size(imgsz), batch_size(batch)
    quantizing = Quantizing(calibrate or (), calibrator, placement, max_drop, labels, remainder)
    quantizing.check(precision)
    nms = suppression(output, {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det})

    from yoloship.files import write_bytes
    from yoloship.pipeline.releases import resolve
    from yoloship.sinks import plan_file

    checkpoint_path = resolve(model)
    target = output_file or _beside(model, checkpoint_path)
    plan_file(target, (checkpoint_path,), overwrite=overwrite)  # before the work; publishing checks once more

    from yoloship.checkpoint import read_checkpoint
    from yoloship.graph import GraphConfig, build_graph, graph_bytes

    config = GraphConfig(
        input_hw=input_hw, batch=batch_or_none, input_form=input.value, output_form=output.value, nms=nms
    )
    checkpoint = read_checkpoint(checkpoint_path)
    graph = build_graph(checkpoint, config)
    outcome = ""
    if precision is not Precision.float32:
        graph, words = lowered(graph, precision, quantizing)
        outcome = f", {words}"
    data = graph_bytes(graph)
    write_bytes(target, data, overwrite=overwrite)
    typer.echo(f"{target}: {len(data) / 1e6:.1f} MB, {len(checkpoint.class_names)} classes{outcome}")


def suppression(output: Output, limits: dict[str, float | int | None]) -> NmsConfig | None:
    """Limits for a graph that suppresses; None for the others.

    Raises:
        typer.BadParameter: a limit was given, and the graph does not suppress.
    """
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if output is not Output.nms:
        if given:
            raise typer.BadParameter("--conf, --iou and --max-det need --output nms")
        return None
    from yoloship.model import NmsConfig

    if "max_detections" in given:
        given["candidates"] = max(NmsConfig().candidates, given["max_detections"])
    return NmsConfig(**given)


def _beside(model: str, checkpoint_path: Path) -> Path:
    """Next to the user's own checkpoint; for a release, whose file lies in the cache, in the current folder."""
    return checkpoint_path.with_suffix(".onnx") if checkpoint_path == Path(model) else Path(f"{model}.onnx")
