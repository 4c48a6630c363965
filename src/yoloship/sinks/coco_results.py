"""Results in COCO's results format, which pycocotools and other evaluators read: a JSON list of all objects.

Each object has ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in source pixels) and ``score``. A mask is
in ``segmentation`` as compressed run lengths, an oriented box as the polygon of its corners, and keypoints are in
``keypoints`` as x, y and visibility of each point.

The image id is the file's name without its suffix, as a number if it is one: COCO names its images after their ids. A
frame of a video has the video's name and its number: ``clip_17``. Images of one run that would have one id, such as
``a/1.jpg`` and ``b/1.jpg``, keep apart: the second one is ``1-2``. A
category is the class id + 1, because COCO counts from 1. If the model has COCO's 80 classes, it is their official id.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.strict_json import json_text
from yoloship.sinks.naming import RunNames, stem_of
from yoloship.sinks.records import shortest
from yoloship.sinks.sink import TextSink, boxes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.results.detections import Detections
    from yoloship.sinks.sink import Entry

_COCO_FIRST, _COCO_LAST, _COCO_CLASSES = "person", "toothbrush", 80
_COCO_UNUSED: Final = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Of 1 to 90, the ids that COCO's 80 classes leave out."""
COCO_IDS: Final = tuple(number for number in range(1, 91) if number not in _COCO_UNUSED)
"""The official category ids of COCO's 80 classes, by class id."""


class CocoResults(TextSink):
    """A JSON list with one object for each detection, in COCO's results format."""

    option = ("--coco",)
    help = (
        "Write the detections in COCO's results format (JSON), with masks and keypoints if there are any; - is stdout."
    )
    suffix = ".json"
    needs_boxes = True
    opening = b"["
    separator = b",\n "
    closing = b"]\n"

    def record(self, entry: Entry) -> bytes:
        """Write one object for each detection of the image."""
        found = boxes_of(entry)
        if found is None:  # the image failed
            return b""
        return self.separator.join(json_text(record).encode() for record in _records(found, image_id(entry)))


def image_id(entry: Entry) -> int | str:
    """The id of an image: ``139`` for ``val/000000000139.jpg``, ``bus`` for ``bus.jpg``."""
    usual = stem_of(entry.name) if (frame := entry.frame) is None or frame.stream is None else None
    if usual is None or (entry.stem is not None and entry.stem != usual):  # a frame, or another image has the usual id
        return entry.stem or RunNames().stem(entry.name, entry.frame)
    stem = Path(entry.name).stem
    return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) < 19 else stem


def category_ids(class_names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The official ids of a model with COCO's 80 classes, by class id; None for any other model."""
    is_coco = len(class_names) == _COCO_CLASSES and (class_names[0], class_names[-1]) == (_COCO_FIRST, _COCO_LAST)
    return COCO_IDS if is_coco else None


def _records(found: Detections, image: int | str) -> Iterator[dict[str, Any]]:
    official = category_ids(found.class_names)
    for detection in found:
        x1, y1, x2, y2 = detection.box_xyxy
        record: dict[str, Any] = {
            "image_id": image,
            "category_id": detection.class_id + 1 if official is None else official[detection.class_id],
            "bbox": [shortest(value) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": shortest(detection.score),
        }
        if detection.masks is not None:
            (record["segmentation"],) = detection.masks.rle()
        elif detection.corners_xy is not None:
            record["segmentation"] = [[shortest(value) for corner in detection.corners_xy for value in corner]]
        if detection.keypoints is not None:
            points = ((*point, 1.0) if len(point) == 2 else point for point in detection.keypoints)
            record["keypoints"] = [shortest(value) for point in points for value in point]
        yield record
