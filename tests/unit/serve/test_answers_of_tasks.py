"""Every task over HTTP: the answer is the record of the local detector, and the drawn image is its drawing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.images import saved
from helpers.samples import sample
from helpers.serving import served, settings_of
from yoloship.graph import GraphConfig, build_graph, graph_bytes
from yoloship.models.loading import load
from yoloship.sinks.records import json_record
from yoloship.sinks.sink import Entry

if TYPE_CHECKING:
    from pathlib import Path

HW = (64, 96)
PHOTO = saved(np.random.default_rng(5).integers(0, 256, (48, 64, 3), dtype=np.uint8), "PNG")


@pytest.mark.parametrize(
    ("family", "task", "field"),
    [
        ("yolov5", "detect", "box_xyxy"),
        ("yolov5", "segment", "polygons"),
        ("yolov5", "classify", "class_name"),
        ("ultralytics", "pose", "keypoints"),
        ("ultralytics", "obb", "corners"),
    ],
)
def test_a_task_is_answered_with_its_record(tmp_path: Path, family: str, task: str, field: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_bytes(build_graph(sample(family, task), GraphConfig(HW))))
    with load(path) as detector:
        result = detector(PHOTO)
    record = json.loads(json_record(Entry("image", result, index=0)))
    assert field in json.dumps(record)
    with served(settings_of(path)) as server:
        answer = server.ask("POST", "/v1/models/m/predict", content=PHOTO)
        assert answer.status_code == 200
        assert answer.json() == record
        assert server.ask("GET", "/v1/models/m").json()["task"] == task
        drawn = server.ask("POST", "/v1/models/m/predict", content=PHOTO, headers={"Accept": "image/png"})
        pixels = cv2.imdecode(np.frombuffer(drawn.content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(pixels, result.draw(cv2.imdecode(np.frombuffer(PHOTO, np.uint8), 1)))
