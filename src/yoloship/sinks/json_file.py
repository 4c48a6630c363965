"""Results as a JSON list with one object for each image, one per line."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from yoloship.errors import visible_json
from yoloship.sinks.sink import Entry, TextSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.results import Result


class JsonFile(TextSink):
    """A JSON list of the objects that `json_record` makes."""

    option = ("--json",)
    help = "Write the results as JSON; - is stdout."
    suffix = ".json"
    opening = b"["
    separator = b",\n "
    closing = b"]\n"

    def record(self, entry: Entry) -> bytes:
        """Write the record of an image."""
        return json_record(entry)


def json_bytes(results: Iterable[tuple[str, Result]]) -> bytes:
    """Make the JSON document for a few images; `JsonFile` writes any number of them.

    Args:
        results: For each image, its path as the user gave it, and its result.

    Returns:
        UTF-8: a list of the objects that `json_record` makes, one per line.
    """
    lines = (json_record(Entry(image, found)) for image, found in results)
    return JsonFile.opening + JsonFile.separator.join(lines) + JsonFile.closing


def json_record(entry: Entry) -> bytes:
    """Make the JSON object of one image, on one line without a newline.

    Returns:
        UTF-8: ``{"image", "width", "height", "detections": [{"class_id", "class_name", "score", "box_xyxy"}]}``, and
        ``annotated`` if an annotated image was written, and ``error`` if something failed. An image that could not be
        read or run has ``{"image", "error"}``. Scores and boxes are the float32 values in their shortest decimal form.
        Characters that could control a terminal are escaped.
    """
    record: dict[str, Any] = {"image": entry.name}
    if entry.result is not None:
        record |= _shortened(entry.result.to_dict())
    if entry.annotated is not None:
        record["annotated"] = str(entry.annotated)
    if entry.error is not None:
        record["error"] = str(entry.error)
    return visible_json(json.dumps(record, ensure_ascii=False)).encode()


def _shortened(data: Any) -> Any:
    """The same plain data with every float in its shortest form."""
    if isinstance(data, float):
        return shortest(data)
    if isinstance(data, dict):
        return {key: _shortened(value) for key, value in data.items()}
    return [_shortened(value) for value in data] if isinstance(data, list) else data


def shortest(value: float) -> float | None:
    """The shortest decimal that reads back as the same float32: 0.9 rather than 0.8999999761581421.

    Infinity and NaN become null, because JSON does not have them.
    """
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else None
