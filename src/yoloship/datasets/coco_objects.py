"""The annotations of a COCO file: checked one by one, and put together as the truth of an image.

A mask reaches the evaluator's C code, so it is checked to the last run: the runs of a mask must fill its image exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yoloship._util.fields import is_int, is_number
from yoloship._util.text import shortened
from yoloship.datasets.outlines import MAX_OUTLINE_PX, is_too_long
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.results.rle import decompressed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.evaluate.coco import OverlapKind


_MAX_PX: Final = 1e7
_MAX_POINTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of an annotation.

    Attributes:
        overlap: What the task is about.
        points: How many keypoints an object has; 0 without them.
    """

    overlap: OverlapKind
    points: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CocoObject:
    """An annotation.

    Attributes:
        class_id: Of the model.
        box_xyxy: Source pixels.
        area_px: In square source pixels, as the file says it, else that of the box.
        is_crowd: Whether it is a crowd.
        segmentation: As COCO writes it, checked; None unless it was asked for.
        keypoints: x, y and visibility of each point; None unless they were asked for.
    """

    class_id: int
    box_xyxy: tuple[float, float, float, float]
    area_px: float
    is_crowd: bool
    segmentation: Any = None
    keypoints: tuple[float, ...] | None = None


def read_object(
    entry: dict[str, Any], class_id: int, image_hw: tuple[int, int], wanted: Wanted, subject: str
) -> CocoObject:
    """Check an annotation.

    Args:
        entry: An entry of ``annotations``; untrusted.
        class_id: The model's, of its category.
        image_hw: (height, width) of its image in pixels.
        wanted: What is read beside the box.
        subject: What messages call it.

    Raises:
        InputError: a field is missing or wrong.
    """
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value, -_MAX_PX, _MAX_PX) for value in box):
        raise InputError("bbox is not x, y, width, height", subject=subject, got=shortened(repr(box)))
    x, y, width, height = map(float, box)
    if width < 0 or height < 0:
        raise InputError("bbox has a negative size", subject=subject, got=shortened(repr(box)))
    area, crowd = entry.get("area", width * height), entry.get("iscrowd", 0)
    if not is_number(area, 0, _MAX_PX**2):
        raise InputError("area is not a number", subject=subject, got=shortened(repr(area)))
    if isinstance(crowd, bool) or not is_int(crowd, 0, 1):
        raise InputError("iscrowd is neither 0 nor 1", subject=subject, got=shortened(repr(crowd)))
    segmentation = _segmentation(entry, image_hw, subject) if wanted.overlap == "masks" else None
    keypoints = _keypoints(entry, wanted.points, subject) if wanted.overlap == "keypoints" else None
    return CocoObject(class_id, (x, y, x + width, y + height), float(area), bool(crowd), segmentation, keypoints)


def truth_of(objects: Sequence[CocoObject], wanted: Wanted, source: str) -> Truth:
    """The truth of an image.

    Args:
        objects: Of the image.
        wanted: What was read of them.
        source: The file.
    """
    keypoints = None
    if wanted.overlap == "keypoints":
        points = [one.keypoints for one in objects]
        keypoints = np.array(points, np.float64).reshape(len(objects), wanted.points, 3)
    return Truth(
        np.array([one.box_xyxy for one in objects], np.float64).reshape(-1, 4),
        np.array([one.class_id for one in objects], np.int64),
        source,
        keypoints=keypoints,
        crowd=np.array([one.is_crowd for one in objects], bool),
        areas_px=np.array([one.area_px for one in objects], np.float64),
        segmentations=tuple(one.segmentation for one in objects) if wanted.overlap == "masks" else None,
    )


def _keypoints(entry: dict[str, Any], count: int, subject: str) -> tuple[float, ...]:
    values: Any = entry.get("keypoints", [0] * (3 * count) if entry.get("iscrowd") == 1 else None)
    right = (
        isinstance(values, list)
        and len(values) == 3 * count
        and all(is_number(value, -_MAX_PX, _MAX_PX) for value in values)
        and all(value in (0, 1, 2) for value in values[2::3])
    )
    if not right:
        raise InputError(
            "does not have the model's keypoints", subject=subject, expected=f"x, y, v for {count} points, v 0, 1 or 2",
            got=shortened(repr(values)),
        )  # fmt: skip
    return tuple(map(float, values))


def _segmentation(entry: dict[str, Any], image_hw: tuple[int, int], subject: str) -> Any:
    found = entry.get("segmentation")
    if isinstance(found, list) and found:
        for polygon in found:
            if (
                not isinstance(polygon, list)
                or not 6 <= len(polygon) <= 2 * _MAX_POINTS
                or len(polygon) % 2
                or not all(is_number(value, -_MAX_PX, _MAX_PX) for value in polygon)
            ):
                raise InputError(
                    "segmentation has a polygon that is not x, y of three points or more", subject=subject,
                    got=shortened(repr(polygon)[:100]),
                )  # fmt: skip
            if is_too_long(np.array(polygon, np.float64).reshape(-1, 2)):
                raise InputError(
                    "segmentation has too long an outline",
                    subject=subject,
                    expected=f"at most {MAX_OUTLINE_PX:,} pixels",
                )
        return [list(map(float, polygon)) for polygon in found]
    if isinstance(found, dict):
        size, counts = found.get("size"), found.get("counts")
        if size != list(image_hw):
            raise InputError(
                "segmentation is not of the image's size", subject=subject, expected=str(list(image_hw)),
                got=shortened(repr(size)),
            )  # fmt: skip
        runs = decompressed(counts) if isinstance(counts, str) else counts
        pixels = image_hw[0] * image_hw[1]
        if not isinstance(runs, list) or not all(is_int(run, 0, pixels) for run in runs) or sum(runs) != pixels:
            raise InputError("segmentation has runs that do not fill the image", subject=subject)
        return {"size": size, "counts": counts}
    raise InputError("has no segmentation", subject=subject, expected="polygons or run lengths")
