"""Mean average precision of detections by COCO's evaluator: `mean_average_precision`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from yoloship.evaluate.coco import Scored
from yoloship.evaluate.evaluator import ALL, AT_50, AT_75, evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.evaluate.coco import OverlapKind, Truth
    from yoloship.results.detections import Detections


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

    Of each image and class the best 100 detections count, 20 with keypoints, 300 oriented boxes. Precision is averaged
    over all scores, so detect with a low score threshold (0.001) for a figure to be compared.

    Args:
        detections: One for each image; they have what is compared.
        truths: In the same order; they have it too.
        class_names: By class id.
        overlap: What decides whether an object is found. The thresholds of 0.50, 0.55, …, 0.95 are of this.

    Raises:
        DependencyError: the evaluator is not installed.
        InputError: the two differ in number, no image has any object, or a class id has no name.
    """
    found = evaluate([Scored.of(one, overlap) for one in detections], truths, class_names, overlap)
    precision, there = found.precision[..., ALL], found.objects > 0
    return AveragePrecision(
        map50_95=float(precision[:, :, there].mean()),
        map50=float(precision[AT_50][:, there].mean()),
        map75=float(precision[AT_75][:, there].mean()),
        classes=tuple(
            ClassPrecision(
                name,
                int(count),
                float(precision[:, :, index].mean()) if count else None,
                float(precision[AT_50, :, index].mean()) if count else None,
            )
            for index, (name, count) in enumerate(zip(class_names, found.objects, strict=True))
        ),
        images=len(truths),
        objects=int(found.objects.sum()),
        evaluator=found.evaluator,
    )
