"""``yoloship detect``: boxes on images, as a table, annotated images and JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from yoloship.cli import options
from yoloship.cli.command import COUNT, FRACTION, WholeNumber, argument, command, flag, option
from yoloship.cli.detect_run import DetectRun
from yoloship.cli.inputs import named_images
from yoloship.cli.names import class_value, class_words
from yoloship.cli.protect import is_dash, outputs_for
from yoloship.cli.values import FILE, alias_table
from yoloship.sinks import AnnotatedImages, DrawStyle, annotated_names

MAX_LINE_PX = 200
"""As `yoloship.drawing` has it, which would load NumPy for the help."""
RUNS = Path("runs")
"""Where annotated images go unless -o says otherwise, each run in a folder of its own."""


@command(
    "yoloship detect best.pt photo.jpg",
    "yoloship detect best.onnx photos/ 'cams/**/*.jpg' -o found --json found.json",
    "yoloship detect best.pt photo.jpg --no-draw --json - | jq '.[0].detections'",
)
@argument(
    "model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, an engine, or a release name such as yolov5s."
)
@argument("source", metavar="SOURCE...", many=True, help="Images, folders and patterns.")
@option(
    "--conf",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop boxes whose score is not above this. Default: 0.25; if the graph suppresses, its own.",
)
@option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose overlap with a better one is above this. Default: 0.45; if the graph suppresses, its own.",
)
@flag("--agnostic-nms", help="Let boxes of different classes drop each other too.")
@option(
    "--max-det",
    type=COUNT,
    metavar="N",
    help="Keep at most this many boxes per image. Default: 300; if the graph suppresses, its own.",
)
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
@options.aliases
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
@option(
    "--line-width",
    type=WholeNumber(1, MAX_LINE_PX),
    metavar="PX",
    help="Width of the boxes' lines. Default: one that fits the image.",
)
@options.overwrite
@options.recursive
@flag("-q", "--quiet", help="Print errors and warnings only, and JSON if it goes to stdout.")
def detect(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    source: tuple[str, ...],
    conf: float | None,
    iou: float | None,
    agnostic_nms: bool,
    max_det: int | None,
    imgsz: tuple[int, int] | None,
    rect: bool,
    classes: tuple[str, ...],
    names: tuple[str, ...] | None,
    aliases: tuple[tuple[str, str], ...],
    device: str | None,
    output_dir: Path | None,
    json_path: Path | None,
    draw: bool,
    hide_labels: bool,
    hide_conf: bool,
    line_width: int | None,
    overwrite: bool,
    recursive: bool,
    quiet: bool,
) -> None:
    """Find objects in images: prints a table, and writes annotated images, and JSON if you ask for it.

    An image that cannot be read is reported and does not stop the rest; the exit code is then 1.
    """
    if output_dir is not None and not draw:
        raise click.UsageError("-o is for annotated images, which --no-draw turns off")
    style = DrawStyle(hide_labels, hide_conf, line_width)
    if not draw and style != DrawStyle():
        raise click.UsageError("--hide-labels, --hide-conf and --line-width do not go with --no-draw")
    inputs = named_images(source, recursive=recursive)
    outputs = outputs_for((model,), images=inputs, overwrite=overwrite)
    annotated = None
    if draw:
        file_names = annotated_names(inputs)
        if output_dir is not None:
            outputs.claim_inside(output_dir, file_names)
        annotated = AnnotatedImages(file_names, output_dir, RUNS, style, overwrite=overwrite)
    if json_path is not None and not is_dash(json_path):
        outputs.claim(json_path)

    from yoloship.pipeline import load
    from yoloship.pipeline.intake import refuse_files
    from yoloship.pipeline.releases import resolve

    asked: dict[str, Any] = {"score_threshold": conf, "iou_threshold": iou, "max_detections": max_det}
    asked = {name: value for name, value in asked.items() if value is not None}
    detector = load(
        resolve(model),
        imgsz=imgsz,
        shape_mode="rect" if rect else "square",
        device=device,
        class_names=names,
        aliases=alias_table(aliases),
        tuned_for="throughput" if len(inputs) > 1 else "latency",
    )
    with detector:
        kept = replace(detector.options, **asked)
        if agnostic_nms:
            kept = replace(kept, class_agnostic=True)
        if classes:
            kept = replace(kept, classes=class_words(classes, detector.names))
        refuse_files(detector.info.channels, model)
        run = DetectRun(inputs, annotated, json_path, overwrite=overwrite, quiet=quiet)
        run.write(detector.stream(inputs, options=kept, keep_images=draw))
    run.report(detector.info.nms)
    if run.failures:
        raise click.exceptions.Exit(1)
