from __future__ import annotations

import json

import numpy as np

from helpers.verified import IMAGES, scripted
from yoloship.evaluate.reports import plot
from yoloship.evaluate.verification import verify


def test_the_report_is_json_and_an_image() -> None:
    found = verify(("a", scripted()), ("b", scripted(-0.3)), IMAGES)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["passed"] is found.passed
    assert data["agreement"]["share"] == found.agreement.share
    assert len(data["levels"]) == 3
    canvas = plot(found)
    assert canvas.dtype == np.uint8
    assert 0.01 < np.mean(canvas < 250) < 0.5
