"""``yoloship detect``: boxes on images, as a table, annotated images, and every file that a sink writes."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from yoloship._util.writing import is_disk_full
from yoloship.cli import options
from yoloship.cli.command import (
    COUNT,
    FILE,
    FRACTION,
    Command,
    WholeNumber,
    alias_table,
    argument,
    command,
    flag,
    option,
)
from yoloship.cli.options import class_value, class_words, is_dash, is_stdout, outputs_for
from yoloship.cli.output import ReaderGone, print_bytes, print_err, print_text, with_progress
from yoloship.errors import DependencyError, OutputError, YoloshipError, visible
from yoloship.sinks import SINKS, AnnotatedImages, DrawStyle, Entry, ImagesTable, annotated_names, detections_table
from yoloship.sinks.annotated import RUNS
from yoloship.sinks.tables import MAX_ROWS, display_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship._util.outputs import Outputs
    from yoloship.detect.stream import Outcome
    from yoloship.model import NmsConfig
    from yoloship.runtime.session import RuntimePrecision
    from yoloship.sinks import Sink
    from yoloship.sources import Source

MAX_LINE_PX = 200
"""As `yoloship.results.drawing` has it, which would load NumPy for the help."""
IMAGES = "images"
"""The sink of annotated images, which is the only one that writes unless it is turned off."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file or a folder that a sink shall write.

    Attributes:
        name: The sink's name in the table.
        kind: Its class.
        path: Where it writes; ``-`` is stdout.
    """

    name: str
    kind: type[Sink]
    path: Path


class DetectRun:
    """The results of one run: written as they come, and counted.

    Args:
        source: Gives the images.
        annotated: Draws and writes them; None if they shall not be drawn.
        targets: What else to write.
        overwrite: Whether files that exist may be replaced.
        quiet: Whether to print errors and warnings only, and no progress.

    Attributes:
        failures: How many images failed.
        needs_images: Whether outcomes must carry their image.
    """

    def __init__(
        self,
        source: Source,
        annotated: AnnotatedImages | None = None,
        targets: Sequence[Target] = (),
        *,
        overwrite: bool,
        quiet: bool = False,
    ) -> None:
        self.failures = 0
        self._source, self._annotated, self._targets = source, annotated, targets
        self._overwrite, self._quiet = overwrite, quiet
        self._prints = not quiet and not any(is_stdout(target.path) for target in targets)
        self._names: dict[int, str] = {}
        self._incomplete = self._read = self._seen = 0
        self._stdout_error: Exception | None = None
        self._last: Path | None = None
        self._is_single = source.count == 1
        self.needs_images = annotated is not None or any(target.kind.needs_images for target in targets)

    def images(self) -> Iterator[Any]:
        """The images for the detector; their names are kept until their results come."""
        for frame in self._source:
            self._names[frame.index] = frame.name
            yield frame.image

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write everything. However it ends, what was written stays, and is whole.

        Raises:
            OutputError: a sink cannot write, or the disk is full. Anything else that fails concerns one image, and is
                only said and counted.
        """
        opened: list[tuple[Target, Sink]] = []
        try:
            with ExitStack() as stack:
                opened += [(target, stack.enter_context(self._open(target))) for target in self._targets]
                table = stack.enter_context(self._table()) if self._prints and not self._is_single else None
                stack.enter_context(closing(outcomes))  # type: ignore[type-var]  # it is a generator
                for outcome in with_progress(outcomes, "detecting", self._source.count, quiet=self._quiet):
                    entry = self._entry(outcome)
                    for _, sink in opened:
                        sink.write(entry)
                    if table is not None:
                        table.write(entry)
                    self._take(entry)
        except BaseException:
            for target, sink in opened:
                if sink.count and sink.is_finished and not is_dash(target.path):
                    total = f" of {self._source.count}" if self._source.count is not None else ""
                    print_err(f"{target.path} holds the results of {sink.count}{total} images")
            raise

    def report(self, nms: NmsConfig | None) -> None:
        """Say where everything is, and what is missing.

        Args:
            nms: What a graph that suppresses has inside; it says how many candidates the graph looks at.

        Raises:
            ReaderGone: nobody reads stdout any longer.
            OutputError: stdout cannot be written.
        """
        if self._prints:
            if self._last is not None:
                self._show(visible(f"annotated: {self._last if self._is_single else self._last.parent}") + "\n")
            for target in self._targets:
                self._show(visible(f"{target.name}: {target.path}") + "\n")
        if self._incomplete:
            limit = f" than the {nms.candidates}" if nms else ""
            print_err(
                f"boxes may be missing in {self._incomplete} of {self._read} images: more candidates{limit} that the "
                "graph looks at; export it with a higher --conf, or with another --output than nms"
            )
        if self.failures and not self._is_single:
            print_err(f"error: {self.failures} of {self._seen} images failed")
        if self._stdout_error is not None:
            raise self._stdout_error

    def _show(self, text: str) -> None:
        """Write on stdout. If that takes nothing, the run goes on as long as it writes something else."""
        if self._stdout_error is not None:
            return
        try:
            print_text(text)
        except (ReaderGone, OutputError) as error:
            if not self._targets and self._annotated is None:
                raise
            self._stdout_error = error

    def _open(self, target: Target) -> Sink:
        if is_dash(target.path):
            sink = target.kind.to_stream(print_bytes)
            assert sink is not None
            return sink
        return target.kind.open(target.path, overwrite=self._overwrite, inputs=self._source.files)

    def _table(self) -> ImagesTable:
        files = self._source.files
        if files is None:
            return ImagesTable(self._show, limit=None)
        if sys.stdout.isatty() or len(files) <= MAX_ROWS:
            return ImagesTable(self._show, limit=MAX_ROWS)
        width = max(display_width(visible(str(path))) for path in files)
        return ImagesTable(self._show, limit=None, names_width=width)

    def _entry(self, outcome: Outcome) -> Entry:
        """What became of an image, which is drawn and written on the way."""
        name = self._names.pop(outcome.index)
        if outcome.error is not None and not isinstance(outcome.source, os.PathLike):
            outcome.error.subject = name  # who decoded bytes or took an array did not know its name
        entry = Entry.of(outcome, name)
        if self._annotated is None or entry.detections is None or entry.image is None:
            return entry
        try:
            return replace(entry, annotated=self._annotated.draw(entry.index, entry.detections, entry.image))
        except YoloshipError as error:
            return replace(entry, error=error)

    def _take(self, entry: Entry) -> None:
        self._seen += 1
        if entry.detections is not None:
            self._read += 1
            self._incomplete += not entry.detections.complete
            if self._is_single and self._prints:
                limit = MAX_ROWS if sys.stdout.isatty() else None
                self._show(detections_table(entry.detections, entry.name, limit))
        self._last = entry.annotated or self._last
        if entry.error is None:
            return
        if isinstance(entry.error, OutputError) and is_disk_full(entry.error):
            raise entry.error
        self.failures += 1
        print_err(f"error: {entry.error}")


def sink_options(function: Any) -> Any:
    """Add an option for each sink of ours; its value comes as the parameter ``sink_NAME``."""
    for name in reversed(list(SINKS.own)):
        kind = SINKS.load(name)
        add = option(*kind.option, _parameter(name), type=FILE, metavar=kind.metavar, help=kind.help)
        function = add(function)
    return function


class DetectCommand(Command):
    """Has the options of third parties' sinks too, which are looked for only if one may be meant: that takes time."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for more options if the help is wanted or an option is not one of ours."""
        ours = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        asks_for_help = not {"-h", "--help"}.isdisjoint(args)
        if asks_for_help or any(word.startswith("--") and word.partition("=")[0] not in ours for word in args):
            ctx.meta[_MORE] = _third_party_options(ours)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All options, those of third parties last."""
        more: list[click.Parameter] = ctx.meta.get(_MORE, [])
        return [*super().get_params(ctx), *more]


_MORE = "yoloship.third_party_sinks"


def _third_party_options(taken: set[str]) -> list[click.Parameter]:
    found: list[click.Parameter] = []
    for name in SINKS.others():
        try:
            kind = SINKS.load(name)
        except DependencyError as error:
            print_err(f"warning: {error}")
            continue
        if not taken.isdisjoint(kind.option):
            print_err(f"warning: the sink {name!r} is left out: its option {'/'.join(kind.option)} is taken")
            continue
        taken |= set(kind.option)
        found.append(click.Option([*kind.option, _parameter(name)], type=FILE, metavar=kind.metavar, help=kind.help))
    return found


def _parameter(name: str) -> str:
    return f"sink_{name}".replace("-", "_").lower()


def _claimed(values: Mapping[str, Path | None], outputs: Outputs, inputs: Sequence[Path]) -> list[Target]:
    """What the sinks shall write, settled before any work."""
    given = {parameter: path for parameter, path in values.items() if path is not None}
    names = {_parameter(name): name for name in SINKS.own}
    if not given.keys() <= names.keys():
        names |= {_parameter(name): name for name in SINKS.others()}
    targets = [Target(names[parameter], SINKS.load(names[parameter]), path) for parameter, path in given.items()]
    for target in targets:
        name = target.kind.option[-1]
        if is_dash(target.path):
            if target.kind.to_stream(print_bytes) is None:
                raise click.UsageError(f"{name} cannot be written to stdout")
        elif target.kind.target == "folder":
            outputs.claim_inside(target.path, target.kind.file_names(inputs))
        else:
            outputs.claim(target.path)
    to_stdout = [target.kind.option[-1] for target in targets if is_stdout(target.path)]
    if len(to_stdout) > 1:
        raise click.UsageError(f"{' and '.join(to_stdout)} cannot both be written to stdout")
    return targets


@command(
    "yoloship detect best.pt photo.jpg",
    "yoloship detect best.onnx photos/ 'cams/**/*.jpg' -o found --json found.json",
    "yoloship detect best.pt photo.jpg --no-draw --json - | jq '.[0].detections'",
    "yoloship detect best.pt photos/ --no-draw --csv found.csv",
    "yoloship detect best.pt photos/ --runtime openvino --runtime-precision bfloat16",
    kind=DetectCommand,
)
@argument(
    "model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, an engine, or a release name such as yolov5s."
)
@argument(
    "source",
    metavar="SOURCE...",
    many=True,
    help="Images, folders and patterns, or NAME:TEXT for a source that another package adds.",
)
@option(
    "--conf",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop boxes whose score is not above this. Default: 0.25, or what a graph with suppression has inside.",
)
@option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose IoU with a better box is above this. Default: 0.45, or what a graph with suppression has "
    "inside.",
)
@flag("--agnostic-nms", help="Let boxes of different classes drop each other too.")
@option(
    "--max-det",
    type=COUNT,
    metavar="N",
    help="Keep at most this many boxes per image. Default: 300, or what a graph with suppression has inside.",
)
@options.imgsz
@option(
    "--rect/--square",
    default=False,
    help="Pad only to the next multiple of the stride: faster, with slightly different boxes.",
)
@option(
    "--classes",
    type=class_value,
    multiple=True,
    metavar="person,car,2",
    help="Keep only these classes, by name or id. May be repeated, also for names that contain a comma.",
)
@options.names
@options.aliases
@option("--device", metavar="cpu|cuda[:N]", help="Default: the CPU; for an engine the first GPU.")
@options.runtime
@options.runtime_precision
@sink_options
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
@flag("-q", "--quiet", help="Print errors and warnings only, and what an option writes to stdout.")
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
    runtime: str | None,
    runtime_precision: RuntimePrecision | None,
    draw: bool,
    hide_labels: bool,
    hide_conf: bool,
    line_width: int | None,
    overwrite: bool,
    recursive: bool,
    quiet: bool,
    **sinks: Path | None,
) -> None:
    """Find objects in images: prints a table, and writes annotated images, and other files if you ask for them.

    An image that cannot be read is reported and does not stop the rest; the exit code is then 1.
    """
    output_dir = sinks.pop(_parameter(IMAGES))
    if output_dir is not None and not draw:
        raise click.UsageError("-o is for annotated images, which --no-draw turns off")
    style = DrawStyle(hide_labels, hide_conf, line_width)
    if not draw and style != DrawStyle():
        raise click.UsageError("--hide-labels, --hide-conf and --line-width do not go with --no-draw")

    from yoloship.sources import open_source

    images = open_source(source, recursive=recursive)
    for note in images.notes:
        print_err(note)
    inputs = images.files or ()
    outputs = outputs_for((model,), images=inputs, overwrite=overwrite)
    annotated = None
    if draw:
        file_names = None if images.files is None else annotated_names(inputs)
        if output_dir is not None:
            outputs.claim_inside(output_dir, file_names or ())
        annotated = AnnotatedImages(file_names, output_dir, RUNS, style, overwrite=overwrite)
    targets = _claimed(sinks, outputs, inputs)

    from yoloship.detect.preprocess import refuse_files
    from yoloship.models.loading import load
    from yoloship.tasks import refuse_other_results

    detector = load(
        model,
        score_threshold=conf,
        iou_threshold=iou,
        max_detections=max_det,
        imgsz=imgsz,
        shape_mode="rect" if rect else "square",
        device=device,
        class_names=names,
        aliases=alias_table(aliases),
        tuned_for="latency" if images.count == 1 else "throughput",
        runtime=runtime,
        runtime_precision=runtime_precision,
    )
    with images, detector:
        changes: dict[str, Any] = {"class_agnostic": True} if agnostic_nms else {}
        if classes:
            changes["classes"] = class_words(classes, detector.class_names)
        kept = replace(detector.options, **changes) if changes else None
        refuse_other_results(detector.info, model, "written by this command")
        refuse_files(detector.info.channels, model)
        if detector.session.reason and not quiet:
            print_err(f"runtime: {detector.session.name}: {detector.session.reason}")
        run = DetectRun(images, annotated, targets, overwrite=overwrite, quiet=quiet)
        run.write(detector.stream(run.images(), options=kept, keep_images=run.needs_images))
    run.report(detector.info.nms)
    if run.failures:
        raise click.exceptions.Exit(1)
