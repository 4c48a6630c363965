"""``yoloship detect``: boxes on pictures, as a table, annotated pictures and JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloship.cli.progress import with_progress
from yoloship.cli.values import class_list, image_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yoloship.model import NmsConfig
    from yoloship.pipeline import Outcome
    from yoloship.results import Detections

RUNS = Path("runs")
"""Where annotated pictures go unless -o says otherwise, each run in a folder of its own."""

EXAMPLES = (
    "yoloship detect best.pt photo.jpg",
    "yoloship detect best.onnx photos/ 'cams/**/*.jpg' -o found --json found.json",
    "yoloship detect best.pt photo.jpg --no-draw --json - | jq '.[0].detections'",
)


@dataclass(frozen=True, slots=True)
class _Job:
    """What to read and where the results go.

    Attributes:
        inputs: Picture files, in order.
        outputs: Annotated pictures, one for each input; empty where none are wanted.
        json_path: None for no JSON.
        json_on_stdout: Then nothing else goes there.
        overwrite: Whether existing outputs may be replaced.
    """

    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    json_path: Path | None
    json_on_stdout: bool
    overwrite: bool


def detect(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint (.pt), an ONNX file, or a release name: yolov5s.")
    ],
    source: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Pictures, folders and patterns.")],
    conf: Annotated[float, typer.Option(min=0, max=1, help="Drop boxes whose score is not above this.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Drop a box that overlaps a better one by more.")] = 0.45,
    max_det: Annotated[int, typer.Option(min=1, help="Keep at most this many boxes a picture.")] = 300,
    imgsz: Annotated[
        str | None, typer.Option(metavar="640|HxW", help="Model input in pixels. Default: the graph's own, else 640.")
    ] = None,
    rect: Annotated[
        bool,
        typer.Option(
            "--rect/--square", help="Pad to the next multiple of the stride only: faster, slightly other numbers."
        ),
    ] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="person,car,2", help="Keep only these classes, by name or id.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|cuda[:N]", help="Default: the CPU; for an engine the first GPU.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output-dir", metavar="DIR", help="For annotated pictures. Default: a new folder runs/detect-N."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as JSON; - is stdout.")] = None,
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Whether to write annotated pictures.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Find objects in pictures: a table, annotated pictures, and JSON where asked for.

    A picture that cannot be read is reported and does not stop the rest; the exit code is then 1.
    """
    wanted = class_list(classes)
    input_hw = None if imgsz is None else image_size(imgsz)
    if imgsz is not None and input_hw is None:
        raise typer.BadParameter("detect needs a size: 640, or HxW such as 384x640 (--rect adapts it to each picture)")
    if output_dir is not None and not draw:
        raise typer.BadParameter("-o is for annotated pictures, which --no-draw turns off")
    job = _plan(source, output_dir, json, draw=draw, overwrite=overwrite)

    from yoloship.pipeline import DetectOptions, load
    from yoloship.pipeline.releases import resolve

    options = DetectOptions(score_threshold=conf, iou_threshold=iou, max_detections=max_det, classes=wanted)
    detector = load(
        resolve(model),
        imgsz=input_hw,
        shape_mode="rect" if rect else "square",
        device=device,
        options=options,
        tuned_for="throughput" if len(job.inputs) > 1 else "latency",
    )
    with detector:
        outcomes = detector.stream(job.inputs, keep_images=bool(job.outputs))
        found, failures = _collect(with_progress(outcomes, len(job.inputs)), job)
    _report(found, job)
    if cut := sum(not detections.complete for _, detections in found):
        _say_incomplete(cut, len(found), detector.info.nms)
    if failures:
        if len(job.inputs) > 1:
            typer.echo(f"error: {failures} of {len(job.inputs)} pictures failed", err=True)
        raise typer.Exit(1)


def _plan(
    sources: Sequence[str], output_dir: Path | None, json_path: Path | None, *, draw: bool, overwrite: bool
) -> _Job:
    """Settle every name, and refuse what may not be written, before the model is loaded."""
    from yoloship.sinks import fresh_folder, plan_file, plan_outputs
    from yoloship.sources import find_pictures

    inputs = find_pictures(sources)
    outputs: tuple[Path, ...] = ()
    if draw:
        outputs = plan_outputs(inputs, output_dir or fresh_folder(RUNS, "detect"), overwrite=overwrite)
    json_on_stdout = json_path is not None and str(json_path) == "-"
    if json_path is not None and not json_on_stdout:
        plan_file(json_path, inputs, overwrite=overwrite)
    return _Job(inputs, outputs, None if json_on_stdout else json_path, json_on_stdout, overwrite)


def _collect(outcomes: Iterable[Outcome], job: _Job) -> tuple[list[tuple[str, Detections]], int]:
    """Write each annotated picture as its result comes; say what failed, and go on."""
    from yoloship.sinks import write_picture

    found: list[tuple[str, Detections]] = []
    failures = 0
    for outcome in outcomes:
        if outcome.error is not None:
            failures += 1
            typer.echo(f"error: {outcome.error}", err=True)
            continue
        detections = outcome.unwrap()
        if job.outputs and outcome.image is not None:
            write_picture(detections.draw(outcome.image), job.outputs[outcome.index], overwrite=job.overwrite)
        found.append((str(outcome.source), detections))
    return found, failures


def _say_incomplete(cut: int, pictures: int, nms: NmsConfig | None) -> None:
    """Once for all pictures: boxes may be missing, and what to do about it."""
    limit = f" than the {nms.candidates}" if nms else ""
    typer.echo(
        f"boxes may be missing in {cut} of {pictures} pictures: more candidates{limit} that the graph looks at; export "
        "it with a higher --conf, or with another --output than nms",
        err=True,
    )


def _report(found: Sequence[tuple[str, Detections]], job: _Job) -> None:
    """The JSON, and on a stdout that it does not take, the table and where everything is."""
    from yoloship.files import write_bytes
    from yoloship.sinks import detections_table, json_bytes, pictures_table

    if job.json_on_stdout:
        sys.stdout.buffer.write(json_bytes(found))
        sys.stdout.buffer.flush()
        return
    if not found:  # every picture failed: a file without results would only be in the way of the next run
        return
    if job.json_path is not None:
        write_bytes(job.json_path, json_bytes(found), overwrite=job.overwrite)
    if len(job.inputs) == 1:
        image, detections = found[0]
        typer.echo(detections_table(detections, image), nl=False)
    else:
        typer.echo(pictures_table(found), nl=False)
    if job.outputs:
        only = len(job.inputs) == 1
        typer.echo(f"annotated: {job.outputs[0] if only else job.outputs[0].parent}")
    if job.json_path is not None:
        typer.echo(f"json: {job.json_path}")
