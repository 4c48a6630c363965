"""``yoloship verify``: check that two files of one model give the same answers."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yoloship._util.strict_json import json_document
from yoloship.cli import options
from yoloship.cli.command import FILE, FRACTION, SOURCE, argument, command, option
from yoloship.cli.options import is_dash, is_stdout, named_images, outputs_for
from yoloship.cli.output import facts_table, print_bytes, print_err, print_text
from yoloship.cli.progress import progress

if TYPE_CHECKING:
    from yoloship.model import HeadChoice
    from yoloship.runtime.session import RuntimePrecision

PLOT_SUFFIXES = (".png", ".jpg")
MAX_MAP_DROP = 0.01
MIN_IOU = 0.97


@command(
    examples=(
        "yoloship verify best.pt best.onnx --images photos/",
        "yoloship verify best.pt best-int8.onnx --images photos/ --min-agreement 0.97 --plot int8.png",
        "yoloship verify best.pt best-fp16.onnx --images photos/ --json report.json",
        "yoloship verify best.pt --images photos/ --runtime openvino --runtime-precision bfloat16",
        "yoloship verify best.pt best.engine --images photos/ --report proof.json",
        "yoloship verify best.pt reference.npz",
    )
)
@argument("a", metavar="A", help="The reference: a checkpoint (.pt), an ONNX file, an engine or a release name.")
@argument(
    "b",
    metavar="[B]",
    required=False,
    help="The model to check, or a reference.npz from the training environment. With --runtime or "
    "--runtime-precision you can leave it out; A is then compared with itself in that runtime.",
)
@option(
    "--images",
    type=SOURCE,
    multiple=True,
    metavar="SOURCE",
    help="Images, folders or patterns; may be repeated. Not for a reference.npz, which contains images.",
)
@option(
    "--labels",
    type=FILE,
    metavar="DIR",
    help="Folder of YOLO label files for the models' task, arranged like the images, to compare mAP too. For "
    "classification: a folder with a subfolder of images for each class, to compare accuracy. Default for "
    "classification: the folders of the images, if they are named after classes.",
)
@option(
    "--conf",
    type=FRACTION,
    metavar="FLOAT",
    help="Compare detections with a score above this. Default: the value built into a graph with NMS, else 0.25.",
)
@options.imgsz
@options.transform
@options.names
@options.names_from
@options.head
@option(
    "--runtime",
    metavar="NAME",
    help="Library that runs B: onnxruntime, openvino, tensorrt or auto. A always uses the default: onnxruntime, which "
    "emulates half precision, or tensorrt for an engine.",
)
@option(
    "--runtime-precision",
    type=click.Choice(options.RUNTIME_PRECISIONS),
    help="Arithmetic that the runtime of B uses for float32 layers. Default: float32.",
)
@option(
    "--min-agreement",
    type=FRACTION,
    metavar="FLOAT",
    default=0.99,
    help="Minimum share of detections that both models must find; for classification, of images with the same most "
    "probable class.",
)
@option(
    "--min-iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Minimum mean overlap of what both find: IoU of boxes or masks, probabilistic IoU of oriented boxes, or OKS "
    f"of keypoints. Default: {MIN_IOU}.",
)
@option(
    "--max-score-difference",
    type=FRACTION,
    metavar="FLOAT",
    default=0.02,
    help="Maximum mean difference between the scores of objects that both find, or of the most probable class.",
)
@option(
    "--max-map-drop",
    type=FRACTION,
    metavar="FLOAT",
    help="With --labels: maximum loss of mAP (boxes, masks, keypoints or oriented boxes over 0.5 to 0.95), or of "
    f"top-1 accuracy. Default: {MAX_MAP_DROP}.",
)
@option("--json", "json_file", type=FILE, metavar="FILE", help="Write the report as JSON; - is stdout.")
@option(
    "--report",
    "report_file",
    type=FILE,
    metavar="FILE.json",
    help="Write a report that you can send to us: versions, GPU and differences, without paths or names of files, "
    "machines or users. See docs/proofs.md.",
)
@option("--plot", type=FILE, metavar="FILE.png", help="Plot the scores and the IoU of both models.")
@options.overwrite
@options.recursive
def verify(  # noqa: PLR0913, PLR0917 - one parameter an option
    a: str,
    b: str | None,
    images: tuple[str, ...],
    labels: Path | None,
    conf: float | None,
    imgsz: tuple[int, int] | None,
    transform: str | None,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    head: HeadChoice | None,
    runtime: str | None,
    runtime_precision: RuntimePrecision | None,
    min_agreement: float,
    min_iou: float | None,
    max_score_difference: float,
    max_map_drop: float | None,
    json_file: Path | None,
    report_file: Path | None,
    plot: Path | None,
    overwrite: bool,
    recursive: bool,
) -> None:
    """Compare two files of one model on images. The exit code is 1 if they differ by more than is allowed.

    Depending on the task, it compares boxes, masks, keypoints, oriented boxes, or the most probable class.

    B can also be a NumPy archive with the arrays images and output from the model's training environment. The graph
    that export writes for A is then compared with these arrays row by row. docs/verify.md shows how to make the
    archive.

    Half precision in an ONNX file is emulated, because ONNX Runtime computes it in float32 on a CPU. The time shown for
    such a file is meaningless.
    """
    from yoloship._util.writing import write_bytes
    from yoloship.evaluate.artefact import open_artefact
    from yoloship.evaluate.measures import measure_of
    from yoloship.evaluate.proof import proof_of, proof_rows
    from yoloship.evaluate.reports import facts
    from yoloship.evaluate.reports import plot as draw
    from yoloship.evaluate.verification import Tolerances
    from yoloship.evaluate.verification import verify as compare
    from yoloship.models.releases import resolve
    from yoloship.sinks import write_image

    class_names = options.chosen_names(names, names_from)
    if b is None:
        if runtime is None and runtime_precision is None:
            raise click.UsageError("Missing argument 'B'. It is optional only with --runtime or --runtime-precision.")
        b = a
    if _is_reference(b):
        if images or labels is not None or plot is not None or report_file is not None:
            raise click.UsageError(
                "--images, --labels, --report and --plot cannot be used with a reference.npz, which contains its images"
            )
        given = {
            "--runtime": runtime, "--runtime-precision": runtime_precision, "--transform": transform,
            "--names or --names-from": class_names,
        }  # fmt: skip
        if any(value is not None for value in given.values()):
            raise click.UsageError(f"{', '.join(given)} cannot be used with a reference.npz")
        _against_reference(a, b, head, json_file, overwrite=overwrite)
        return
    if not images:
        raise click.UsageError("Missing option '--images'.")
    if max_map_drop is not None and labels is None:
        raise click.UsageError("--max-map-drop needs --labels")
    tolerances = Tolerances(
        agreement=min_agreement,
        iou=MIN_IOU if min_iou is None else min_iou,
        score=max_score_difference,
        drop=MAX_MAP_DROP if max_map_drop is None else max_map_drop,
    )
    if report_file is not None and is_dash(report_file):
        raise click.UsageError("--report - : give a file, which you can read before you send it")
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise click.UsageError(f"--plot {plot}: give a name that ends in {' or '.join(PLOT_SUFFIXES)}")
    if labels is not None and not labels.is_dir():
        raise click.UsageError(f"--labels {labels}: there is no such folder")
    if head is not None and not any(map(_is_checkpoint, (a, b))):
        raise click.UsageError("--head is for checkpoints: an ONNX file or an engine has one head already")
    inputs = named_images(images, recursive=recursive)
    outputs = outputs_for((a, b), images=inputs, labels=labels, overwrite=overwrite)
    for path in (json_file, report_file, plot):
        if path is not None and not is_dash(path):
            outputs.claim(path)
    with ExitStack() as stack:
        first = stack.enter_context(
            open_artefact(a, imgsz=imgsz, transform=transform, head=head, class_names=class_names)
        )
        measure = measure_of(first.info, a)
        if min_iou is not None and not measure.overlap_title:
            raise click.UsageError("--min-iou: a classification model finds nothing that could overlap")
        truths = None if labels is None else measure.truths(labels, inputs, first.info)
        second = stack.enter_context(
            open_artefact(
                b,
                imgsz=imgsz,
                runtime=runtime,
                runtime_precision=runtime_precision,
                transform=transform,
                head=head,
                class_names=class_names,
            )
        )
        judged = b if b != a else f"{b} in {second.session.name}"
        if second.session.reason:
            print_err(f"runtime: {second.session.name}: {second.session.reason}")
        with progress(in_pipes=True) as on_progress:
            found = compare(
                (a, first), (judged, second), inputs, truths=truths, score_threshold=conf, tolerances=tolerances,
                on_progress=on_progress,
            )  # fmt: skip
    if plot is not None:
        write_image(draw(found), plot, overwrite=overwrite)
    data = json_document(found.to_dict())
    if is_dash(json_file):
        print_bytes(data)
    elif json_file is not None:
        write_bytes(json_file, data, overwrite=overwrite)
    proof = proof_of(found, (resolve(a), resolve(b)))
    if report_file is not None:
        write_bytes(report_file, json_document(proof), overwrite=overwrite)
    if not is_stdout(json_file) and not is_stdout(plot):
        has_engine = any(side["engine"] is not None for side in proof["sides"])
        more = proof_rows(proof) if has_engine or report_file is not None else ()
        print_text(facts_table((*facts(found), *more), shutil.get_terminal_size((100, 24)).columns))
    if report_file is not None:
        print_err(f"report: {report_file}; docs/proofs.md says how to send it")
    if not found.passed:
        failed = ", ".join(check.name for check in found.checks if not check.passed)
        print_err(
            f"error: {judged} differs from {a} by more than is allowed: {failed}"
            if any(side.detections for side in found.sides)
            else f"error: neither {a} nor {judged} detects anything with a score above {found.score_threshold:g} "
            "(--conf), so nothing was compared"
        )
        raise click.exceptions.Exit(1)


def _is_checkpoint(name: str) -> bool:
    from yoloship.kinds import kind_of
    from yoloship.models.releases import resolve

    return kind_of(resolve(name)) == "checkpoint"


def _is_reference(name: str) -> bool:
    from yoloship.errors import YoloshipError
    from yoloship.kinds import kind_of

    try:
        return kind_of(Path(name)) == "npz"
    except YoloshipError:  # the code that opens it reports why it cannot be read
        return name.endswith(".npz")


def _against_reference(a: str, b: str, head: HeadChoice | None, json_file: Path | None, *, overwrite: bool) -> None:
    from yoloship._util.writing import write_bytes
    from yoloship.evaluate.reference import check_against_reference
    from yoloship.evaluate.reports import reference_facts

    outputs = outputs_for((a, b), images=(), labels=None, overwrite=overwrite)
    if json_file is not None and not is_dash(json_file):
        outputs.claim(json_file)
    found = check_against_reference(a, Path(b), head)
    data = json_document(found.to_dict())
    if is_dash(json_file):
        print_bytes(data)
    elif json_file is not None:
        write_bytes(json_file, data, overwrite=overwrite)
    if not is_stdout(json_file):
        print_text(facts_table(reference_facts(found), shutil.get_terminal_size((100, 24)).columns))
    if not found.passed:
        print_err(
            f"error: {a} does not give the output in {b}: {found.differing} of {found.rows} rows differ, "
            f"row {found.worst.row} of image {found.worst.image} the most"
        )
        raise click.exceptions.Exit(1)
