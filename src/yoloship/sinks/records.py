"""What a record says of one image: where it comes from, and what was found. JSON, CSV and Parquet share it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from yoloship._util.strict_json import json_text

if TYPE_CHECKING:
    from yoloship.sinks.sink import Entry


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from.

    Attributes:
        input: The name of its file, its video or its camera, as the user gave it.
        index: The frame's place in its video or camera; for any other image, its place in the run.
        time_s: Seconds since the first frame of its video or camera, by the source's own clock; None for still images.
        stream: The name of its video or camera; None for still images.
    """

    input: str
    index: int
    time_s: float | None = None
    stream: str | None = None


def origin_of(entry: Entry) -> Origin:
    """Where the image of an entry comes from."""
    frame = entry.frame
    if frame is None or frame.stream is None:
        return Origin(entry.name, entry.index)
    return Origin(frame.stream.name, frame.index, frame.time_s, frame.stream.name)


def json_record(entry: Entry) -> bytes:
    """Make the JSON object of one image, on one line without a newline.

    Returns:
        UTF-8: ``{"input", "index", "width", "height", "detections": [{"class_id", "class_name", "score",
        "box_xyxy"}]}``, with ``time_s`` and ``stream`` after ``index`` for a frame of a video or a camera,
        ``zones`` and ``lines`` if objects are counted, ``annotated`` if an annotated image was written, and ``error``
        if something failed. An image that could not be read or run has no size and no detections. Scores and boxes are
        the float32 values in their shortest decimal form. Characters that could control a terminal are escaped.
    """
    record: dict[str, Any] = {key: value for key, value in asdict(origin_of(entry)).items() if value is not None}
    if entry.result is not None:
        record |= shortened(entry.result.to_dict())
    if entry.scene is not None:
        record |= entry.scene.to_dict()
    if entry.annotated is not None:
        record["annotated"] = str(entry.annotated)
    if entry.error is not None:
        record["error"] = str(entry.error)
    return json_text(record).encode()


def shortened(data: Any) -> Any:
    """The same plain data with every float in its shortest form."""
    if isinstance(data, float):
        return shortest(data)
    if isinstance(data, dict):
        # Tenths of a pixel are in their shortest form, and so many that trying it would be most of the work for masks.
        return {key: value if key == "polygons" else shortened(value) for key, value in data.items()}
    return [shortened(value) for value in data] if isinstance(data, list) else data


def shortest(value: float) -> float | None:
    """The shortest decimal that reads back as the same float32: 0.9 rather than 0.8999999761581421.

    Infinity and NaN become null, because JSON does not have them.
    """
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else None
