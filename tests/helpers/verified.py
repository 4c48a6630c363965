"""Detectors to compare with each other: they answer with maps that depend on the image, shifted as asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from helpers.models import ANCHORS, STRIDES, image_session, info, random_heads
from yoloship.detect.detector import Detector
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
