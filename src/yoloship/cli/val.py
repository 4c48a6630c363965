"""``yoloship val``: measure how good models are on a dataset."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yoloship._util.strict_json import json_document
from yoloship.cli import options
from yoloship.cli.command import COUNT, FILE, FRACTION, SOURCE, argument, command, flag, option
from yoloship.cli.options import is_dash, is_stdout, outputs_for
from yoloship.cli.output import MAX_ROWS, columns, facts_table, print_bytes, print_err, print_text
from yoloship.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship._util.outputs import Outputs
    from yoloship.images import DecodeChoice
    from yoloship.model import HeadChoice
    from yoloship.runtime.session import RuntimePrecision
    from yoloship.validate.coco_files import Ids
    from yoloship.validate.record import Rules, Validation
    from yoloship.validate.running import Judged

RULES = ("coco", "yolov5")
IDS = ("coco", "yolov5")
SHOWN_FAULTS = 5


@command(
    examples=(
        "yoloship val best.pt --data data.yaml",
        "yoloship val best.pt --data data.yaml --as yolov5",
        "yoloship val best.pt --data data.yaml --report report.html --json val.json",
        "yoloship val best.pt best.onnx best.engine --data data.yaml --imgsz 640",
        "yoloship val best.pt --data instances_val2017.json --images val2017/ --min-map 0.45",
        "yoloship val resnet50.pth --data imagenet/val --transform torchvision-v1",
    )
)
@argument("models", metavar="MODEL...", many=True, help="Checkpoints, ONNX files, engines, release names.")
@option(
    "--data",
    type=SOURCE,
    metavar="DATA",
    help="The dataset: a data.yaml, a list or folder of images with YOLO labels, a COCO JSON file, a Pascal VOC "
    "folder, or, for classification, a folder with a subfolder of images for each class.",
)
@option("--split", metavar="NAME", default="val", help="Part of the dataset: val, test or train.")
@option(
    "--images",
    type=FILE,
    metavar="DIR",
    help="For a COCO JSON file: the folder of its images. Default: the usual places near the file.",
)
@option(
    "--as",
    "rules",
    type=click.Choice(RULES),
    default="coco",
    help="Rules for the numbers. coco: COCO's evaluator on the results of predict. yolov5: what YOLOv5's val.py "
    "prints, with its own input images, NMS, matching and average precision.",
)
@options.imgsz
@flag(
    "--rect/--square",
    default=None,
    help="Keep the shape of each image, padded to the model's stride, or pad to a square. Default: square; with --as "
    "yolov5, rect for a checkpoint.",
)
@option("--batch", type=COUNT, metavar="N", help="With --as yolov5: how many images share a rectangle. Default: 32.")
@option("--conf", type=FRACTION, metavar="FLOAT", help="Drop detections with a score at or below this. Default: 0.001.")
@option(
    "--iou",
    type=FRACTION,
    metavar="FLOAT",
    help="Drop a box whose IoU with a better box of its class is above this. Default: that of the model's own "
    "validation, 0.6 for YOLOv5 and 0.7 for Ultralytics' models.",
)
@option("--max-det", type=COUNT, metavar="N", help="Keep at most this many detections per image. Default: 300.")
@flag("--single-cls", help="Count all classes as one.")
@option(
    "--at",
    type=FRACTION,
    metavar="FLOAT",
    help="Score threshold for precision, recall, the confusion matrix and the drawn images. Default: the one with "
    "the best mean F1.",
)
@options.device
@options.decode
@option(
    "--runtime",
    "runtimes",
    metavar="NAME,…",
    help="Libraries that run the network: onnxruntime, openvino or tensorrt. Each model runs with each of them. "
    "Default: onnxruntime, or tensorrt for an engine.",
)
@options.runtime_precision
@options.names
@options.names_from
@options.head
@options.transform
@option(
    "--report", type=FILE, metavar="FILE.html", help="Write a report: one HTML file with charts and the worst images."
)
@option("--json", "json_file", type=FILE, metavar="FILE", help="Write all numbers as JSON; - is stdout.")
@option("--save-json", type=FILE, metavar="FILE", help="Write the detections in COCO's results format (JSON).")
@option(
    "--save-truth", type=FILE, metavar="FILE", help="Write the ground truth in COCO's format (JSON), with the same ids."
)
@option(
    "--ids",
    type=click.Choice(IDS),
    default="coco",
    help="Ids in these two files. coco: those of the dataset's COCO file, else images and categories numbered from "
    "1. yolov5: the number or name of the image file, and categories from 0.",
)
@option(
    "--min-map",
    type=FRACTION,
    metavar="FLOAT",
    help="Exit with code 1 if a model's mAP over IoU 0.5 to 0.95 is below this; for classification, its top-1 "
    "accuracy.",
)
@options.overwrite
def val(  # noqa: PLR0913, PLR0917 - one parameter an option
    models: tuple[str, ...],
    data: str | None,
    split: str,
    images: Path | None,
    rules: Rules,
    imgsz: tuple[int, int] | None,
    rect: bool | None,
    batch: int | None,
    conf: float | None,
    iou: float | None,
    max_det: int | None,
    single_cls: bool,
    at: float | None,
    device: str | None,
    decode: DecodeChoice,
    runtimes: str | None,
    runtime_precision: RuntimePrecision | None,
    names: tuple[str, ...] | None,
    names_from: tuple[str, ...] | None,
    head: HeadChoice | None,
    transform: str | None,
    report: Path | None,
    json_file: Path | None,
    save_json: Path | None,
    save_truth: Path | None,
    ids: Ids,
    min_map: float | None,
    overwrite: bool,
) -> None:
    """Measure how good models are on a dataset: mAP, precision, recall and F1 of each class, or accuracy.

    YOLOv5, Ultralytics and COCO compute mAP in different ways. --as chooses the rules, and the output names them.
    docs/val.md explains each number.
    """
    from yoloship._util.writing import write_bytes
    from yoloship.validate.choices import ValOptions
    from yoloship.validate.opened import OpenOptions
    from yoloship.validate.validation import Request, judge_model

    if data is None:
        raise click.UsageError("Missing option '--data'.")
    wanted = [(model, runtime) for model in models for runtime in _runtimes(runtimes)]
    if rules == "yolov5":
        decoder = None if decode == "auto" else decode
        _refuse_with_yolov5(device, head, transform, runtime_precision, names or names_from, at, decoder)
    elif batch is not None:
        raise click.UsageError("--batch is for --as yolov5: COCO's rules do not depend on it")
    if len(wanted) > 1 and (save_json is not None or save_truth is not None):
        raise click.UsageError("--save-json and --save-truth are for one model: leave the others out")
    written = [path for path in (report, json_file, save_json, save_truth) if path is not None and not is_dash(path)]
    _claim(written, outputs_for(models, images=(Path(data),), overwrite=overwrite))
    class_names = options.chosen_names(names, names_from)
    found: list[Validation] = []
    for model, runtime in wanted:
        request = Request(
            data, split, images, rules,
            OpenOptions(imgsz, "square", device, runtime, runtime_precision, transform, head, class_names, decode),
            ValOptions(conf, iou, max_det, single_cls, at), rect, batch,
            ids if save_json is not None or save_truth is not None else None,
        )  # fmt: skip
        with progress(in_pipes=True) as on_progress:
            judged = judge_model(model, request, on_progress)
        found.append(judged.validation)
        if overwrite:  # what the dataset consists of is known now
            _claim(written, outputs_for(models, images=_files_of(judged), overwrite=True))
        _save_coco(judged, save_json, save_truth, ids, overwrite=overwrite)
    if report is not None:
        from yoloship.validate.report.page import report_html

        write_bytes(report, report_html(found), overwrite=overwrite)
    document = json_document([one.to_dict() for one in found] if len(found) > 1 else found[0].to_dict())
    if is_dash(json_file):
        print_bytes(document)
    elif json_file is not None:
        write_bytes(json_file, document, overwrite=overwrite)
    if not any(map(is_stdout, (report, json_file, save_json, save_truth))):
        _print(found)
    _exit_below(found, min_map)


def _claim(paths: Sequence[Path], outputs: Outputs) -> None:
    """Refuse outputs that cannot be written, or would replace something that is read."""
    for path in paths:
        outputs.claim(path)


def _files_of(judged: Judged) -> Iterator[Path]:
    """The images and labels of the dataset, also those that are left out."""
    for sample in judged.samples:
        yield sample.path
        if sample.truth is not None:
            yield Path(sample.truth.source)
    for fault in judged.validation.faults:
        yield fault.path


def _runtimes(text: str | None) -> tuple[str | None, ...]:
    if text is None:
        return (None,)
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts) or len(set(parts)) < len(parts):
        raise click.UsageError(f"--runtime {text}: give comma-separated names, each once")
    return parts


def _refuse_with_yolov5(*values: Any) -> None:
    named = ("--device", "--head", "--transform", "--runtime-precision", "--names or --names-from", "--at", "--decode")
    given = [name for name, value in zip(named, values, strict=True) if value is not None]
    if given:
        raise click.UsageError(f"{', '.join(given)}: not with --as yolov5, which computes as YOLOv5's val.py does")


def _save_coco(judged: Judged, predictions: Path | None, truth: Path | None, ids: Ids, *, overwrite: bool) -> None:
    """Write what was found and what is there, with the same ids."""
    if predictions is None and truth is None:
        return
    from yoloship._util.writing import write_bytes
    from yoloship.validate.coco_files import numbering, predictions_file, truth_file
    from yoloship.validate.objects import ONE_CLASS, truth_of

    found = judged.validation
    numbers = numbering(judged.samples, found.class_names, ids, judged.category_ids)
    made: list[tuple[Path, Any]] = []
    if predictions is not None:
        made.append((predictions, predictions_file(judged.scored, numbers)))
    if truth is not None:
        truths = [truth_of(sample, single_class=found.class_names == ONE_CLASS) for sample in judged.samples]
        made.append((truth, truth_file(judged.samples, truths, found.class_names, numbers)))
    for path, data in made:
        document = json_document(data, indent=None)
        if is_dash(path):
            print_bytes(document)
        else:
            write_bytes(path, document, overwrite=overwrite)


def _print(found: Sequence[Validation]) -> None:
    if len(found) == 1:
        _print_one(found[0])
    else:
        from yoloship.validate.comparison import compared

        table = compared(found)
        print_text(columns([table.headings, *table.rows], right=range(4, len(table.headings))))
        print_text("".join(f"{note}\n" for note in table.notes))
        for one in found:
            for note in one.notes:
                print_err(f"note: {one.model}: {note}")
    _print_faults(found[0])


def _print_one(one: Validation) -> None:
    print_text(_class_table(one))
    print_text(facts_table(_facts(one), shutil.get_terminal_size((100, 24)).columns))
    for note in one.notes:
        print_err(f"note: {note}")


def _class_table(one: Validation) -> str:
    """A row for all classes, and one for each class that has objects."""
    if one.metric == "top1":
        rows = [
            (item.name, str(item.images), *map(_figure, (item.precision, item.recall, item.f1))) for item in one.classes
        ]
        table = [("class", "images", "precision", "recall", "F1"), *rows[: _most_rows()]]
        return columns(table, right=range(1, 5)) + _more(one)
    heading = ("class", "images", "objects", "precision", "recall", "F1", "mAP50", "mAP50-95")
    mean = sum(item.f1 for item in one.classes) / max(len(one.classes), 1)
    figures = (one.precision, one.recall, mean, one.map50, one.map50_95)
    table = [heading, ("all", str(one.images), str(one.labels), *(f"{value:.3f}" for value in figures))]
    if len(one.classes) > 1:
        for item in one.classes[: _most_rows()]:
            values = (item.precision, item.recall, item.f1, item.ap50, item.ap50_95)
            table.append((item.name, str(item.images), str(item.labels), *map(_figure, values)))
    return columns(table, right=range(1, 8)) + _more(one)


def _most_rows() -> int | None:
    """Classes of a table on a terminal; a pipe or a file gets all."""
    return MAX_ROWS if sys.stdout.isatty() else None


def _more(one: Validation) -> str:
    most = _most_rows()
    return f"and {len(one.classes) - most} more classes\n" if most is not None and len(one.classes) > most else ""


def _facts(one: Validation) -> Iterator[tuple[str, str]]:
    from yoloship.validate.calibration import expected_error

    yield "", ""
    if one.metric == "top1":
        yield "top-1 accuracy", f"{one.top1:.4f}"
        yield "top-5 accuracy", f"{one.top5:.4f}"
    else:
        whose = {"coco": "COCO's", "yolov5": "YOLOv5's (not comparable with COCO's)"}[one.rules]
        yield "rules", f"{whose}; {one.settings.get('evaluator', '')}"
        if one.confidence is None:
            yield "precision, recall", "no detection is correct at any confidence"
        else:
            best = " (the best mean F1)" if one.confidence == one.best_confidence else " (--at)"
            yield "precision, recall", f"at a confidence of {one.confidence:.3f} or more{best}"
    if one.coco is not None and one.rules == "coco":
        numbers = one.coco
        yield "mAP75", _figure(numbers.ap75)
        sizes = (("small", numbers.ap_small), ("medium", numbers.ap_medium), ("large", numbers.ap_large))
        yield "mAP by size", ", ".join(f"{name} {_figure(value)}" for name, value in sizes)
    elif one.coco is not None:
        yield "by COCO's rules", f"mAP50-95 {_figure(one.coco.ap)}, mAP50 {_figure(one.coco.ap50)}, of these detections"
    error = expected_error(one.calibration)
    if error is not None:
        yield "calibration error", f"{error:.3f}"
    if one.speed_ms:
        yield "time of an image", ", ".join(f"{stage} {spent:.1f}" for stage, spent in one.speed_ms.items()) + " ms"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _print_faults(one: Validation) -> None:
    """The first faults of the dataset, on stderr."""
    for fault in one.faults[:SHOWN_FAULTS]:
        print_err(f"dataset: {fault}")
    if len(one.faults) > SHOWN_FAULTS:
        print_err(f"dataset: and {len(one.faults) - SHOWN_FAULTS} more faults; --report and --json list them")


def _exit_below(found: Sequence[Validation], least: float | None) -> None:
    if least is None:
        return
    failed = False
    for one in found:
        is_class = one.metric == "top1"
        value = one.top1 if is_class else one.map50_95
        assert value is not None  # each task has its own
        if value < least:
            what = (
                "top-1 accuracy" if is_class else f"mAP50-95 by {'COCO' if one.rules == 'coco' else 'YOLOv5'}'s rules"
            )
            print_err(f"error: {one.model}: {what} is {value:.4f}, below {least:g} (--min-map)")
            failed = True
    if failed:
        raise click.exceptions.Exit(1)
