"""Mean average precision by the COCO evaluator, and COCO's JSON forms.

The metric itself is never ours: `pycocotools` computes it, the implementation that the field compares by. For oriented
boxes, which COCO does not have, it takes our probabilistic IoU in place of its own IoU.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from yoloship.errors import DependencyError, InputError
from yoloship.evaluate.overlaps import PERSON_AREA_SHARE, oriented_ious, point_sigmas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.results.detections import Detections

_FIRST_ID = 1
"""Of images, annotations and categories: the evaluator takes an annotation of id 0 for none."""

OverlapKind: TypeAlias = Literal["boxes", "masks", "keypoints", "oriented"]
"""What decides whether an object is found: the IoU of boxes or of masks, the object keypoint similarity (OKS), or the
probabilistic IoU of oriented boxes."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """How the evaluator is to compare.

    Attributes:
        name: The evaluator's name for it.
        per_image: Most detections of an image that count: COCO's numbers, and for oriented boxes the 300 of the field.
    """

    name: str
    per_image: int


_RULES: Final = MappingProxyType(
    {
        "boxes": _Rules("bbox", 100),
        "masks": _Rules("segm", 100),
        "keypoints": _Rules("keypoints", 20),
        "oriented": _Rules("bbox", 300),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects that are really in an image.

    Attributes:
        boxes_xyxy: (n, 4) float, source pixels.
        class_ids: (n,) integer.
        source: The file that says so, for messages; empty if there is none.
        polygons: The outline of each object, (k, 2) float with k ≥ 3, x and y in source pixels; None if not known.
        keypoints: (n, K, 3) float: x and y in source pixels, and above 0 if the point is labelled; None if not known.
        boxes_xywhr: (n, 5) float: centre, sides and angle of oriented boxes, as in `Detections`; None if not known.
    """

    boxes_xyxy: npt.NDArray[Any]
    class_ids: npt.NDArray[Any]
    source: str = ""
    polygons: tuple[npt.NDArray[Any], ...] | None = None
    keypoints: npt.NDArray[Any] | None = None
    boxes_xywhr: npt.NDArray[Any] | None = None


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
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    class_names: Sequence[str],
    overlap: OverlapKind = "boxes",
) -> AveragePrecision:
    """Compare detections with the truth, image by image, as COCO does.

    Of each image the best 100 detections count, 20 with keypoints, 300 oriented boxes. Precision is averaged over all
    scores, so detect with a low score threshold (0.001) for a figure to be compared.

    Args:
        detections: One for each image; they have what is compared.
        truths: In the same order; they have it too.
        class_names: By class id.
        overlap: What decides whether an object is found. The thresholds of 0.50, 0.55, …, 0.95 are of this.

    Raises:
        DependencyError: `pycocotools` is not installed.
        InputError: the two differ in number, no image has any object, or a class id has no name.
    """
    if len(detections) != len(truths):
        raise InputError("detections and truths differ in number", got=f"{len(detections)} and {len(truths)}")
    sizes = [found.image_hw for found in detections]
    dataset = coco_dataset([f"{index:06d}" for index in range(len(truths))], sizes, truths, class_names)
    counted = [one["category_id"] - _FIRST_ID for one in dataset["annotations"] if one.get("num_keypoints") != 0]
    if not counted:
        what = " with labelled keypoints" if dataset["annotations"] else ""
        raise InputError(f"no image has an object{what}, so precision cannot be computed")
    for found in detections:
        _check_ids(found.class_ids, class_names)
    coco, evaluation, evaluator = _pycocotools()
    rules = _RULES[overlap]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its steps there
        truth = coco()
        truth.dataset = dataset
        truth.createIndex()
        precision = np.zeros((10, 101, len(class_names)))
        if results := _results(detections, overlap):
            judge = evaluation(truth, truth.loadRes(results), rules.name)
            judge.params.maxDets = [rules.per_image]
            if overlap == "keypoints":
                judge.params.kpt_oks_sigmas = point_sigmas(len(dataset["annotations"][0]["keypoints"]) // 3)
            elif overlap == "oriented":
                judge.computeIoU = partial(_oriented_overlaps, judge)
            judge.evaluate()
            judge.accumulate()
            # IoU thresholds, recalls, classes, areas (0: all), detections an image (the only choice)
            precision = judge.eval["precision"][:, :, :, 0, 0]
    counts = np.bincount(counted, minlength=len(class_names))
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


def _oriented_overlaps(judge: Any, image_id: int, category_id: int) -> Any:
    """What the evaluator's `computeIoU` gives, of oriented boxes: (detections, objects), the best detection first."""
    truths, found = judge._gts[image_id, category_id], judge._dts[image_id, category_id]
    if not truths or not found:
        return []
    order = np.argsort([-one["score"] for one in found], kind="stable")[: judge.params.maxDets[-1]]
    boxes = np.array([found[place]["xywhr"] for place in order.tolist()])
    return oriented_ious(boxes, np.array([one["xywhr"] for one in truths]))


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
        for place, (box, class_id) in enumerate(zip(truth.boxes_xyxy, truth.class_ids, strict=True)):
            x, y, wide, high = _xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + _FIRST_ID,
                    "image_id": image_id,
                    "category_id": int(class_id) + _FIRST_ID,
                    "bbox": [x, y, wide, high],
                    "area": wide * high,
                    "iscrowd": 0,
                    **_beside_box(truth, place, wide * high),
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, _FIRST_ID)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _beside_box(truth: Truth, place: int, box_area: float) -> dict[str, Any]:
    """What an annotation has beside its box."""
    more: dict[str, Any] = {}
    if truth.polygons is not None:
        more["segmentation"] = [truth.polygons[place].ravel().tolist()]
    if truth.keypoints is not None:
        points = truth.keypoints[place]
        more["keypoints"] = points.ravel().tolist()
        more["num_keypoints"] = int(np.count_nonzero(points[:, 2] > 0))
        more["area"] = PERSON_AREA_SHARE * box_area
    if truth.boxes_xywhr is not None:
        more["xywhr"] = truth.boxes_xywhr[place].tolist()
    return more


def _results(detections: Sequence[Detections], overlap: OverlapKind) -> list[dict[str, Any]]:
    """Detections as the evaluator takes them. It takes a result that has a box for a box, so masks come without."""
    rows = coco_results(detections)
    if overlap == "boxes":
        return rows
    for row in rows:
        if overlap != "oriented":
            del row["bbox"]
    places = iter(rows)
    for found in filter(len, detections):
        for extra in _extras(found, overlap):
            next(places).update(extra)
    return rows


def _extras(found: Detections, overlap: OverlapKind) -> list[dict[str, Any]]:
    if overlap == "masks":
        assert found.masks is not None  # of such a model
        return [{"segmentation": mask} for mask in found.masks.rle()]
    if overlap == "oriented":
        assert found.boxes_xywhr is not None
        return [{"xywhr": box} for box in found.boxes_xywhr.astype(np.float64)]
    assert found.keypoints is not None
    points = np.ones((*found.keypoints.shape[:2], 3))
    points[..., :2] = found.keypoints[..., :2]
    return [{"keypoints": one.ravel().tolist()} for one in points]


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
