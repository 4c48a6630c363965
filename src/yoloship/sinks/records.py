"""Detections as JSON: one list, in the order of the inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from yoloship.escaping import visible_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yoloship.results import Detections


def json_bytes(results: Iterable[tuple[str, Detections]]) -> bytes:
    """The JSON document for many pictures.

    Args:
        results: The path as the user gave it, and what was found there.

    Returns:
        UTF-8: a list of ``{"image", "width", "height", "detections": [{"class_id", "class_name", "score",
        "box_xyxy"}]}``, a picture a line; scores and boxes are the float32 values in their shortest decimal form.
    """
    lines = (json.dumps(_record(image, found), ensure_ascii=False) for image, found in results)
    return visible_json("[" + ",\n ".join(lines) + "]\n").encode()


def _record(image: str, found: Detections) -> dict[str, Any]:
    data = found.to_dict()
    for detection in data["detections"]:
        detection["score"] = _shortest(detection["score"])
        detection["box_xyxy"] = [_shortest(value) for value in detection["box_xyxy"]]
    return {"image": image, **data}


def _shortest(value: float) -> float:
    """The shortest decimal that reads back as the same float32: 0.9 rather than 0.8999999761581421."""
    import numpy as np

    return float(str(np.float32(value)))
