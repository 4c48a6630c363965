"""COCO's JSON forms: the objects that are really in an image, those that were found, and both as COCO writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from yoloship.errors import InputError
from yoloship.evaluate.overlaps import PERSON_AREA_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from yoloship.results.detections import Detections

FIRST_ID = 1
"""Of images, annotations and categories: the evaluator takes an annotation of id 0 for none."""

OverlapKind: TypeAlias = Literal["boxes", "masks", "keypoints", "oriented"]
"""What decides whether an object is found: the IoU of boxes or of masks, the object keypoint similarity (OKS), or the
probabilistic IoU of oriented boxes."""


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
        crowd: (n,) bool: objects that stand for many, which may be found any number of times; None if there are none.
        areas_px: (n,) float: of each object in square source pixels, for its size; None takes the area of the box, and
            of an object with keypoints `PERSON_AREA_SHARE` of it.
        segmentations: The shape of each object as COCO writes it, polygons or run lengths; None takes `polygons`.
    """

    boxes_xyxy: npt.NDArray[Any]
    class_ids: npt.NDArray[Any]
    source: str = ""
    polygons: tuple[npt.NDArray[Any], ...] | None = None
    keypoints: npt.NDArray[Any] | None = None
    boxes_xywhr: npt.NDArray[Any] | None = None
    crowd: npt.NDArray[Any] | None = None
    areas_px: npt.NDArray[Any] | None = None
    segmentations: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The objects that were found in an image, without what the evaluator does not need.

    Attributes:
        boxes_xyxy: (n, 4) float32, source pixels.
        scores: (n,) float32, descending.
        class_ids: (n,) int32.
        image_hw: (height, width) of the image in pixels.
        masks: The run lengths of each mask, as COCO has them; None unless they were asked for.
        keypoints: (n, K, 2 or 3) float32, as in `Detections`; None unless they were asked for.
        boxes_xywhr: (n, 5) float32, as in `Detections`; None unless they were asked for.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    image_hw: tuple[int, int]
    masks: tuple[dict[str, Any], ...] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    boxes_xywhr: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, found: Detections, overlap: OverlapKind) -> Scored:
        """Keep of a result what decides whether its objects are right.

        Args:
            found: It has what is compared.
            overlap: What decides.
        """
        masks = None
        if overlap == "masks" and len(found):  # a result without objects may come from anywhere
            assert found.masks is not None  # of such a model
            masks = tuple(found.masks.rle())
        return cls(
            found.boxes_xyxy,
            found.scores,
            found.class_ids,
            found.image_hw,
            masks,
            found.keypoints if overlap == "keypoints" else None,
            found.boxes_xywhr if overlap == "oriented" else None,
        )

    def __len__(self) -> int:
        return len(self.scores)


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
        check_ids(truth.class_ids, class_names, truth.source)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, (height, width), truth) in enumerate(zip(file_names, sizes_hw, truths, strict=True), FIRST_ID):
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        areas = areas_of(truth).tolist()
        for place, (box, class_id) in enumerate(zip(truth.boxes_xyxy, truth.class_ids, strict=True)):
            x, y, wide, high = _xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + FIRST_ID,
                    "image_id": image_id,
                    "category_id": int(class_id) + FIRST_ID,
                    "bbox": [x, y, wide, high],
                    "area": areas[place],
                    "iscrowd": 0 if truth.crowd is None else int(truth.crowd[place]),
                    **_beside_box(truth, place),
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, FIRST_ID)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def areas_of(truth: Truth) -> npt.NDArray[np.float64]:
    """(n,) float64: the area of each object in square source pixels, by which COCO calls it small or large.

    It is what the dataset says, else the area of the box, and of an object with keypoints `PERSON_AREA_SHARE` of it.

    Args:
        truth: What is in an image.
    """
    if truth.areas_px is not None:
        return np.asarray(truth.areas_px, np.float64)
    boxes = np.asarray(truth.boxes_xyxy, np.float64).reshape(-1, 4)
    areas: npt.NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas if truth.keypoints is None else PERSON_AREA_SHARE * areas


def _beside_box(truth: Truth, place: int) -> dict[str, Any]:
    """What an annotation has beside its box."""
    more: dict[str, Any] = {}
    if truth.segmentations is not None:
        more["segmentation"] = truth.segmentations[place]
    elif truth.polygons is not None:
        more["segmentation"] = [truth.polygons[place].ravel().tolist()]
    if truth.keypoints is not None:
        points = truth.keypoints[place]
        more["keypoints"] = points.ravel().tolist()
        more["num_keypoints"] = int(np.count_nonzero(points[:, 2] > 0))
    if truth.boxes_xywhr is not None:
        more["xywhr"] = truth.boxes_xywhr[place].tolist()
    return more


def coco_results(detections: Sequence[Detections | Scored]) -> list[dict[str, Any]]:
    """Detections in COCO's form for results, with the ids of `coco_dataset`: plain data, ready for JSON."""
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id) + FIRST_ID,
            "bbox": list(_xywh(box)),
            "score": float(score),
        }
        for image_id, found in enumerate(detections, FIRST_ID)
        for box, score, class_id in zip(found.boxes_xyxy, found.scores, found.class_ids, strict=True)
    ]


def _xywh(box: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2 - x1, y2 - y1


def check_ids(ids: npt.NDArray[Any], class_names: Sequence[str], source: str = "") -> None:
    """Refuse class ids without a name.

    Args:
        ids: (n,) integer.
        class_names: By class id.
        source: The file that has them, for the message.

    Raises:
        InputError: an id has none.
    """
    for class_id in ids:
        if not 0 <= class_id < len(class_names):
            subject = f"{source}: class {class_id}" if source else f"class {class_id}"
            raise InputError("has no name", subject=subject, expected=f"0 to {len(class_names) - 1}")
