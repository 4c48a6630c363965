"""``yoloship batch``: a model over millions of images, on this machine or on a Ray cluster, into files of rows."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import click

from yoloship._util.text import counted
from yoloship.cli import options
from yoloship.cli.command import (
    COUNT,
    FRACTION,
    SOURCE,
    Command,
    Number,
    WholeNumber,
    alias_table,
    argument,
    command,
    flag,
    option,
)
from yoloship.cli.options import class_value
from yoloship.cli.output import counted_objects, print_err
from yoloship.cli.resuming import given_options, model_sha256
from yoloship.cli.run_progress import Pace, run_progress
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship.batch.cluster import Actors
    from yoloship.batch.parts import Counts
    from yoloship.batch.running import Batch
    from yoloship.batch.worker import Job

FORMATS: Final = ("parquet", "jsonl")
MAX_PART_IMAGES: Final = 100_000
"""These two are those of `yoloship.batch.parts`, repeated so that the help does not load it."""
RAY: Final = "--ray"
LOCAL: Final = "local"
_ADDRESS: Final = re.compile(r"auto|(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}|ray://\S+")
_FREE: Final = frozenset(
    {"model", "source", "output_dir", "form", "recursive", "resume", "ray", "actors", "cpus", "gpus", "workers"}
    | {"part_images", "max_failed", "json_progress", "quiet"}
)
"""Parameters that may change when a batch goes on: no answer depends on them, or they are checked by themselves."""


class BatchCommand(Command):
    """The command, whose ``--ray`` takes an address only if what follows looks like one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a ``--ray`` without an address the one that stands for this machine."""
        return super().parse_args(ctx, _with_address(args))


def _with_address(args: Sequence[str]) -> list[str]:
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    for place in reversed(range(end)):
        if words[place] == RAY:
            given = [word for word in words[place + 1 : min(place + 2, end)] if _is_address(word)]
            words[place : place + 1 + len(given)] = [f"{RAY}={given[0] if given else LOCAL}"]
    return words


def _is_address(word: str) -> bool:
    return _ADDRESS.fullmatch(word) is not None and not os.path.lexists(word)


def actor_range(text: str) -> tuple[int, int | None]:
    """``4`` → (4, None); ``2-16`` → (2, 16).

    Raises:
        click.BadParameter: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    least, most = (0, None) if match is None else (int(match[1]), int(match[2]) if match[2] else None)
    if least < 1 or (most is not None and most < least):
        raise click.BadParameter(f"{text!r} is not a number of actors: give 4, or a range such as 2-16")
    return least, most


@command(
    examples=(
        "yoloship batch best.pt photos/ -o found",
        "yoloship batch best.pt photos/ --recursive -o found --format jsonl --resume",
        "yoloship batch best.pt s3://cams/2026/11/ -o s3://results/2026-11 --ray auto --resume",
        "yoloship batch best.engine s3://cams/ --recursive -o s3://results/all --ray 10.0.0.5:6379 --gpus 1 --actors 8",
    ),
    cls=BatchCommand,
)
@argument(
    "model", metavar="MODEL", help="A checkpoint (.pt), an ONNX file, an engine, or a release name such as yolov5s."
)
@argument(
    "source",
    metavar="SOURCE...",
    many=True,
    help="Images, folders, patterns and lists (.txt, .csv), on this machine or in an object store (s3://, gs://, "
    "abfs://).",
)
@option(
    "-o",
    "--output-dir",
    type=SOURCE,
    metavar="DIR",
    required=True,
    help="Folder for the results, on this machine or in an object store. With --ray, all nodes must be able to reach "
    "it.",
)
@option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="parquet",
    help="Format of the results: a Parquet table with a row for each object, or JSON Lines with a line for each image.",
)
@option(
    "--part-images",
    type=WholeNumber(1, MAX_PART_IMAGES),
    metavar="N",
    help="Images in each result file; after a stop, unfinished files are written again. Default: 1000, or fewer for "
    "less than 64,000 images.",
)
@flag(
    "--resume", help="Continue the batch in DIR, or start it. Without this option, a DIR that has a batch is refused."
)
@options.recursive
@option("--conf", type=FRACTION, metavar="FLOAT", help="Keep only objects with a score above this. Default: 0.25.")
@option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose IoU with a better box is above this. Default: that of the model's own tool.",
)
@flag("--agnostic-nms", help="Drop overlapping boxes of other classes too.")
@option("--max-det", type=COUNT, metavar="N", help="Keep at most this many boxes per image. Default: 300.")
@option(
    "--classes",
    type=class_value,
    multiple=True,
    metavar="person,car,2",
    help="Keep only these classes, given by name or id; may be repeated.",
)
@options.imgsz
@option("--rect/--square", default=False, help="Pad images to the next multiple of the stride instead of a square.")
@options.names
@options.names_from
@options.head
@options.aliases
@options.transform
@option(
    "--device",
    metavar="cpu|cuda[:N,…|:all]",
    help="Where to run without --ray; cuda:all and cuda:0,cuda:1 share the work between GPUs. Default: cpu.",
)
@options.decode
@options.runtime
@options.runtime_precision
@option(
    "--workers",
    type=options.worker_count,
    metavar="auto|N",
    help="CPU cores to use without --ray. Default: all that this process may use.",
)
@option(
    RAY,
    metavar="[ADDRESS]",
    help="Use the Ray cluster at HOST:PORT, or 'auto' for the one that this machine belongs to. Without ADDRESS, "
    "start one on this machine while the command runs. Needs the extra ray.",
)
@option(
    "--actors",
    type=actor_range,
    metavar="N|MIN-MAX",
    help="Processes in the cluster that load the model. Default: as many as fit.",
)
@option("--cpus", type=WholeNumber(1, 999), metavar="N", help="CPU cores for each actor. Default: 1.")
@option(
    "--gpus",
    type=Number(0.01, 64),
    metavar="N",
    help="GPUs for each actor; with 0.5, two actors share one. Default: none.",
)
@option(
    "--max-failed",
    type=FRACTION,
    metavar="FLOAT",
    default=0.0,
    help="Largest share of failed images for which the exit code is still 0. All others are processed in any case.",
)
@flag("--json-progress", help="Write the progress to stderr as JSON lines, one per second, for other programs.")
@flag("-q", "--quiet", help="Print only errors and warnings.")
def batch(model: str, source: tuple[str, ...], **given: Any) -> None:
    """Run a model on millions of images, and write the results as files that appear when they are complete.

    DIR gets part-00000.parquet and so on, with the rows that 'yoloship predict --parquet' writes, and _yoloship.json,
    which describes the run. The files are the same with and without --ray. An image that cannot be read gets a row with
    its error.

    Ctrl-C or a crash loses only the unfinished parts. Run the same command with --resume to finish them.
    """
    _refuse_contradictions(given)
    from yoloship.batch.folder import LocalFolder, open_folder
    from yoloship.batch.listing import find
    from yoloship.batch.manifest import Manifest
    from yoloship.batch.parts import Parts, usual_size
    from yoloship.batch.running import open_batch, start
    from yoloship.job.log import Facts

    folder = open_folder(given["output_dir"])
    if given["form"] == "parquet":
        from yoloship.batch.buckets import library

        library()
    listing = find(source, recursive=given["recursive"])
    if not given["quiet"]:
        for note in listing.notes:
            print_err(note)
    facts = Facts(model_sha256(model), {**given_options(_FREE), **({"--device": "cuda"} if given["gpus"] else {})}, {})
    parts = Parts(len(listing.names), given["part_images"] or usual_size(len(listing.names)), given["form"])
    wanted = Manifest.of(model, facts, parts, listing.names)
    opened = open_batch(folder, wanted, listing.names, resume=given["resume"], say=print_err)
    if opened.has_ended:
        if not given["quiet"]:
            print_err(f"nothing left to do: {opened.manifest.parts.images} images done before ({folder.subject})")
        _report(opened, opened.counts_before(), given)
        return
    with ExitStack() as stack:
        if isinstance(folder, LocalFolder):
            folder.make()
        stack.enter_context(folder.lock())
        job = _job(model, opened, listing.queries, given)
        before = opened.counts_before()
        if before.images and not given["quiet"]:
            left = len(opened.left())
            print_err(f"{before.images} of {opened.manifest.parts.images} images done before, {left} parts left")
        work = _on_ray(job, opened, given, stack) if given["ray"] else _here(job, opened, given, stack)
        start(opened)
        counts = _watched(work, opened, before, given)
    _report(opened, opened.finish(counts), given)


def _refuse_contradictions(given: dict[str, Any]) -> None:
    if given["ray"] is None:
        for name in ("actors", "cpus", "gpus"):
            if given[name] is not None:
                raise click.UsageError(f"--{name} is for a cluster: give --ray, too")
        return
    for name, instead in (("workers", "--cpus N for each actor"), ("device", "--gpus N for actors on GPUs")):
        if given[name] is not None:
            raise click.UsageError(f"--{name} does not go with --ray: give {instead}")


def _job(model: str, opened: Batch, queries: dict[str, str], given: dict[str, Any]) -> Job:
    from yoloship.batch.worker import Job

    load: dict[str, Any] = {
        "score_threshold": given["conf"],
        "iou_threshold": given["iou"],
        "max_detections": given["max_det"],
        "imgsz": given["imgsz"],
        "shape_mode": "rect" if given["rect"] else "square",
        "device": "cuda" if given["gpus"] else given["device"],
        "class_names": options.chosen_names(given["names"], given["names_from"]),
        "head": given["head"],
        "aliases": alias_table(given["aliases"]) if given["aliases"] else None,
        "transform": given["transform"],
        "runtime": given["runtime"],
        "runtime_precision": given["runtime_precision"],
        "decode": given["decode"],
    }
    changes = {"class_agnostic": True} if given["agnostic_nms"] else {}
    base = os.getcwd()  # noqa: PTH109 - a text
    return Job(opened.folder.location, opened.manifest.parts, model, base, queries, load, changes, given["classes"])


def _here(job: Job, opened: Batch, given: dict[str, Any], stack: ExitStack) -> Iterator[tuple[int, Counts]]:
    from yoloship.batch.running import parts_left
    from yoloship.batch.worker import Worker

    worker = stack.enter_context(Worker(job, job.model, workers=given["workers"] or None))
    return worker.write(parts_left(opened))


def _on_ray(job: Job, opened: Batch, given: dict[str, Any], stack: ExitStack) -> Iterator[tuple[int, Counts]]:
    """Connect first, so that nothing is written if there is no cluster."""
    from yoloship._version import __version__
    from yoloship.batch.buckets import is_address
    from yoloship.batch.cluster import Actors, Proof, connected, write_on_cluster
    from yoloship.batch.running import parts_left

    data = _model_bytes(opened.manifest.model, opened.manifest.facts.model_sha256)
    stack.enter_context(connected(given["ray"], len(data)))
    manifest = opened.manifest.to_json()
    paths = (os.path.join(job.base, name) for name in opened.names if not is_address(name))  # noqa: PTH118 - texts
    image = next((path for path in paths if os.path.exists(path)), "")  # noqa: PTH110 - a text
    proof = Proof(__version__, opened.manifest.facts.model_sha256, hashlib.sha256(manifest).hexdigest(), image)
    least, most = given["actors"] or (None, None)
    actors: Actors = Actors(least, most, given["cpus"] or 1, given["gpus"] or 0)
    return write_on_cluster(job, list(parts_left(opened)), data, proof, actors)


def _model_bytes(model: str, sha256: str) -> bytes:
    """The model's file, which travels to the nodes.

    Raises:
        InputError: it was replaced meanwhile.
    """
    from pathlib import Path

    file = Path(model)
    if not os.path.lexists(model):
        from yoloship.models.releases import resolve

        file = resolve(model)
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError("was changed while it was being read", subject=model, hint="try again")
    return data


def _watched(work: Iterator[tuple[int, Counts]], opened: Batch, before: Counts, given: dict[str, Any]) -> Counts:
    """Do the work, and show how far it is.

    Returns:
        What is in all parts.
    """
    from yoloship.job.run import Tally
    from yoloship.sinks.sink import Entry

    tally, blank = Tally(), Entry("", None)
    pace = Pace(tally, opened.manifest.parts.images - before.images)
    try:
        with ExitStack() as stack:
            shows = given["json_progress"] or not given["quiet"]
            shown = stack.enter_context(run_progress(pace, as_json=given["json_progress"])) if shows else None
            for _, counts in work:
                before.merge(counts)
                tally.seen += counts.images
                tally.failures += counts.failed
                for name, number in counts.objects.items():
                    tally.objects[name] = tally.objects.get(name, 0) + number
                if shown is not None:
                    shown.write(blank)
    except BaseException:
        if before.images:
            print_err(
                f"{opened.folder.subject} holds the finished parts: run the same command with --resume to continue"
            )
        raise
    if not given["quiet"]:
        print_err(
            f"{counted(tally.seen, 'image')} in {pace.elapsed_s:.1f} s, {tally.seen / pace.elapsed_s:.1f} a second"
        )
    return before


def _report(opened: Batch, counts: Counts, given: dict[str, Any]) -> None:
    """Print what is in the parts.

    Raises:
        click.exceptions.Exit: more images failed than `--max-failed` allows.
    """
    if not given["quiet"]:
        images, parts = counted(counts.images, "image"), counted(len(opened.manifest.parts), "part")
        print_err(f"{opened.folder.subject}: {images} in {parts}; {counted_objects(counts.objects)}")
    if counts.failed:
        print_err(f"error: {counts.failed} of {counts.images} images failed")
        if counts.failed > given["max_failed"] * counts.images:
            raise click.exceptions.Exit(1)
