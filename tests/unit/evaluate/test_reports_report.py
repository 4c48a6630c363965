from __future__ import annotations

import json
from typing import Any

import numpy as np

from helpers.models import ANCHORS, STRIDES, image_session, info, random_heads
from yoloship.detect.detector import Detector
from yoloship.evaluate.reports import plot
from yoloship.evaluate.verification import verify
from yoloship.tasks.decode import heads_to_raw

HW = (64, 96)
IMAGES = [np.full((64, 96, 3), level, np.uint8) for level in (10, 200)]


def scripted(shift: float = 0.0, *, form: Any = "heads", **changes: Any) -> Detector:
    """Answers with random maps of the image's own, logits shifted."""

    def answer(feeds: Any) -> Any:
        seed = int(feeds["images"][0, 0, 0, 0])
        heads = [head + np.float32(shift) for head in random_heads(seed, HW)]
        if form == "heads":
            return tuple(heads)
        raw = heads_to_raw(heads, STRIDES, ANCHORS)
        return (raw,)

    return Detector(image_session(info(form, **changes), answer))


def test_the_report_is_json_and_a_image() -> None:
    found = verify(("a", scripted()), ("b", scripted(-0.3)), IMAGES)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["passed"] is found.passed
    assert data["agreement"]["share"] == found.agreement.share
    assert len(data["levels"]) == 3
    canvas = plot(found)
    assert canvas.dtype == np.uint8
    assert 0.01 < np.mean(canvas < 250) < 0.5
