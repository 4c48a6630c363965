"""``yoloship detect``: boxes on pictures, as a table, annotated pictures and JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yoloship.cli import options
from yoloship.cli.command import COUNT, FRACTION, argument, command, flag, option
from yoloship.cli.inputs import named_images
from yoloship.cli.names import class_value, class_words
from yoloship.cli.output import print_bytes, print_err, print_out, print_text
from yoloship.cli.progress import with_progress
from yoloship.cli.values import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.model import NmsConfig
    from yoloship.pipeline import Outcome
    from yoloship.results import Detections

RUNS = Path("runs")
"""Where annotated pictures go unless -o says otherwise, each run in a folder of its own."""


@dataclass(frozen=True, slots=True)
class _Style:
    """How annotated images look; see `Detections.draw`."""

    hide_labels: bool = False
    hide_scores: bool = False
    line_width_px: int | None = None

    def drawn(self, detections: Detections, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The image with its boxes."""
        return detections.draw(
            image,
            hide_labels=self.hide_labels,
            hide_scores=self.hide_scores,
            line_width_px=self.line_width_px,
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


@command(
    "yoloship detect best.pt photo.jpg",
    "yoloship detect best.onnx photos/ 'cams/**/*.jpg' -o found --json found.json",
    "yoloship detect best.pt photo.jpg --no-draw --json - | jq '.[0].detections'",
)
@argument("model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, or a release name: yolov5s.")
@argument("source", metavar="SOURCE...", many=True, help="Images, folders and patterns.")
@option("--conf", type=FRACTION, metavar="FLOAT", default=0.25, help="Drop boxes whose score is not above this.")
@option("--iou", type=FRACTION, metavar="FLOAT", default=0.45, help="Drop a box that overlaps a better one by more.")
@option("--max-det", type=COUNT, metavar="N", default=300, help="Keep at most this many boxes an image.")
@options.imgsz
@option(
    "--rect/--square",
    default=False,
    help="Pad to the next multiple of the stride only: faster, slightly other numbers.",
)
@option(
    "--classes",
    type=class_value,
    multiple=True,
    metavar="person,car,2",
    help="Keep only these classes, by name or id; may be repeated, for names that contain a comma too.",
)
@options.names
@option("--device", metavar="cpu|cuda[:N]", help="Default: the CPU; for an engine the first GPU.")
@option(
    "-o",
    "--output-dir",
    type=FILE,
    metavar="DIR",
    help="For annotated images. Default: a new folder runs/detect-N.",
)
@options.json_file
@option("--draw/--no-draw", default=True, help="Whether to write annotated images.")
@flag("--hide-labels", help="Draw the boxes without labels.")
@flag("--hide-conf", help="Leave the scores out of the labels.")
@option("--line-width", type=COUNT, metavar="PX", help="Width of the boxes' lines. Default: one that fits the image.")
@options.overwrite
@options.recursive
def detect(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    source: tuple[str, ...],
    conf: float,
    iou: float,
    max_det: int,
    imgsz: tuple[int, int] | None,
    rect: bool,
    classes: tuple[str, ...],
    names: tuple[str, ...] | None,
    device: str | None,
    output_dir: Path | None,
    json_path: Path | None,
    draw: bool,
    hide_labels: bool,
    hide_conf: bool,
    line_width: int | None,
    overwrite: bool,
    recursive: bool,
) -> None:
    """Find objects in pictures: a table, annotated pictures, and JSON where asked for.

    A picture that cannot be read is reported and does not stop the rest; the exit code is then 1.
    """
    if output_dir is not None and not draw:
        raise click.UsageError("-o is for annotated pictures, which --no-draw turns off")
    style = _Style(hide_labels, hide_conf, line_width)
    if not draw and style != _Style():
        raise click.UsageError("--hide-labels, --hide-conf and --line-width do not go with --no-draw")
    job = _plan(source, output_dir, json_path, draw=draw, overwrite=overwrite, recursive=recursive)

    from yoloship.pipeline import DetectOptions, load
    from yoloship.pipeline.intake import refuse_files
    from yoloship.pipeline.releases import resolve

    kept = DetectOptions(score_threshold=conf, iou_threshold=iou, max_detections=max_det)
    detector = load(
        resolve(model),
        imgsz=imgsz,
        shape_mode="rect" if rect else "square",
        device=device,
        options=kept,
        class_names=names,
        tuned_for="throughput" if len(job.inputs) > 1 else "latency",
    )
    with detector:
        if classes:
            kept = replace(kept, classes=class_words(classes, detector.names))
        refuse_files(detector.info.channels, model)
        outcomes = detector.stream(job.inputs, options=kept, keep_images=bool(job.outputs))
        found, failures = _collect(with_progress(outcomes, "detecting", len(job.inputs)), job, style)
    _report(found, job)
    if cut := sum(not detections.complete for _, detections in found):
        _say_incomplete(cut, len(found), detector.info.nms)
    if failures:
        if len(job.inputs) > 1:
            print_err(f"error: {failures} of {len(job.inputs)} pictures failed")
        raise click.exceptions.Exit(1)


def _plan(
    sources: Sequence[str],
    output_dir: Path | None,
    json_path: Path | None,
    *,
    draw: bool,
    overwrite: bool,
    recursive: bool,
) -> _Job:
    """Settle every name, and refuse what may not be written, before the model is loaded."""
    from yoloship.sinks import fresh_folder, plan_file, plan_outputs

    inputs = named_images(sources, recursive=recursive)
    outputs: tuple[Path, ...] = ()
    if draw:
        outputs = plan_outputs(inputs, output_dir or fresh_folder(RUNS, "detect"), overwrite=overwrite)
    json_on_stdout = json_path is not None and str(json_path) == "-"
    if json_path is not None and not json_on_stdout:
        plan_file(json_path, inputs, overwrite=overwrite)
    return _Job(inputs, outputs, None if json_on_stdout else json_path, json_on_stdout, overwrite)


def _collect(outcomes: Iterable[Outcome], job: _Job, style: _Style) -> tuple[list[tuple[str, Detections]], int]:
    """Write each annotated picture as its result comes; say what failed, and go on."""
    from yoloship.sinks import write_picture

    found: list[tuple[str, Detections]] = []
    failures = 0
    for outcome in outcomes:
        if outcome.error is not None:
            failures += 1
            print_err(f"error: {outcome.error}")
            continue
        detections = outcome.unwrap()
        if job.outputs and outcome.image is not None:
            write_picture(style.drawn(detections, outcome.image), job.outputs[outcome.index], overwrite=job.overwrite)
        found.append((str(outcome.source), detections))
    return found, failures


def _say_incomplete(cut: int, pictures: int, nms: NmsConfig | None) -> None:
    """Once for all pictures: boxes may be missing, and what to do about it."""
    limit = f" than the {nms.candidates}" if nms else ""
    print_err(
        f"boxes may be missing in {cut} of {pictures} pictures: more candidates{limit} that the graph looks at; export "
        "it with a higher --conf, or with another --output than nms"
    )


def _report(found: Sequence[tuple[str, Detections]], job: _Job) -> None:
    """The JSON, and on a stdout that it does not take, the table and where everything is."""
    from yoloship._util.writing import write_bytes
    from yoloship.sinks import detections_table, json_bytes, pictures_table

    if job.json_on_stdout:
        print_bytes(json_bytes(found))
        return
    if not found:  # every picture failed: a file without results would only be in the way of the next run
        return
    if job.json_path is not None:
        write_bytes(job.json_path, json_bytes(found), overwrite=job.overwrite)
    if len(job.inputs) == 1:
        image, detections = found[0]
        print_text(detections_table(detections, image))
    else:
        print_text(pictures_table(found))
    if job.outputs:
        only = len(job.inputs) == 1
        print_out(f"annotated: {job.outputs[0] if only else job.outputs[0].parent}")
    if job.json_path is not None:
        print_out(f"json: {job.json_path}")
