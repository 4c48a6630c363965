"""Validate a model on a dataset, by either rules: `val` for Python, and `judge_model` for the command line as well."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yoloship.detect.detector import Detector
from yoloship.errors import InputError
from yoloship.evaluate.coco import Scored
from yoloship.evaluate.reports import conditions
from yoloship.results.detections import Detections
from yoloship.validate.choices import ValOptions
from yoloship.validate.objects import judge_objects
from yoloship.validate.opened import OpenOptions, open_model, sha256_of
from yoloship.validate.running import Judged, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Dataset
    from yoloship.validate.record import Rules, Validation


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
    """

    data: str | Path
    split: str = "val"
    images: Path | None = None
    rules: Rules = "coco"
    opening: OpenOptions = field(default_factory=OpenOptions)
    keeping: ValOptions = field(default_factory=ValOptions)
    rectangles: bool | None = None
    batch: int | None = None


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
        data: A ``data.yaml``, a list or a folder of images with YOLO labels, a COCO JSON file, a folder in Pascal VOC's
            form, or for classification a folder that has a folder for each class.
        split: Which part of the dataset: ``val``, ``test`` or ``train``.
        rules: ``coco``: what COCO's evaluator computes, on the answers that `predict` gives. ``yolov5``: what
            YOLOv5's own validation prints.
        images: The folder of the images of a COCO file; None looks where they usually are.
        imgsz: Canvas side, or (height, width), in model pixels; None takes the model's own.
        rectangles: Whether images keep their shape, padded to multiples of the stride. None takes what the rules have:
            squares, except for a checkpoint under YOLOv5's rules.
        batch: Under YOLOv5's rules, how many images share a rectangle; None takes 32.
        score_threshold: Detections at or below it are dropped, in [0, 1]; None takes 0.001.
        iou_threshold: A box is dropped if its IoU with a better box of its class is above it, in [0, 1]; None takes
            the default of the model's own validation.
        max_detections: Keep at most this many for each image; None takes 300.
        single_class: Whether all classes count as one.
        confidence: The score from which precision, recall and the confusion matrix count; None takes the one with the
            best mean F1.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None takes the CPU, and for an engine the first GPU.
        runtime: The library that runs the network; None takes the default.
        class_names: One name for each class, to use instead of those in the model's file.
        on_progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The figures: `to_dict()` gives plain data, and `save_report(path)` writes an HTML report.

    Raises:
        InputError: an argument is outside its range, or the dataset or the model does not fit.
        DependencyError: the evaluator is not installed.
        YoloshipError: the model cannot be opened, or fails.
    """
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


def judge_model(model: str | Path | Detector[Any], request: Request, on_progress: OnProgress | None = None) -> Judged:
    """Open a model, read the dataset for it, and judge what it finds.

    Args:
        model: A checkpoint, an ONNX file, an engine, the name of a release, or a detector, which stays open.
        request: On what, and how.
        on_progress: Called with what is being done.

    Raises:
        YoloshipError: as `val` says.
    """
    from yoloship.datasets.opening import open_dataset

    if isinstance(model, Detector):
        _refuse_for_detector(request.opening, request.rectangles)
    if request.rules == "coco" and request.batch is not None:
        raise InputError("has no effect with COCO's rules", subject="batch", hint="leave it out")
    shape = replace(request.opening, shape_mode="rect" if request.rectangles else "square")
    by_coco = request.rules == "coco"
    with ExitStack() as stack:
        if isinstance(model, Detector):
            detector, digest = model, ""
        else:
            detector = stack.enter_context(open_model(model, shape if by_coco else request.opening))
            digest = sha256_of(model)
        dataset = open_dataset(
            request.data, split=request.split, info=detector.info, images=request.images, on_progress=on_progress
        )
        if by_coco:
            judged = validate(detector, dataset, request.keeping, on_progress)
        else:
            judged = _by_yolov5(detector if isinstance(model, Detector) else model, dataset, request, on_progress)
    return replace(judged, validation=replace(judged.validation, model_sha256=digest))


def _refuse_for_detector(opening: OpenOptions, rectangles: bool | None) -> None:
    """A detector is open already, so what would be said about its opening has no effect."""
    given = [
        name
        for name in ("imgsz", "device", "runtime", "class_names")
        if getattr(opening, name) is not None
    ] + (["rectangles"] if rectangles is not None else [])  # fmt: skip
    if given:
        raise InputError("has no effect for a detector, which is open already", subject=", ".join(given))


def _by_yolov5(
    model: str | Path | Detector[Any], dataset: Dataset, request: Request, on_progress: OnProgress | None
) -> Judged:
    """YOLOv5's own figures, and beside them COCO's of the same detections, with what only we compute."""
    from yoloship.validate.yolov5 import Yolov5Options, run

    opening, keeping = request.opening, request.keeping
    given: dict[str, Any] = {
        "batch": request.batch,
        "score_threshold": keeping.score_threshold,
        "iou_threshold": keeping.iou_threshold,
        "max_detections": keeping.max_detections,
        "runtime": opening.runtime,
    }
    if opening.imgsz is not None:
        if opening.imgsz[0] != opening.imgsz[1]:
            raise InputError(
                "must be one number with YOLOv5's rules", subject="imgsz", got="×".join(map(str, opening.imgsz))
            )
        given["imgsz"] = opening.imgsz[0]
    if request.rectangles is not None:
        given["shapes"] = "rectangles" if request.rectangles else "squares"
    options = Yolov5Options(
        single_class=keeping.single_class, **{name: value for name, value in given.items() if value is not None}
    )
    theirs, found = run(model, dataset, options, on_progress)
    samples = tuple(one.sample for one in found)
    scored = tuple(Scored.of(one.result, "boxes") for one in found if isinstance(one.result, Detections))
    at = theirs.best_confidence if keeping.confidence is None else keeping.confidence
    ours = judge_objects(samples, scored, dataset, replace(keeping, confidence=at))
    validation = replace(
        theirs,
        model=Path(theirs.model).name,
        class_names=ours.class_names,
        sizes=ours.sizes,
        calibration=ours.calibration,
        coco=ours.coco,
        confidence=at,
        worst=ours.worst,
        speed_ms=MappingProxyType({stage: spent for stage, spent in theirs.speed_ms.items() if stage != "total"}),
        settings=MappingProxyType({**theirs.settings, **ours.settings}),
        versions=MappingProxyType(conditions()),
    )
    return Judged(validation, samples, scored)
