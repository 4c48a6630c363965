"""``yoloship verify``: whether two artefacts of one model give the same answers."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from yoloship.cli.values import image_size

EXAMPLES = (
    "yoloship verify best.pt best.onnx --images photos/",
    "yoloship verify best.pt best-int8.onnx --images photos/ --min-agreement 0.97 --plot int8.png",
    "yoloship verify best.pt best-fp16.onnx --images photos/ --json report.json",
)


def verify(  # noqa: PLR0913, PLR0917 - one parameter an option
    a: Annotated[
        str, typer.Argument(metavar="A", help="The model that is taken as right: .pt, .onnx, a release name.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The one to be judged.")],
    images: Annotated[
        list[str], typer.Option(metavar="SOURCE", help="Pictures, folders or patterns; may be repeated.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="YOLO text labels, NAME.txt for each picture: mAP is compared too."),
    ] = None,
    conf: Annotated[float, typer.Option(min=0, max=1, help="Score from which detections count.")] = 0.25,
    imgsz: Annotated[
        str | None, typer.Option(metavar="640|HxW", help="Model input in pixels. Default: the graph's own, else 640.")
    ] = None,
    min_agreement: Annotated[float, typer.Option(min=0, max=1, help="Least share of detections that both see.")] = 0.99,
    min_iou: Annotated[float, typer.Option(min=0, max=1, help="Least mean overlap of what both see.")] = 0.97,
    max_score_difference: Annotated[
        float, typer.Option(min=0, max=1, help="Largest mean difference of scores of what both see.")
    ] = 0.02,
    max_map_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Largest loss of mAP (IoU 0.5 to 0.95), with --labels.")
    ] = 0.01,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report; - is stdout.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw scores and overlaps.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Compare two artefacts of one model on pictures. Exit code 1 says that they differ by more than is allowed.

    Half precision in an ONNX file is emulated, because ONNX Runtime computes it in float32 on a CPU; its time then says
    nothing.
    """
    input_hw = None if imgsz is None else image_size(imgsz)

    from yoloship.evaluate.labels import read_labels
    from yoloship.evaluate.opening import open_artefact
    from yoloship.evaluate.report import facts
    from yoloship.evaluate.report import plot as draw
    from yoloship.evaluate.verification import Tolerances
    from yoloship.evaluate.verification import verify as compare
    from yoloship.files import write_bytes
    from yoloship.sinks import facts_table, plan_file, write_picture
    from yoloship.sources import find_pictures

    tolerances = Tolerances(agreement=min_agreement, iou=min_iou, score=max_score_difference, drop=max_map_drop)
    pictures = find_pictures(images)
    truths = None if labels is None else read_labels(labels, pictures)
    to_stdout = json_file is not None and str(json_file) == "-"
    for path in (None if to_stdout else json_file, plot):
        if path is not None:
            plan_file(path, pictures, overwrite=overwrite)
    with ExitStack() as stack:
        first, second = (stack.enter_context(open_artefact(name, imgsz=input_hw)) for name in (a, b))
        found = compare((a, first), (b, second), pictures, truths=truths, score_threshold=conf, tolerances=tolerances)
    if plot is not None:
        write_picture(draw(found), plot, overwrite=overwrite)
    text = json.dumps(found.to_dict(), indent=2)
    if json_file is not None and not to_stdout:
        write_bytes(json_file, f"{text}\n".encode(), overwrite=overwrite)
    typer.echo(text if to_stdout else facts_table(facts(found), shutil.get_terminal_size((100, 24)).columns).rstrip())
    if not found.passed:
        failed = ", ".join(check.name for check in found.checks if not check.passed)
        typer.echo(f"error: {b} differs from {a} by more than is allowed: {failed}", err=True)
        raise typer.Exit(1)
