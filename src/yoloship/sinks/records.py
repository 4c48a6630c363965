"""Results as JSON records: one for each image, on one line."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from yoloship.escaping import visible_json
from yoloship.sinks.base import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.results import Detections


def json_bytes(results: Iterable[tuple[str, Detections]]) -> bytes:
    """The JSON document for some images that are in memory; `open_json` writes any number.

    Args:
        results: The path as the user gave it, and what was found there.

    Returns:
        UTF-8: a list of records, see `json_record`, one on each line.
    """
    lines = (json_record(Entry(image, found)) for image, found in results)
    return b"[" + b",\n ".join(lines) + b"]\n"


def json_record(entry: Entry) -> bytes:
    """The JSON of one image, on one line without its end.

    Returns:
        UTF-8: ``{"image", "width", "height", "detections": [{"class_id", "class_name", "score", "box_xyxy"}]}``, and
        ``annotated`` if there is such an image, and ``error`` if something failed. Without detections, because the
        image itself failed: ``{"image", "error"}``. Scores and boxes are the float32 values in their shortest decimal
        form. Characters that could steer a terminal are escaped.
    """
    record: dict[str, Any] = {"image": entry.image}
    if entry.found is not None:
        record |= _found(entry.found)
    if entry.annotated is not None:
        record["annotated"] = str(entry.annotated)
    if entry.error is not None:
        record["error"] = str(entry.error)
    return visible_json(json.dumps(record, ensure_ascii=False)).encode()


def _found(found: Detections) -> dict[str, Any]:
    data = found.to_dict()
    for detection in data["detections"]:
        detection["score"] = _shortest(detection["score"])
        detection["box_xyxy"] = [_shortest(value) for value in detection["box_xyxy"]]
    return data


def _shortest(value: float) -> float | None:
    """The shortest decimal that reads back as the same float32: 0.9 rather than 0.8999999761581421.

    JSON has no infinity and no NaN; they become null.
    """
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else None
