"""Mean average precision by the COCO evaluator, and COCO's JSON forms.

The metric itself is never ours: `pycocotools` computes it, the implementation that the field compares by.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.errors import DependencyError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.results.detections import Detections

_FIRST_ID = 1
"""Of images, annotations and categories: the evaluator takes an annotation of id 0 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects that are really in an image.

    Attributes:
        boxes_xyxy: (n, 4) float, source pixels.
        class_ids: (n,) integer.
        source: The file that says so, for messages; empty if there is none.
    """

    boxes_xyxy: npt.NDArray[Any]
    class_ids: npt.NDArray[Any]
    source: str = ""


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """Average precision of one class.

    Attributes:
        name: The class name.
        objects: How many the truth has.
        ap50_95: Mean over the IoU thresholds 0.50, 0.55, …, 0.95, in [0, 1]; None if the truth has no such object.
        ap50: At IoU 0.5.
    """

    name: str
    objects: int
    ap50_95: float | None
    ap50: float | None


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """How well detections match the truth, in [0, 1] each.

    Attributes:
        map50_95: Mean over classes, and over the IoU thresholds 0.50, 0.55, …, 0.95.
        map50: At IoU 0.5.
        map75: At IoU 0.75.
        classes: The same for each class.
        images: Images that were compared.
        objects: Objects in their truth.
        evaluator: Name and version of what computed this.
    """

    map50_95: float
    map50: float
    map75: float
    classes: tuple[ClassPrecision, ...]
    images: int
    objects: int
    evaluator: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def mean_average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], class_names: Sequence[str]
) -> AveragePrecision:
    """Compare detections with the truth, image by image, as COCO does: at most 100 detections an image count.

    Precision is averaged over all scores, so detect with a low score threshold (0.001) for a figure to be compared.

    Args:
        detections: One for each image.
        truths: In the same order.
        class_names: By class id.

    Raises:
        DependencyError: `pycocotools` is not installed.
        InputError: the two differ in number, no image has any object, or a class id has no name.
    """
    if len(detections) != len(truths):
        raise InputError("detections and truths differ in number", got=f"{len(detections)} and {len(truths)}")
    sizes = [found.image_hw for found in detections]
    dataset = coco_dataset([f"{index:06d}" for index in range(len(truths))], sizes, truths, class_names)
    if not dataset["annotations"]:
        raise InputError("no image has an object, so precision cannot be computed")
    for found in detections:
        _check_ids(found.class_ids, class_names)
    coco, evaluation, evaluator = _pycocotools()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its steps there
        truth = coco()
        truth.dataset = dataset
        truth.createIndex()
        precision = np.zeros((10, 101, len(class_names)))
        if results := coco_results(detections):
            judge = evaluation(truth, truth.loadRes(results), "bbox")
            judge.evaluate()
            judge.accumulate()
            # IoU thresholds, recalls, classes, areas (0: all), detections an image (2: 100)
            precision = judge.eval["precision"][:, :, :, 0, 2]
    counts = np.bincount(np.concatenate([t.class_ids for t in truths]).astype(int), minlength=len(class_names))
    there = counts > 0
    return AveragePrecision(
        map50_95=float(precision[:, :, there].mean()),
        map50=float(precision[0][:, there].mean()),
        map75=float(precision[5][:, there].mean()),
        classes=tuple(
            ClassPrecision(
                name,
                int(count),
                float(precision[:, :, index].mean()) if count else None,
                float(precision[0, :, index].mean()) if count else None,
            )
            for index, (name, count) in enumerate(zip(class_names, counts, strict=True))
        ),
        images=len(truths),
        objects=int(counts.sum()),
        evaluator=evaluator,
    )


def coco_dataset(
    file_names: Sequence[str],
    sizes_hw: Sequence[tuple[int, int]],
    truths: Sequence[Truth],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Truth in COCO's form; ids of images, annotations and categories count from 1, so a category is class id + 1.

    Args:
        file_names: Of the images.
        sizes_hw: (height, width) of each in pixels.
        truths: What is in each.
        class_names: By class id.

    Returns:
        Plain data, ready for JSON: ``info``, ``images``, ``annotations``, ``categories``.

    Raises:
        InputError: a class id has no name.
    """
    for truth in truths:
        _check_ids(truth.class_ids, class_names, truth.source)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, (height, width), truth) in enumerate(
        zip(file_names, sizes_hw, truths, strict=True), _FIRST_ID
    ):
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box, class_id in zip(truth.boxes_xyxy, truth.class_ids, strict=True):
            x, y, wide, high = _xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + _FIRST_ID,
                    "image_id": image_id,
                    "category_id": int(class_id) + _FIRST_ID,
                    "bbox": [x, y, wide, high],
                    "area": wide * high,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, _FIRST_ID)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def coco_results(detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections in COCO's form for results, with the ids of `coco_dataset`: plain data, ready for JSON."""
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id) + _FIRST_ID,
            "bbox": list(_xywh(box)),
            "score": float(score),
        }
        for image_id, found in enumerate(detections, _FIRST_ID)
        for box, score, class_id in zip(found.boxes_xyxy, found.scores, found.class_ids, strict=True)
    ]


def require_evaluator() -> None:
    """Find what computes mAP, before hours of work end without it.

    Raises:
        DependencyError: `pycocotools` is not installed.
    """
    _pycocotools()


def _xywh(box: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2 - x1, y2 - y1


def _check_ids(ids: npt.NDArray[Any], class_names: Sequence[str], source: str = "") -> None:
    for class_id in ids:
        if not 0 <= class_id < len(class_names):
            subject = f"{source}: class {class_id}" if source else f"class {class_id}"
            raise InputError("has no name", subject=subject, expected=f"0 to {len(class_names) - 1}")


def _pycocotools() -> tuple[Any, Any, str]:
    """The classes of truth and evaluation, and who made them."""
    from importlib.metadata import version

    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise DependencyError("is not installed", subject="pycocotools", hint="pip install 'yoloship[eval]'") from error
    return COCO, COCOeval, f"pycocotools {version('pycocotools')}"
