"""Validates a model on a dataset by YOLOv5's rules: `run`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from yoloship.datasets.classes import check_classes
from yoloship.datasets.dataset import Fault
from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.validate.objects import ONE_CLASS
from yoloship.validate.record import Found
from yoloship.validate.yolov5.figures import Subject, figures_of
from yoloship.validate.yolov5.network import open_network, refuse_other_tasks
from yoloship.validate.yolov5.plan import Canvas, Planned, rectangles, squares, whole_strides
from yoloship.validate.yolov5.seeing import Seen, labels_of, see
from yoloship.validate.yolov5.val_options import Yolov5Options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship._util.text import OnProgress
    from yoloship.datasets.dataset import Dataset, Sample
    from yoloship.detect.detector import Detector
    from yoloship.model import ModelInfo
    from yoloship.validate.record import Validation
    from yoloship.validate.yolov5.network import Network


DEFAULTS: Final = Yolov5Options()


def run(
    model: str | Path | Detector,
    dataset: Dataset,
    options: Yolov5Options = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> tuple[Validation, tuple[Found, ...]]:
    """Validate a model as YOLOv5's ``val.py`` of version 7.0 does.

    Args:
        model: A checkpoint, an ONNX file with every class score, an engine, the name of a release; or a detector over
            such a graph, which stays open.
        dataset: With boxes.
        options: Sizes, batches and thresholds.
        on_progress: Called now and then.

    Returns:
        The figures, and what was found in each image, in the order of the samples. An image that cannot be decoded is
        left out of both, and is among the faults.

    Raises:
        InputError: the dataset has other classes or no labels, or the model is not one of YOLOv5's for detection.
        YoloshipError: the model cannot be opened or run.
    """
    _refuse_unmeasurable(dataset)
    with open_network(model, options.runtime) as network:
        return run_opened(network, dataset, options, on_progress)


def run_opened(
    network: Network, dataset: Dataset, options: Yolov5Options = DEFAULTS, on_progress: OnProgress | None = None
) -> tuple[Validation, tuple[Found, ...]]:
    """`run` with a network that is open; it raises what `run` raises, but for opening."""
    _refuse_unmeasurable(dataset)
    if not options.single_class:
        check_classes(dataset, network.info)
    is_rectangular = _is_rectangular(network, options)
    plan = plan_of(dataset.samples, network.info, options, is_rectangular=is_rectangular)
    for input_hw in {planned.input_hw for planned in plan}:
        network.check_size(input_hw)
    return validated(network, dataset, plan, options, on_progress)


def _refuse_unmeasurable(dataset: Dataset) -> None:
    refuse_other_tasks(dataset.task, dataset.name)
    if not any(len(labels_of(sample)[1]) for sample in dataset.samples):
        raise InputError("no image has a label, so nothing can be measured", subject=dataset.name)


def validated(
    network: Network,
    dataset: Dataset,
    plan: Sequence[Planned],
    options: Yolov5Options = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> tuple[Validation, tuple[Found, ...]]:
    """`run` with a network that is open, and images in an order that is given."""
    seen: list[Seen] = []
    faults = list(dataset.faults)
    started = time.perf_counter()
    for one in see(network, dataset.samples, plan, options, on_progress):
        if isinstance(one, Fault):
            faults.append(one)
        else:
            seen.append(one)
    seconds = time.perf_counter() - started
    names = ONE_CLASS if options.single_class else dataset.class_names
    lost = len(faults) - len(dataset.faults)
    side = whole_strides(options.imgsz, network.info.size_multiple)
    rectangular = any(planned.input_hw != (side, side) for planned in plan)
    settings = {
        "input": f"rectangles of {side}, in batches of {options.batch}" if rectangular else f"{side}×{side}",
        "shapes": "rectangles" if rectangular else "squares",
        "runtime": network.runtime,
        "precision": network.info.precision,
        "device": network.device,
        "preprocessing": "as YOLOv5 7.0: INTER_AREA when shrinking, bilinear when enlarging, sizes rounded down",
        "score_threshold": options.score_threshold,
        "iou_threshold": options.iou_threshold,
        "max_detections": options.max_detections,
        "classes_of_a_box": "every one above the threshold",
        "class_agnostic_nms": options.single_class,
    }
    subject = Subject(
        network.name,
        network.sha256,
        dataset.name,
        dataset.task,
        names,
        tuple(faults),
        dataset.left_out + lost,
        settings,
    )
    return figures_of(subject, seen, _speed_ms(seen, seconds)), _found(seen, dataset.samples, names)


def plan_of(
    samples: Sequence[Sample], info: ModelInfo, options: Yolov5Options, *, is_rectangular: bool
) -> list[Planned]:
    """The order and the canvases of a dataset's images."""
    imgsz = whole_strides(options.imgsz, info.size_multiple)
    if is_rectangular:
        canvas = Canvas(imgsz, options.batch, info.size_multiple)
        return rectangles([sample.image_hw for sample in samples], canvas)
    return squares(len(samples), imgsz)


def _is_rectangular(network: Network, options: Yolov5Options) -> bool:
    return options.shapes == "rectangles" or (options.shapes == "auto" and network.is_checkpoint)


def _found(seen: Sequence[Seen], samples: Sequence[Sample], names: tuple[str, ...]) -> tuple[Found, ...]:
    return tuple(
        Found(
            samples[one.index],
            Detections(one.boxes_xyxy, one.scores, one.class_ids, names, samples[one.index].image_hw),
        )
        for one in sorted(seen, key=lambda one: one.index)
    )


def _speed_ms(seen: Sequence[Seen], seconds: float) -> dict[str, float]:
    """The mean time of each stage in its thread, and of the whole: less than their sum if images run at once."""
    if not seen:
        return {}
    means = [sum(one.stages_ms[stage] for one in seen) / len(seen) for stage in range(3)]
    return {"read": means[0], "network": means[1], "postprocess": means[2], "total": seconds * 1e3 / len(seen)}
