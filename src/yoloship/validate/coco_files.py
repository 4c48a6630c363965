"""The truth of a dataset and the detections of a model as COCO's JSON files, which pycocotools and others read.

Two ways to count are known:

- ``coco``: the ids of the dataset's own COCO file if it has one, else images from 1 in the order of the dataset, and
  categories from 1 (COCO's official ids for COCO's 80 classes).
- ``yolov5``: as YOLOv5's ``--save-json``. The id of an image is its file's name without the suffix, as a number if it
  is one; categories count from 0, with COCO's own ids for COCO's 80 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship.errors import InputError
from yoloship.evaluate.coco import FIRST_ID, coco_dataset
from yoloship.results.oriented import corners_of
from yoloship.sinks.coco_results import category_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.datasets.dataset import Sample
    from yoloship.evaluate.coco import Scored, Truth


Ids: TypeAlias = Literal["coco", "yolov5"]
"""How images and categories are counted; see the head of this module."""
_BOX_DIGITS, _SCORE_DIGITS = 3, 5
"""As YOLOv5 rounds, for its way to count."""
_YOLOV5_FIRST: Final = 0


@dataclass(frozen=True, slots=True)
class Numbering:
    """The ids of images and categories.

    Attributes:
        images: Of each sample, in order.
        categories: By class id.
        rounds: Whether boxes and scores are rounded as YOLOv5 does.
    """

    images: tuple[int | str, ...]
    categories: tuple[int | str, ...]
    rounds: bool


def numbering(
    samples: Sequence[Sample],
    class_names: Sequence[str],
    ids: Ids,
    own_categories: Sequence[int | str | None] | None = None,
) -> Numbering:
    """Give every image and every category its id.

    Args:
        samples: The images.
        class_names: By class id.
        ids: How they are counted.
        own_categories: The ids of the dataset's own COCO file, as `Dataset.category_ids`; None if it has none.

    Raises:
        InputError: two images would have one id, or some would have a number and others a text, which pycocotools
            cannot sort.
    """
    official = category_ids(tuple(class_names))
    if ids == "coco":
        own = [sample.image_id for sample in samples]
        images: list[int | str] = [place for place, _ in enumerate(samples, FIRST_ID)]
        if len({type(one) for one in own}) == 1:  # pycocotools cannot sort numbers among texts
            images = [one for one in own if one is not None] or images
        categories = official or _counted(class_names, FIRST_ID)
        if own_categories is not None and len(own_categories) == len(class_names):
            categories = _completed(own_categories) or categories
        return Numbering(tuple(images), categories, rounds=False)
    named = [_of_name(sample.name) for sample in samples]
    seen: dict[int | str, str] = {}
    for sample, one in zip(samples, named, strict=True):
        if one in seen:
            raise InputError(
                f"{seen[one]} and {sample.name} would both have the image id {one!r}", subject="--ids yolov5",
                hint="use --ids coco",
            )  # fmt: skip
        seen[one] = sample.name
    if len({type(one) for one in named}) > 1:
        text = next(sample.name for sample, one in zip(samples, named, strict=True) if isinstance(one, str))
        raise InputError(
            f"some images are named by numbers, and others, such as {text}, are not", subject="--ids yolov5",
            hint="use --ids coco",
        )  # fmt: skip
    return Numbering(tuple(named), official or _counted(class_names, _YOLOV5_FIRST), rounds=True)


def _completed(own: Sequence[int | str | None]) -> tuple[int | str, ...] | None:
    """The ids of a COCO file, and new ones for the classes that it does not have; None if numbers and texts are mixed.

    pycocotools cannot sort numbers among texts.
    """
    numbers = [one for one in own if isinstance(one, int)]
    texts = [one for one in own if isinstance(one, str)]
    if numbers and texts:
        return None
    free = 1 + max(numbers, default=0)
    return tuple((f"class {place}" if texts else free + place) if one is None else one for place, one in enumerate(own))


def _of_name(name: str) -> int | str:
    """``17`` for ``0017.jpg``, ``bus`` for ``bus.jpg``."""
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) < 19 else stem


def _counted(class_names: Sequence[str], first: int) -> tuple[int | str, ...]:
    return tuple(range(first, first + len(class_names)))


def truth_file(
    samples: Sequence[Sample], truths: Sequence[Truth], class_names: Sequence[str], numbers: Numbering
) -> dict[str, Any]:
    """The truth, as COCO's annotations.

    Args:
        samples: The images.
        truths: What is in each.
        class_names: By class id.
        numbers: The ids.

    Returns:
        Plain data, ready for JSON. The area of an object is what the dataset says, else that of its box.
    """
    names = [sample.name for sample in samples]
    data = coco_dataset(names, [sample.image_hw for sample in samples], truths, class_names)
    for image, own in zip(data["images"], numbers.images, strict=True):
        image["id"] = own
    for row in data["annotations"]:
        row["image_id"] = numbers.images[row["image_id"] - FIRST_ID]
        row["category_id"] = numbers.categories[row["category_id"] - FIRST_ID]
        if (box := row.pop("xywhr", None)) is not None:
            row["segmentation"] = _corners([box])
    for category, own_id in zip(data["categories"], numbers.categories, strict=True):
        category["id"] = own_id
    return data


def predictions_file(scored: Sequence[Scored], numbers: Numbering) -> list[dict[str, Any]]:
    """What was found, as COCO's results.

    Args:
        scored: Of each image, in the order of the ids.
        numbers: The ids.

    Returns:
        Plain data, ready for JSON: an entry for each detection. A mask is in ``segmentation``, an oriented box there
        as the polygon of its corners, and keypoints are in ``keypoints``.
    """
    rows: list[dict[str, Any]] = []
    for image, found in zip(numbers.images, scored, strict=True):
        boxes = found.boxes_xyxy.astype(float).tolist()
        for place, ((x1, y1, x2, y2), score, class_id) in enumerate(
            zip(boxes, found.scores.tolist(), found.class_ids.tolist(), strict=True)
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            row: dict[str, Any] = {
                "image_id": image,
                "category_id": numbers.categories[class_id],
                "bbox": [round(value, _BOX_DIGITS) for value in box] if numbers.rounds else box,
                "score": round(score, _SCORE_DIGITS) if numbers.rounds else score,
            }
            if found.masks is not None:
                row["segmentation"] = found.masks[place]
            elif found.boxes_xywhr is not None:
                row["segmentation"] = _corners(found.boxes_xywhr[place : place + 1].tolist())
            if found.keypoints is not None:
                points = found.keypoints[place].tolist()
                row["keypoints"] = [value for point in points for value in (*point, 1.0)[:3]]
            rows.append(row)
    return rows


def _corners(boxes_xywhr: list[list[float]]) -> list[list[float]]:
    import numpy as np

    flat: list[list[float]] = corners_of(np.array(boxes_xywhr, np.float64)).reshape(-1, 8).tolist()
    return flat
