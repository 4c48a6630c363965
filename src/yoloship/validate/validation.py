"""Validate a model on a dataset, by either rules: `val` for Python, and `judge_model` for the command line as well."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship.detect.detector import Detector
from yoloship.errors import InputError
from yoloship.evaluate.coco import Scored
from yoloship.evaluate.evaluator import require_evaluator
from yoloship.evaluate.reports import conditions
from yoloship.results.detections import Detections
from yoloship.validate.choices import ValOptions
from yoloship.validate.coco_files import numbering
from yoloship.validate.objects import OVERLAPS, judge_objects
from yoloship.validate.opened import OpenOptions, open_model, sha256_of
from yoloship.validate.running import Judged, validate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Dataset
    from yoloship.detect.pipeline import ShapeMode
    from yoloship.model import ModelInfo
    from yoloship.validate.coco_files import Ids
    from yoloship.validate.record import Rules, Validation
    from yoloship.validate.yolov5 import Yolov5Options


@dataclass(frozen=True, slots=True)
class Request:
    """What to validate a model on, and how.

    Attributes:
        data: The dataset, as `yoloship.datasets.opening.open_dataset` takes it.
        split: Which part of it.
        images: The folder of the images of a COCO file; None looks where they usually are.
        rules: By which rules.
        opening: How the model is opened.
        keeping: What to keep of its answers, and where figures are read.
        rectangles: Whether images keep their shape, padded to multiples of the stride. None takes what the rules have:
            squares for COCO's; for YOLOv5's rectangles if the model is a checkpoint, and squares if it is not.
        batch: Under YOLOv5's rules, how many images share a rectangle; None takes 32.
        ids: How images and categories are counted in COCO's files; None if none will be written.
    """

    data: str | Path
    split: str = "val"
    images: Path | None = None
    rules: Rules = "coco"
    opening: OpenOptions = field(default_factory=OpenOptions)
    keeping: ValOptions = field(default_factory=ValOptions)
    rectangles: bool | None = None
    batch: int | None = None
    ids: Ids | None = None


def val(  # noqa: PLR0913 - all but the model and the data have defaults
    model: str | Path | Detector[Any],
    data: str | Path,
    *,
    split: str = "val",
    rules: Rules = "coco",
    images: str | Path | None = None,
    imgsz: int | tuple[int, int] | None = None,
    rectangles: bool | None = None,
    batch: int | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    single_class: bool = False,
    confidence: float | None = None,
    device: str | None = None,
    runtime: str | None = None,
    class_names: Sequence[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Validation:
    """Measure how good a model is on a dataset.

    Args:
        model: A checkpoint, an ONNX file, an engine, the name of a release, or a detector, which stays open.
        data: A ``data.yaml``, a list or a folder of images with YOLO labels, a COCO JSON file, a folder in Pascal VOC
            format, or, for classification, a folder with a subfolder for each class.
        split: Which part of the dataset: ``val``, ``test`` or ``train``.
        rules: ``coco``: what COCO's evaluator computes for the results of `predict`. ``yolov5``: what YOLOv5's own
            validation prints.
        images: The folder of the images of a COCO file; None looks where they usually are.
        imgsz: Canvas side, or (height, width), in model pixels; None takes the model's own.
        rectangles: Whether images keep their shape, padded to multiples of the stride. None follows the rules: squares,
            except for a checkpoint under YOLOv5's rules.
        batch: Under YOLOv5's rules, how many images share a rectangle; None takes 32.
        score_threshold: Detections at or below it are dropped, in [0, 1]; None takes 0.001.
        iou_threshold: A box is dropped if its IoU with a better box of its class is above it, in [0, 1]; None takes
            the default of the model's own validation.
        max_detections: Keep at most this many per image; None takes 300.
        single_class: Whether all classes count as one.
        confidence: The score threshold for precision, recall and the confusion matrix; None takes the one with the best
            mean F1.
        device: ``cpu``, ``cuda``, ``cuda:N``, or several GPUs: ``cuda:0,cuda:1``, ``cuda:all``; None takes the CPU, and
            for an engine the first GPU.
        runtime: The library that runs the network; None takes the default.
        class_names: One name for each class, to use instead of those in the model's file.
        on_progress: Called with the name of the current step, how much of it is done, and how much there is.

    Returns:
        The figures: `to_dict()` gives plain data, and `save_report(path)` writes an HTML report.

    Raises:
        InputError: an argument is outside its range, or the dataset or the model does not fit.
        DependencyError: the evaluator is not installed.
        YoloshipError: the model cannot be opened, or fails.
    """
    _check_types(model, data, rules, class_names)
    size = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    names = None if class_names is None else tuple(class_names)
    request = Request(
        data,
        split,
        None if images is None else Path(images),
        rules,
        OpenOptions(size, "square", device, runtime, class_names=names),
        ValOptions(score_threshold, iou_threshold, max_detections, single_class, confidence),
        rectangles,
        batch,
    )
    return judge_model(model, request, on_progress).validation


def _check_types(model: object, data: object, rules: object, class_names: object) -> None:
    """Refuse what would be taken for something else: other rules for YOLOv5's, a text for a list of its letters."""
    for subject, given, is_right, expected in (
        ("model", model, isinstance(model, str | PathLike | Detector), "a name or a Detector"),
        ("data", data, isinstance(data, str | PathLike), "the name of a file or a folder"),
        ("rules", rules, rules in {"coco", "yolov5"}, "coco or yolov5"),
        ("class_names", class_names, not isinstance(class_names, str | bytes), "a sequence of names"),
    ):
        if not is_right:
            raise InputError("wrong value", subject=subject, expected=expected, got=repr(given)[:60])


def judge_model(model: str | Path | Detector[Any], request: Request, on_progress: OnProgress | None = None) -> Judged:
    """Open a model, read the dataset for it, and judge what it finds.

    Args:
        model: A checkpoint, an ONNX file, an engine, the name of a release, or a detector, which stays open.
        request: On what, and how.
        on_progress: Called with what is being done.

    Raises:
        YoloshipError: as `val` says.
    """
    _refuse_without_effect(request, is_open=isinstance(model, Detector))
    judge = _by_coco if request.rules == "coco" else _by_yolov5
    judged = judge(model, request, on_progress)
    if judged.validation.model_sha256 or isinstance(model, Detector):
        return judged
    return replace(judged, validation=replace(judged.validation, model_sha256=sha256_of(model)))


def _refuse_without_effect(request: Request, *, is_open: bool) -> None:
    """Refuse what is asked for and would change nothing.

    Args:
        request: What is asked for.
        is_open: Whether the model is a detector.
    """
    opening, keeping = request.opening, request.keeping
    given = {
        name: getattr(opening, name)
        for name in ("imgsz", "device", "runtime", "runtime_precision", "transform", "head", "class_names")
    } | {"rectangles": request.rectangles}
    if is_open:
        _refuse(given, "a detector, which is open already")
    if request.rules == "coco":
        _refuse({"batch": request.batch}, "COCO's rules")
    else:
        fixed = {name: given[name] for name in ("device", "runtime_precision", "transform", "head", "class_names")}
        _refuse({**fixed, "confidence": keeping.confidence}, "YOLOv5's rules")


def _refuse(given: Mapping[str, Any], what: str) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InputError(f"has no effect with {what}", subject=", ".join(names), hint="leave it out")


def _by_coco(model: str | Path | Detector[Any], request: Request, on_progress: OnProgress | None) -> Judged:
    with ExitStack() as stack:
        if isinstance(model, Detector):
            detector = model
        else:
            shape: ShapeMode = "rect" if request.rectangles else "square"
            detector = stack.enter_context(open_model(model, replace(request.opening, shape_mode=shape)))
        dataset = _dataset(request, detector.info, on_progress)
        return validate(detector, dataset, request.keeping, on_progress)


def _by_yolov5(model: str | Path | Detector[Any], request: Request, on_progress: OnProgress | None) -> Judged:
    """YOLOv5's own figures, and beside them COCO's of the same detections, with what only we compute."""
    from yoloship.validate.yolov5 import open_network, run_opened

    require_evaluator()
    options = _yolov5_options(request)
    with open_network(model, options.runtime) as network:
        dataset = _dataset(request, network.info, on_progress)
        theirs, found = run_opened(network, dataset, options, on_progress)
    samples = tuple(one.sample for one in found)
    scored = tuple(Scored.of(one.result, "boxes") for one in found if isinstance(one.result, Detections))
    ours = judge_objects(samples, scored, dataset, replace(request.keeping, confidence=theirs.best_confidence))
    validation = replace(
        theirs,
        model=Path(theirs.model).name,
        class_names=ours.class_names,
        sizes=ours.sizes,
        calibration=ours.calibration,
        coco=ours.coco,
        confidence=theirs.best_confidence,
        worst=ours.worst,
        speed_ms=MappingProxyType({stage: spent for stage, spent in theirs.speed_ms.items() if stage != "total"}),
        settings=MappingProxyType({**theirs.settings, **ours.settings}),
        notes=(*theirs.notes, *dataset.notes),
        versions=MappingProxyType(conditions()),
    )
    return Judged(validation, samples, scored, None if request.keeping.single_class else dataset.category_ids)


def _yolov5_options(request: Request) -> Yolov5Options:
    from yoloship.validate.yolov5 import Yolov5Options

    opening, keeping = request.opening, request.keeping
    size = opening.imgsz
    if size is not None and size[0] != size[1]:
        raise InputError("must be one number with YOLOv5's rules", subject="imgsz", got="×".join(map(str, size)))
    given: dict[str, Any] = {
        "imgsz": None if size is None else size[0],
        "batch": request.batch,
        "shapes": None if request.rectangles is None else "rectangles" if request.rectangles else "squares",
        "score_threshold": keeping.score_threshold,
        "iou_threshold": keeping.iou_threshold,
        "max_detections": keeping.max_detections,
        "single_class": keeping.single_class,
        "runtime": opening.runtime,
    }
    return Yolov5Options(**{name: value for name, value in given.items() if value is not None})


def _dataset(request: Request, info: ModelInfo, on_progress: OnProgress | None) -> Dataset:
    """Read the dataset, and settle that its files can be written before a model runs over it."""
    from yoloship.datasets.opening import open_dataset

    found = open_dataset(request.data, split=request.split, info=info, images=request.images, on_progress=on_progress)
    if found.task in OVERLAPS and not found.object_count:
        raise InputError("no image has an object, so precision cannot be computed", subject=found.name)
    if request.ids is not None:
        if any(sample.truth is None for sample in found.samples):
            raise InputError(
                "a classification model finds no objects that COCO's files could hold",
                subject="--save-json, --save-truth",
            )
        numbering(found.samples, found.class_names, request.ids, found.category_ids)
    return found
