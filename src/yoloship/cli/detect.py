"""``yoloship detect``: boxes on images, as a table, annotated images and files."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yoloship._util.writing import is_disk_full
from yoloship.cli import options
from yoloship.cli.command import COUNT, FRACTION, WholeNumber, argument, command, flag, option
from yoloship.cli.options import class_value, class_words, is_dash, is_stdout, named_images, outputs_for
from yoloship.cli.output import ReaderGone, print_bytes, print_err, print_text, with_progress
from yoloship.cli.values import FILE, alias_table
from yoloship.errors import OutputError, YoloshipError, visible
from yoloship.sinks import (
    AnnotatedImages,
    DrawStyle,
    Entry,
    ImagesTable,
    JsonStream,
    annotated_names,
    detections_table,
    open_json,
)
from yoloship.sinks.tables import MAX_ROWS, display_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship.detect.stream import Outcome
    from yoloship.model import NmsConfig
    from yoloship.sinks import JsonFile, Sink


class DetectRun:
    """The results of one run: written as they come, and counted.

    Args:
        inputs: The images, in order.
        annotated: Draws and writes them; None if they shall not be drawn.
        json_path: None for no JSON; ``-`` is stdout.
        overwrite: Whether files that exist may be replaced.
        quiet: Whether to print errors and warnings only, and no progress.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        annotated: AnnotatedImages | None,
        json_path: Path | None,
        *,
        overwrite: bool,
        quiet: bool = False,
    ) -> None:
        self.failures = 0
        self._inputs, self._annotated, self._overwrite = inputs, annotated, overwrite
        self._json_path = json_path
        self._quiet = quiet
        self._prints = not quiet and not is_stdout(json_path)
        self._incomplete = self._read = 0
        self._stdout_error: Exception | None = None
        self._last: Path | None = None

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write everything. However it ends, what was written stays, and is whole.

        Raises:
            OutputError: the JSON cannot be written, or the disk is full. Anything else that fails concerns one image,
                and is only said and counted.
        """
        json = self._json()
        try:
            with ExitStack() as stack:
                sinks = [stack.enter_context(sink) for sink in (json, self._table()) if sink is not None]
                stack.enter_context(closing(outcomes))  # type: ignore[type-var]  # it is a generator
                for outcome in with_progress(outcomes, "detecting", len(self._inputs), quiet=self._quiet):
                    self._take(self._entry(outcome), sinks)
        except BaseException:
            if json is not None and json.count and json.is_finished and not is_dash(self._json_path):
                print_err(f"{self._json_path} holds the results of {json.count} of {len(self._inputs)} images")
            raise

    def report(self, nms: NmsConfig | None) -> None:
        """Say where everything is, and what is missing.

        Args:
            nms: Of a graph that suppresses; it says how many candidates that looks at.

        Raises:
            ReaderGone: nobody reads stdout any longer.
            OutputError: stdout cannot be written.
        """
        if self._prints:
            if self._last is not None:
                self._show(visible(f"annotated: {self._last if len(self._inputs) == 1 else self._last.parent}") + "\n")
            if self._json_path is not None:
                self._show(visible(f"json: {self._json_path}") + "\n")
        if self._incomplete:
            limit = f" than the {nms.candidates}" if nms else ""
            print_err(
                f"boxes may be missing in {self._incomplete} of {self._read} images: more candidates{limit} that the "
                "graph looks at; export it with a higher --conf, or with another --output than nms"
            )
        if self.failures and len(self._inputs) > 1:
            print_err(f"error: {self.failures} of {len(self._inputs)} images failed")
        if self._stdout_error is not None:
            raise self._stdout_error

    def _show(self, text: str) -> None:
        """Write on stdout. If that takes nothing, the run goes on as long as it writes something else."""
        if self._stdout_error is not None:
            return
        try:
            print_text(text)
        except (ReaderGone, OutputError) as error:
            if self._json_path is None and self._annotated is None:
                raise
            self._stdout_error = error

    def _json(self) -> JsonFile | JsonStream | None:
        if self._json_path is None:
            return None
        if is_dash(self._json_path):
            return JsonStream(print_bytes)
        return open_json(self._json_path, overwrite=self._overwrite)

    def _table(self) -> ImagesTable | None:
        if len(self._inputs) == 1 or not self._prints:
            return None
        if sys.stdout.isatty() or len(self._inputs) <= MAX_ROWS:
            return ImagesTable(self._show, limit=MAX_ROWS)
        width = max(display_width(visible(str(path))) for path in self._inputs)
        return ImagesTable(self._show, limit=None, names_width=width)

    def _entry(self, outcome: Outcome) -> Entry:
        image = str(self._inputs[outcome.index])
        if outcome.error is not None:
            return Entry(image, None, outcome.error)
        found = outcome.unwrap()
        if self._annotated is None or outcome.image is None:
            return Entry(image, found)
        try:
            return Entry(image, found, annotated=self._annotated.write(outcome.index, found, outcome.image))
        except YoloshipError as error:
            return Entry(image, found, error)

    def _take(self, entry: Entry, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            sink.write(entry)
        if entry.found is not None:
            self._read += 1
            self._incomplete += not entry.found.complete
            if len(self._inputs) == 1 and self._prints:
                limit = MAX_ROWS if sys.stdout.isatty() else None
                self._show(detections_table(entry.found, entry.image, limit))
        self._last = entry.annotated or self._last
        if entry.error is None:
            return
        if isinstance(entry.error, OutputError) and is_disk_full(entry.error):
            raise entry.error
        self.failures += 1
        print_err(f"error: {entry.error}")


MAX_LINE_PX = 200
"""As `yoloship.results.drawing` has it, which would load NumPy for the help."""
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

    from yoloship.detect.preprocess import refuse_files
    from yoloship.models.loading import load
    from yoloship.models.releases import resolve

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
