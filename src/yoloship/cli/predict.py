"""``yoloship predict``: run a model on images; print a table, draw its answers, and write them with the sinks.

The command has a name for each task, such as ``yoloship detect``, which refuses models of other tasks.
"""

from __future__ import annotations

from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from yoloship.cli import live as live_options
from yoloship.cli import options
from yoloship.cli.app import COMMANDS
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
    image_size,
    option,
)
from yoloship.cli.options import PRESET_NAMES, class_value, outputs_for
from yoloship.cli.output import Console, print_err
from yoloship.cli.targets import (
    IMAGES,
    claimed,
    opened,
    parameter_of,
    refuse_what_needs_boxes,
    sink_options,
    third_party_options,
)
from yoloship.job.run import Run
from yoloship.sinks import SINKS, AnnotatedImages, DrawStyle, annotated_names
from yoloship.sinks.annotated import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from yoloship.detect.slicing.tiles import Merge
    from yoloship.images import DecodeChoice
    from yoloship.model import HeadChoice
    from yoloship.runtime.session import RuntimePrecision
    from yoloship.sources import LivePolicy

MAX_LINE_PX = 200
"""The limit of `yoloship.results.drawing`, repeated so that the help does not load NumPy."""
NAME = "predict"
_MASKS: Final = frozenset({"--retina-masks", "--mask-rule"})
_BOXES: Final = frozenset(
    {"--conf", "--iou", "--agnostic-nms", "--max-det", "--classes", "--rect", "--head", "--line-width"}
    | {"--coco", "--txt", "--txt-conf", "--crops", "--track", "--zones"}
    | {"--slice", "--slice-overlap", "--slice-merge", "--no-slice-whole"}
)
WITHOUT_EFFECT: Final = MappingProxyType(
    {
        "segment": frozenset({"--transform"}),
        **dict.fromkeys(("detect", "pose", "obb"), frozenset({"--transform", *_MASKS})),
        "classify": _MASKS | _BOXES,
    }
)
"""Name of a task → options that its help leaves out. They are refused with the models of that task."""
_DOES: Final = "Run a model on images."
_NAMES: Final = "The commands detect, segment, pose, obb and classify do the same, but refuse models for other tasks."
_ONE_TASK: Final = "Models for other tasks are refused; 'yoloship predict' runs models for every task."


class PredictCommand(Command):
    """The command, with options for third-party sinks. These are searched for only if needed, because it takes time."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Search for third-party options if the help is asked for or an option is not built in."""
        if "--track" in args:
            from yoloship.cli.tracking import with_preset

            args = with_preset(args)
        ours = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        asks_for_help = not {"-h", "--help"}.isdisjoint(args)
        if asks_for_help or any(word.startswith("--") and word.partition("=")[0] not in ours for word in args):
            extended = copy(self)
            extended.params = [*self.params, *third_party_options(ours)]
            ctx.command = extended  # for this run alone
            return Command.parse_args(extended, ctx, args)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what the name under which the command was called does."""
        shown, name = copy(self), ctx.info_name or NAME
        if name in WITHOUT_EFFECT:
            shown.help = (self.help or "").replace(_DOES, COMMANDS[name]).replace(_NAMES, _ONE_TASK)
        Command.format_help_text(shown, ctx, formatter)

    def sections(self, ctx: click.Context) -> Iterable[tuple[str, Sequence[click.Parameter]]]:
        """The options under headings, without those that have no effect for the task."""
        from yoloship.cli.predict_help import sections

        hidden = WITHOUT_EFFECT.get(ctx.info_name or "", frozenset())
        shown = [one for _, options in super().sections(ctx) for one in options]
        return sections([one for one in shown if hidden.isdisjoint(one.opts)])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples with the name under which the command was called, without those that it refuses."""
        hidden, epilog = WITHOUT_EFFECT.get(ctx.info_name or "", frozenset()), self.epilog
        lines = [line for line in (epilog or "").splitlines() if hidden.isdisjoint(line.split())]
        self.epilog = "\n".join(lines).replace(f" {NAME} ", f" {ctx.info_name} ")
        super().format_epilog(ctx, formatter)
        self.epilog = epilog


@command(
    examples=(
        "yoloship predict best.pt photo.jpg",
        "yoloship predict best.onnx photos/ 'cams/**/*.jpg' -o found --json found.json",
        "yoloship predict best.pt photo.jpg --no-draw --json - | jq '.[0]'",
        "yoloship predict best.pt photos/ --no-draw --csv found.csv",
        "yoloship predict best.pt street.mp4 --track --jsonl found.jsonl",
        "yoloship predict best.pt aerial.tif --slice 640 --hide-labels --line-width 2",
        "yoloship predict best.pt photos/ --runtime openvino --runtime-precision bfloat16",
    ),
    cls=PredictCommand,
)
@argument(
    "model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, an engine, or a release name such as yolov5s."
)
@argument(
    "source",
    metavar="SOURCE...",
    many=True,
    help="Images, folders, patterns, lists, archives, videos, cameras and addresses, or NAME:TEXT to choose the kind.",
)
@option(
    "--conf",
    type=FRACTION,
    metavar="FLOAT",
    help="Keep only objects with a score above this. Default: 0.25, or the value built into a graph with NMS.",
)
@option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose IoU with a better box is above this. Default: 0.45 for YOLOv5 and 0.7 for Ultralytics' "
    "models, as in their own tools, or the value built into a graph with NMS.",
)
@flag("--agnostic-nms", help="Drop overlapping boxes of other classes too.")
@option(
    "--max-det",
    type=COUNT,
    metavar="N",
    help="Keep at most this many boxes per image. Default: 300, or the value built into a graph with NMS.",
)
@options.imgsz
@option(
    "--rect/--square",
    default=False,
    help="Pad images to the next multiple of the stride instead of a square: faster, with slightly different boxes.",
)
@option(
    "--classes",
    type=class_value,
    multiple=True,
    metavar="person,car,2",
    help="Keep only these classes, given by name or id; may be repeated. A name that contains a comma needs its own "
    "--classes.",
)
@flag(
    "--retina-masks",
    help="Compute masks at the resolution of the image instead of the network's input: finer edges, but slower.",
)
@option(
    "--mask-rule",
    metavar="yolov5|ultralytics-8.4.61|...",
    help="Compute masks as this version of the official tools does. Default: the version that wrote the checkpoint.",
)
@option(
    "--slice",
    "slice_hw",
    type=image_size,
    metavar="640|HxW",
    help="Find small objects in large images: run the model on overlapping tiles of this size, in pixels of the "
    "image, and on the whole image. --max-det then applies to each tile.",
)
@option(
    "--slice-overlap",
    type=FRACTION,
    metavar="FLOAT",
    help="Share of a tile that overlaps the next one. Objects up to this size lie completely inside a tile. Default: "
    "0.2.",
)
@option(
    "--slice-merge",
    type=click.Choice(("iou", "ios")),
    help="When boxes from different tiles count as the same object: iou, if their IoU is above 0.5; ios, if they share "
    "more than half of the smaller box. Default: iou.",
)
@flag(
    "--no-slice-whole", help="Run the model only on the tiles. Large objects are then found in parts, which are joined."
)
@options.names
@options.names_from
@options.head
@options.aliases
@options.transform
@options.device
@options.decode
@options.runtime
@options.runtime_precision
@sink_options
@option("--draw/--no-draw", default=True, help="Whether to write annotated images and videos.")
@flag("--hide-labels", help="Draw without labels.")
@flag("--hide-conf", help="Draw labels without scores.")
@option(
    "--line-width",
    type=WholeNumber(1, MAX_LINE_PX),
    metavar="PX",
    help="Line width in pixels. Default: chosen to fit the image.",
)
@options.overwrite
@options.recursive
@option(
    "--track",
    type=click.Choice(PRESET_NAMES),
    metavar="[PRESET]",
    help="Give each object the same id in all frames of its video or camera. PRESET is yoloship (the default), "
    "trackers, paper or ultralytics; anything else after --track is a source.",
)
@option(
    "--zones",
    type=FILE,
    metavar="FILE",
    help="Count objects in the zones and at the lines in this YAML or JSON file. Turns tracking on.",
)
@option(
    "--vid-stride",
    type=COUNT,
    default=1,
    metavar="N",
    help="Take every N-th frame of a video or a camera; 1 takes all.",
)
@flag("--allow-http", help="Also read images over plain http, which anybody on the network path can change.")
@flag("--allow-private", help="Also read images from addresses in private networks and on this machine.")
@live_options.policy
@live_options.timeout
@live_options.retries
@live_options.show
@live_options.show_at
@flag(
    "--resume",
    help="Keep a log beside the outputs, and continue where an earlier run of the same command was stopped or killed.",
)
@option(
    "--workers",
    type=options.worker_count,
    metavar="auto|N",
    help="CPU cores to use; prints how they are used. Default: all that this process may use.",
)
@flag("--json-progress", help="Write the progress to stderr as JSON lines, one per second, for other programs.")
@flag("-q", "--quiet", help="Print only errors, warnings, and what an option writes to stdout.")
def predict(  # noqa: PLR0913, PLR0917 - one parameter an option
    model: str,
    source: tuple[str, ...],
    conf: float | None,
    iou: float | None,
    agnostic_nms: bool,
    max_det: int | None,
    imgsz: tuple[int, int] | None,
    rect: bool,
    classes: tuple[str, ...],
    retina_masks: bool,
    mask_rule: str | None,
    slice_hw: tuple[int, int] | None,
    slice_overlap: float | None,
    slice_merge: Merge | None,
    no_slice_whole: bool,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    head: HeadChoice | None,
    aliases: tuple[tuple[str, str], ...],
    transform: str | None,
    device: str | None,
    decode: DecodeChoice,
    runtime: str | None,
    runtime_precision: RuntimePrecision | None,
    draw: bool,
    hide_labels: bool,
    hide_conf: bool,
    line_width: int | None,
    overwrite: bool,
    recursive: bool,
    track: str | None,
    zones: Path | None,
    vid_stride: int,
    allow_http: bool,
    allow_private: bool,
    live: LivePolicy | None,
    live_timeout: int | None,
    live_retries: int | None,
    show: bool,
    show_at: str | None,
    resume: bool,
    workers: int | None,
    json_progress: bool,
    quiet: bool,
    **sinks: Path | None,
) -> None:
    """Run a model on images. Prints a table, and writes annotated images and the output files that you ask for.

    The commands detect, segment, pose, obb and classify do the same, but refuse models for other tasks.

    An image that cannot be read is reported and does not stop the rest; the exit code is then 1.
    """
    verb = click.get_current_context().info_name
    output_dir = sinks.pop(parameter_of(IMAGES))
    if output_dir is not None and not draw:
        raise click.UsageError("-o is for annotated images, which --no-draw turns off")
    style = DrawStyle(hide_labels, hide_conf, line_width)
    show = show or show_at is not None
    if not (draw or show) and style != DrawStyle():
        raise click.UsageError("--hide-labels, --hide-conf and --line-width do not go with --no-draw")

    if resume and overwrite:
        raise click.UsageError("--resume continues the outputs that --overwrite would replace: use one of them")
    slicing = None
    slices = {
        "--slice": slice_hw,
        "--slice-overlap": slice_overlap,
        "--slice-merge": slice_merge,
        "--no-slice-whole": no_slice_whole or None,
    }
    if any(value is not None for value in slices.values()):
        from yoloship.cli.slicing import slicing_of

        slicing = slicing_of(slice_hw, slice_overlap, slice_merge, whole=not no_slice_whole)
    tracking = None
    if track is not None or zones is not None:
        from yoloship.cli.tracking import Tracking

        if resume:
            raise click.UsageError("--resume skips finished frames, but --track and --zones need all of them")
        tracking = Tracking(track, zones)

    from yoloship.sources import AddressRules, SourceOptions, open_source

    rules = AddressRules(allow_http=allow_http, allow_private=allow_private)
    with ExitStack() as stack:
        given_live = {"--live": live, "--live-timeout": live_timeout, "--live-retries": live_retries}
        asked = SourceOptions(recursive, live or "newest", live_timeout or 20, live_retries, addresses=rules)
        asked = replace(asked, frame_step=vid_stride, on_event=None if quiet else print_err)
        images = open_source(source, asked)
        stack.callback(images.close)
        if vid_stride > 1 and images.files is not None:
            raise click.UsageError("--vid-stride: only videos and cameras have frames to skip")
        if images.is_live or any(value is not None for value in given_live.values()):
            live_options.refuse_without_effect(images, given_live)
            draw = draw and output_dir is not None  # a video without an end, only if it is asked for
        if draw and (images.has_videos or images.is_live):
            from yoloship.sinks.mp4 import load_encoder

            load_encoder()  # if it is missing, say so before the network runs on all frames
        page = stack.enter_context(live_options.opened_page(show_at, style)) if show else None
        for note in images.notes:
            print_err(note)
        resumption = None
        if resume:
            from yoloship.cli.resuming import Resumption

            given = {} if output_dir is None else {IMAGES: output_dir}
            given |= {name: path for name in SINKS.own if (path := sinks.get(parameter_of(name))) is not None}
            resumption = Resumption.of(model, images, given, draws=draw, stack=stack)
            if resumption.ledger.is_finished:
                resumption.say_finished(quiet=quiet)
                return
            overwrite = resumption.ledger.has_begun
        files = images.files if resumption is None else resumption.ledger.inputs
        inputs = files or ()
        annotated, targets = None, []
        file_names = annotated_names(inputs) if draw and files is not None else None
        if draw:
            replaces = overwrite or resume
            annotated = AnnotatedImages(file_names, output_dir, RUNS, style, overwrite=replaces, stem=verb or NAME)
        if output_dir is not None or any(path is not None for path in sinks.values()):  # a new folder replaces nothing
            read = (model,) if zones is None else (model, zones)
            outputs = outputs_for(read, images=images.inputs, overwrite=overwrite)
            if output_dir is not None and annotated is not None:
                annotated.protect(images.inputs)
                stack.callback(annotated.close)
                outputs.claim_inside(output_dir, file_names or ())
            targets = claimed(sinks, outputs, inputs)

        from yoloship.detect.options import class_words
        from yoloship.detect.preprocess import FILE_CHANNELS, no_files
        from yoloship.models.loading import load
        from yoloship.tasks import task_of

        detector = load(
            model,
            task=None if verb == NAME else verb,
            score_threshold=conf,
            iou_threshold=iou,
            max_detections=max_det,
            imgsz=imgsz,
            shape_mode="rect" if rect else "square",
            device=device,
            class_names=names if names_from is None else options.chosen_names(names, names_from),
            head=head,
            aliases=alias_table(aliases) if aliases else None,
            transform=transform,
            tuned_for="latency" if images.count == 1 and slicing is None else "throughput",
            runtime=runtime,
            runtime_precision=runtime_precision,
            workers=workers or None,
            decode=decode,
        )
        stack.callback(detector.close)
        changes: dict[str, Any] = {"class_agnostic": True} if agnostic_nms else {}
        if classes:
            changes["classes"] = class_words(classes, detector.class_names)
        if retina_masks or mask_rule is not None:
            changes |= {"retina_masks": retina_masks, "mask_rule": mask_rule}
        kept = replace(detector.options, **changes) if changes else None
        task = task_of(detector.info, model)
        if not task.has_boxes:
            others = {"--line-width": style.line_width_px, "--track": track, "--zones": zones, **slices}
            refuse_what_needs_boxes(task.title, model, targets, [name for name in others if others[name] is not None])
        if detector.info.channels not in FILE_CHANNELS:
            raise no_files(detector.info.channels, model)
        if detector.session.reason and not quiet:
            print_err(f"runtime: {detector.session.name}: {detector.session.reason}")
        if workers is not None and not quiet:
            print_err(options.shared_cores(detector))
        ledger = None if resumption is None else resumption.begun()
        makers = {
            target.name: partial(opened, target, images, files, ledger, overwrite=overwrite) for target in targets
        }
        run = Run(makers, annotated, ledger=ledger)
        if images.count == 1:
            console, write = Console(images, annotated, targets, quiet=quiet), run.write
            run.is_long = False
        else:
            from yoloship.cli.long_run import LongConsole

            console = LongConsole(images, annotated, targets, quiet=quiet, json_progress=json_progress)
            write = partial(console.watch, run)
        run.takers = [console] if page is None else [console, page]
        if targets or files is None:
            from yoloship.sinks.naming import RunNames

            run.names = RunNames()
        keep = annotated is not None or page is not None or any(target.kind.needs_images for target in targets)
        if tracking is not None:
            kept = tracking.options(detector, kept)
        stream = detector.stream
        if slicing is not None:
            from yoloship.detect.slicing import SlicedDetector

            stream = SlicedDetector(detector, slicing).stream
        elif ledger is not None:  # whose frames are no source, so that the stream does not lend by itself
            detector.lend_decoder(images)
        outcomes = stream(images if ledger is None else ledger.frames(), options=kept, keep_images=keep)
        write(outcomes if tracking is None else tracking.follow(outcomes))
        if images.count != 1 and not quiet and detector.device != "cpu":
            print_err(options.decoders(detector, videos=images.has_videos or images.is_live))
    if tracking is not None and console.prints:
        console.show(tracking.counts())
    console.report(run.tally, detector.info.nms)
    if run.tally.failures or (ledger is not None and ledger.failed):
        raise click.exceptions.Exit(1)
