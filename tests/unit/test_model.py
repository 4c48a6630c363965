from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloship.errors import InputError
from yoloship.model import ModelInfo, NmsConfig, UsualNms, usual_iou

INFO = ModelInfo(
    task="detect",
    family="yolov5",
    class_names=("person", "Zug", "猫"),
    strides=(8, 16),
    anchors=(((10.0, 13.0), (16.0, 30.0)), ((30.5, 61.0),)),
    input_form="image",
    output_form="heads",
    input_hw=(640, None),
    batch=None,
    precision="float16",
    checkpoint_sha256="ab" * 32,
    producer="yoloship 0.1.0",
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(INFO.to_json()), **fields})


def test_a_record_survives_its_json_form() -> None:
    assert ModelInfo.from_json(INFO.to_json()) == INFO


def test_fields_that_came_later_survive_it_and_are_left_out_if_they_have_their_default() -> None:
    pose = replace(
        INFO, task="pose", extra_columns=51, head="one2one", keypoint_shape=(17, 3), keypoint_names=("nose", "目")
    )
    assert ModelInfo.from_json(pose.to_json()) == pose
    assert {"extra_columns", "head", "keypoint_shape", "keypoint_names"}.isdisjoint(json.loads(INFO.to_json()))


def test_sizes_are_multiples_of_the_largest_stride_and_of_32_at_least() -> None:
    assert INFO.size_multiple == 32  # inside, such a network goes down further than its head shows
    assert replace(INFO, strides=(8, 16, 32, 64)).size_multiple == 64


def test_untrained_anchors_of_no_size_are_kept() -> None:
    untrained = replace(INFO, anchors=(((0.0, 1.0),), ((2.0, 3.0),)))
    assert ModelInfo.from_json(untrained.to_json()) == untrained


def test_the_json_form_is_one_line_that_people_can_read() -> None:
    text = INFO.to_json()
    assert "\n" not in text
    assert "猫" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": 2}, "another schema: expected 1, got 2; export it again"),
        ({"task": "Fly!"}, "bad 'task': expected a word of small letters, digits, - and _, got 'Fly!'"),
        ({"output_form": 3}, "bad 'output_form'"),
        ({"family": ""}, "bad 'family'"),
        ({"class_names": "abc"}, "bad 'class_names'"),
        ({"class_names": [1]}, "bad 'class_names'"),
        ({"strides": [0]}, "bad 'strides'"),
        ({"strides": [True]}, "bad 'strides'"),
        ({"anchors": [[[1.0, -1.0]], [[1.0, 1.0]]]}, "bad 'anchors'"),
        ({"anchors": [[], []]}, "bad 'anchors'"),
        ({"input_hw": [640]}, "bad 'input_hw'"),
        ({"input_hw": [0, 640]}, "bad 'input_hw'"),
        ({"batch": 0}, "bad 'batch'"),
        ({"checkpoint_sha256": "AB" * 32}, "bad 'checkpoint_sha256'"),
        ({"producer": None}, "bad 'producer'"),
        ({"keypoint_shape": [17]}, r"bad 'keypoint_shape': expected \[1 to 1000 keypoints, 2 or 3 numbers\]"),
        ({"keypoint_shape": [1001, 3]}, "bad 'keypoint_shape'"),
        ({"keypoint_shape": "17x3"}, "bad 'keypoint_shape'"),
        ({"keypoint_names": [1]}, "bad 'keypoint_names': expected at most 1000 strings"),
        ({"keypoint_names": ["a"] * 1001}, "bad 'keypoint_names'"),
        ({"surprise": 1}, "unknown fields: got 'surprise'"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelInfo.from_json(changed(**fields), subject="best.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "nul"])
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"model record is not (a )?JSON"):
        ModelInfo.from_json(text)


def test_an_endless_record_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InputError, match="too long"):
        ModelInfo.from_json(" " * 5_000_000)


@given(st.sampled_from(sorted(json.loads(INFO.to_json()))), JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field_gives_a_record_or_an_input_error(field: str, value: Any) -> None:
    try:
        info = ModelInfo.from_json(changed(**{field: value}))
    except InputError:
        return
    assert ModelInfo.from_json(info.to_json()) == info


def test_a_head_and_a_usual_size_are_written_only_if_there_are_some() -> None:
    assert not {"head", "usual_hw"} & json.loads(INFO.to_json()).keys()
    more = replace(INFO, head="one2one", usual_hw=(320, 640))
    assert ModelInfo.from_json(more.to_json()) == more
    for fields in ({"head": "both"}, {"usual_hw": [640]}, {"usual_hw": 640}):
        with pytest.raises(InputError, match=r"bad '(head|usual_hw)'"):
            ModelInfo.from_json(changed(**fields))


def test_an_iou_threshold_that_nobody_chose_becomes_that_of_the_family() -> None:
    assert UsualNms(score_threshold=0.3).at(usual_iou("ultralytics")) == NmsConfig(0.3, 0.7)
    assert UsualNms().at(usual_iou("yolov5")) == NmsConfig()
    assert (usual_iou("yolov5"), usual_iou("ultralytics"), usual_iou("acme")) == (0.45, 0.7, 0.45)
