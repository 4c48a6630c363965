"""Results as tensors and back, and answers that a client must not believe."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import info
from yoloship.errors import SessionError
from yoloship.results.classification import Classification
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.triton.answers import answer_specs, from_tensors, to_tensors

HW = (40, 60)
ROWS = 5
DETECT = info("raw")
POSE = info("raw", task="pose", keypoint_shape=(4, 3))
OBB = info("raw", task="obb")
SEGMENT = info("raw", task="segment", mask_rule=None)
CLASSIFY = info("raw", task="classify", anchors=(), strides=(), class_scores="probabilities")
RECORDS = {"detect": DETECT, "pose": POSE, "obb": OBB, "segment": SEGMENT}


def objects(task: str, count: int = 3, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 40, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    extras: dict[str, Any] = {}
    if task == "pose":
        extras["keypoints"] = rng.uniform(0, 1, (count, 4, 3)).astype(np.float32)
    if task == "obb":
        extras["boxes_xywhr"] = rng.normal(0, 30, (count, 5)).astype(np.float32)
    if task == "segment":
        extras["masks"] = Masks.from_array(rng.random((count, *HW)) > 0.7)
    scores = np.sort(rng.random(count).astype(np.float32))[::-1].copy()
    ids = rng.integers(0, 3, count).astype(np.int32)
    return Detections(corners, scores, ids, DETECT.class_names, HW, **extras)


def tensors(result: Any, record: Any) -> dict[str, Any]:
    return to_tensors([result], answer_specs(record, ROWS))


@pytest.mark.parametrize("task", RECORDS)
@pytest.mark.parametrize("count", [0, 1, ROWS])
def test_objects_come_back_exactly_whatever_they_have(task: str, count: int) -> None:
    result = objects(task, count)
    found = from_tensors(tensors(result, RECORDS[task]), RECORDS[task], HW, "server")
    if task == "segment":  # the window of a mask may be another, its pixels are the same
        assert isinstance(found, Detections)
        assert found.masks is not None
        assert result.masks is not None
        assert np.array_equal(found.masks.array, result.masks.array)
        assert np.array_equal(found.boxes_xyxy, result.boxes_xyxy)
    else:
        assert found == result


def test_probabilities_come_back_exactly() -> None:
    result = Classification(np.array([0.25, 0.5, 0.25], np.float32), CLASSIFY.class_names, HW)
    assert from_tensors(tensors(result, CLASSIFY), CLASSIFY, HW, "server") == result


def test_the_record_of_every_image_is_json_padded_with_spaces_to_one_length() -> None:
    some, none = objects("detect"), objects("detect", 0)
    rows = to_tensors([some, none], answer_specs(DETECT, ROWS)[:1])["result"]
    assert rows.shape[0] == 2
    assert [len(json.loads(row.tobytes())["detections"]) for row in rows] == [3, 0]
    assert json.loads(rows[0].tobytes())["detections"][0]["box_xyxy"] == pytest.approx(some.boxes_xyxy[0].tolist())


def test_every_tensor_has_the_shape_and_type_of_its_spec_and_can_be_handed_over() -> None:
    for task, record in RECORDS.items():
        specs = answer_specs(record, ROWS)
        for name, array in to_tensors([objects(task), objects(task, 0)], specs).items():
            spec = next(one for one in specs if one.name == name)
            assert array.dtype == spec.dtype
            assert all(
                isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
            )
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.size


def test_a_task_of_another_package_has_its_record_only() -> None:
    assert [spec.name for spec in answer_specs(info("raw", task="count"), ROWS)] == ["result"]


def spoilt(name: str, value: Any, task: str = "detect") -> dict[str, Any]:
    good = tensors(objects(task), RECORDS[task])
    return {**good, name: value}


NAN = np.full((1, ROWS), np.nan, np.float32)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", NAN, "wrong scores: expected finite numbers, got NaN"),
        ("scores", np.full((1, ROWS), 2, np.float32), "wrong scores: expected 0 to 1, got 2 to 2"),
        ("scores", np.zeros(ROWS, np.float32), r"wrong scores: expected float32\(1, any\), got float32\(5,\)"),
        ("boxes_xyxy", np.full((1, ROWS, 4), np.inf, np.float32), "wrong boxes_xyxy: expected finite numbers"),
        ("boxes_xyxy", np.full((1, ROWS, 4), -1, np.float32), "wrong boxes_xyxy: expected 0 to 60, got -1 to -1"),
        ("boxes_xyxy", np.zeros((1, ROWS, 4)), "wrong boxes_xyxy: .* got float64"),
        ("boxes_xyxy", np.zeros((1, 2, 4), np.float32), r"wrong boxes_xyxy: expected float32\(1, 5, 4\)"),
        ("class_ids", np.full((1, ROWS), 3, np.int32), "wrong class_ids: expected 0 to 2, got 3 to 3"),
        ("class_ids", np.full((1, ROWS), -1, np.int32), "wrong class_ids: expected 0 to 2"),
        ("count", np.array([[9]], np.int32), "wrong count: expected 0 to 5, got 9"),
        ("count", np.array([[-1]], np.int32), "wrong count: expected 0 to 5, got -1"),
        ("count", np.array([[1], [1]], np.int32), "wrong count"),
        ("image_hw", np.array([[40, 61]], np.int32), "wrong image_hw: expected 40x60, as it was sent, got 40x61"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(SessionError, match=f"server: its answer has a {message}"):
        from_tensors(spoilt(name, value), DETECT, HW, "server")


@pytest.mark.parametrize("name", ["image_hw", "count", "scores", "boxes_xyxy", "class_ids"])
def test_a_missing_tensor_is_named(name: str) -> None:
    good = tensors(objects("detect"), DETECT)
    del good[name]
    with pytest.raises(SessionError, match=f"server: its answer has a wrong {name}: expected one of .*, got none"):
        from_tensors(good, DETECT, HW, "server")


@pytest.mark.parametrize(
    "document",
    [
        b"no", b"[]", b"{}", b"[1, 2, 3]", b"[" * 100_000, b"\xff\xfe",
        json.dumps([{"size": [40, 60], "counts": "0"}] * 3).encode(),
        json.dumps([{"size": [40, 60], "counts": 7}] * 3).encode(),
        json.dumps([{"size": [40, 60], "counts": "ooooooooooooooo0" * 99}] * 3).encode(),
    ],
)  # fmt: skip
def test_masks_that_are_no_run_lengths_of_the_image_are_refused(document: bytes) -> None:
    value = np.frombuffer(document, np.uint8)[None]
    with pytest.raises(SessionError, match="server: its answer has a wrong masks"):
        from_tensors(spoilt("masks", value, "segment"), SEGMENT, HW, "server")


def test_probabilities_that_are_none_are_refused() -> None:
    with pytest.raises(SessionError, match="wrong probabilities: expected 0 to 1"):
        from_tensors({"probabilities": np.array([[7, 0, 0]], np.float32)}, CLASSIFY, HW, "server")


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["masks", "scores", "boxes_xyxy", "count", "class_ids", "keypoints"]))
def test_whatever_bytes_an_answer_has_it_is_a_result_or_an_error_of_ours(data: bytes, name: str) -> None:
    task = {"masks": "segment", "keypoints": "pose"}.get(name, "detect")
    good = tensors(objects(task), RECORDS[task])
    shape, dtype = good[name].shape, good[name].dtype
    if name == "masks":
        value = np.frombuffer(data, np.uint8)[None]
    else:
        value = np.resize(np.frombuffer(data.ljust(8, b"\0")[: len(data) // 8 * 8 or 8], dtype), shape).copy()
    with suppress(SessionError):
        assert len(from_tensors({**good, name: value}, RECORDS[task], HW, "server")) <= ROWS
