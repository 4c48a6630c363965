"""The JSON form of results."""

from __future__ import annotations

import json

import numpy as np

from yoloship.results.detections import Detections
from yoloship.sinks import json_bytes

FOUND = Detections(
    np.array([[1.5, 2.25, 30.1, 40]], np.float32),
    np.array([0.9], np.float32),
    np.array([1], np.int32),
    ("cat", "dög"),
    (48, 64),
)


def test_the_document_is_one_list_in_the_order_of_the_inputs() -> None:
    document = json.loads(json_bytes([("b.jpg", FOUND), ("a.jpg", Detections.empty((1, 2)))]))
    assert document == [
        {
            "input": "b.jpg",
            "index": 0,
            "width": 64,
            "height": 48,
            "detections": [{"class_id": 1, "class_name": "dög", "score": 0.9, "box_xyxy": [1.5, 2.25, 30.1, 40.0]}],
        },
        {"input": "a.jpg", "index": 1, "width": 2, "height": 1, "detections": []},
    ]


def test_numbers_are_short_and_read_back_as_the_same_float32() -> None:
    rng = np.random.default_rng(5)
    count = 300
    boxes = (rng.random((count, 4)) * 4000).astype(np.float32)
    scores = rng.random(count).astype(np.float32)
    found = Detections(boxes, scores, np.zeros(count, np.int32), ("a",), (9, 9))
    data = json_bytes([("x", found)])
    rows = json.loads(data)[0]["detections"]
    assert np.array_equal(np.array([row["box_xyxy"] for row in rows], np.float32), boxes)
    assert np.array_equal(np.array([row["score"] for row in rows], np.float32), scores)
    assert b"0.8999999" not in json_bytes([("x", FOUND)])


def test_nothing_at_all_is_an_empty_list() -> None:
    assert json.loads(json_bytes([])) == []


def test_names_stay_readable_and_odd_paths_stay_valid() -> None:
    data = json_bytes([("照片 \udcff.jpg", FOUND)])
    assert "照片".encode() in data
    assert json.loads(data)[0]["input"] == "照片 \udcff.jpg"


def test_what_could_steer_a_terminal_is_escaped_and_means_the_same() -> None:
    unsafe = "a\x1b[31m\x9b1m\u202e\u2066\u2028\x7f\udc80\ud83d.jpg"
    names = Detections(FOUND.boxes_xyxy, FOUND.scores, FOUND.class_ids, ("x", "\x1b]0;t\x07"), FOUND.image_hw)
    data = json_bytes([(unsafe, names)])
    assert data.isascii()
    assert all(byte >= 32 or byte == 10 for byte in data)
    record = json.loads(data)[0]
    assert record["input"] == unsafe
    assert record["detections"][0]["class_name"] == "\x1b]0;t\x07"


def test_numbers_that_json_does_not_have_become_null() -> None:
    boxes = np.array([[np.nan, 0, np.inf, 1]], np.float32)
    found = Detections(boxes, np.array([0.5], np.float32), np.array([0], np.int32), ("a",), (9, 9))
    assert json.loads(json_bytes([("x", found)]))[0]["detections"][0]["box_xyxy"] == [None, 0.0, None, 1.0]
