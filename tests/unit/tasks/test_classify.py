from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError
from yoloship.model import METADATA_KEY, ModelInfo, NmsConfig, TensorSpec
from yoloship.results.classification import Classification
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.classify import Classify, ScoresForm, softmax
from yoloship.transforms import transform_of

NAMES = ("ant", "bee", "cat")
INFO = ModelInfo(
    "classify", "resnet", NAMES, (), (), "float", "raw", (32, 32), None, class_scores="logits",
    transform=transform_of("torchvision-v1", (32, 32)),
)  # fmt: skip
SPECS = (TensorSpec("output0", "float32", ("batch", 3)),)


def session(scores: Any, info: ModelInfo = INFO) -> ScriptedSession:
    shape = (1, info.channels, *info.input_hw) if info.input_form == "float" else (1, *info.input_hw, info.channels)
    spec = TensorSpec("images", "float32" if info.input_form == "float" else "uint8", shape)  # type: ignore[arg-type]
    record = replace(info, batch=1)
    return ScriptedSession(
        [spec], [TensorSpec("output0", "float32", (1, 3))], lambda _: [np.array([scores], np.float32)],
        metadata={METADATA_KEY: record.to_json()},
    )  # fmt: skip


def test_logits_become_probabilities_and_probabilities_stay() -> None:
    form, logits = ScoresForm(), np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]], np.float32)
    first, second = form.decode([logits], INFO, (32, 32), 0.25)
    np.testing.assert_allclose(first, np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum(), rtol=1e-6)
    assert second.tolist() == [1, 0, 0]
    given = np.array([[0.2, 0.3, 0.5]], np.float32)
    (same,) = form.decode([given], replace(INFO, class_scores="probabilities"), (32, 32), 0.25)
    np.testing.assert_array_equal(same, given[0])
    assert not np.shares_memory(same, given)


def test_the_softmax_of_many_logits_is_computed_in_float64() -> None:
    logits = np.random.default_rng(0).normal(0, 8, (2, 1000)).astype(np.float32)
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(softmax(logits), (wide / wide.sum(axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize(
    "scores", [np.zeros((1, 4), np.float32), np.zeros((3,), np.float32), np.zeros((1, 3), np.int32)]
)
def test_outputs_of_another_form_are_refused(scores: Any) -> None:
    with pytest.raises(SessionError, match="the model's output is not as promised"):
        ScoresForm().decode([scores], INFO, (32, 32), 0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(value: float) -> None:
    with pytest.raises(SessionError, match="the model's output is not finite"):
        ScoresForm().decode([np.array([[0, value, 1]], np.float32)], INFO, (32, 32), 0.25)


@pytest.mark.parametrize(
    ("info", "specs", "words"),
    [
        (replace(INFO, class_scores=None), SPECS, "does not say whether it gives logits or probabilities"),
        (replace(INFO, class_names=()), SPECS, "names no classes"),
        (replace(INFO, strides=(8,)), SPECS, "is not that of a classification model"),
        (replace(INFO, nms=NmsConfig()), SPECS, "is not that of a classification model"),
        (INFO, (*SPECS, *SPECS), r"expected one output \(B, 3\)"),
        (INFO, (TensorSpec("output0", "float32", ("batch", 4)),), r"expected one output \(B, 3\)"),
        (INFO, (TensorSpec("output0", "float32", ("batch", 3, 1)),), r"expected one output \(B, 3\)"),
        (replace(INFO, output_form="heads"), SPECS, "a classification model has no such output form: expected raw"),
    ],
)
def test_a_record_that_contradicts_its_graph_is_refused(info: ModelInfo, specs: Any, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        Classify().check(specs, info, "m.onnx")


def test_a_detector_gives_classifications() -> None:
    image = np.zeros((50, 40, 3), np.uint8)
    with Detector(session([0.0, 2.0, 1.0])) as detector:
        result = detector(image)
        assert isinstance(result, Classification)
        assert (result.class_name, result.image_hw) == ("bee", (50, 40))
        assert detector.detect_batch([image, image]) == [result, result]
        assert [outcome.unwrap() for outcome in detector.stream([image])] == [result]
        assert detector.submit(image).result() == result
        assert detector.placement((50, 40)).input_hw == (32, 32)
        with pytest.raises(InputError, match="uses a crop, not a letterbox"):
            detector.letterbox((50, 40))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("score_threshold", "--conf", 0.4), ("iou_threshold", "--iou", 0.3), ("classes", "--classes", (1,)),
    ],
)  # fmt: skip
def test_options_of_detection_are_refused_by_name(name: str, option: str, value: Any) -> None:
    words = rf"{name} \({option}\): has no effect for a classification model; leave it out"
    with Detector(session([0.0, 2.0, 1.0])) as detector:
        with pytest.raises(InputError, match=words):
            detector(np.zeros((50, 40, 3), np.uint8), **{name: value})
        with pytest.raises(InputError, match=words):
            detector(np.zeros((50, 40, 3), np.uint8), options=DetectOptions(**{name: value}))
    with pytest.raises(InputError, match=words):
        Detector(session([0.0, 2.0, 1.0]), options=DetectOptions(**{name: value}))


def test_a_rectangular_canvas_has_no_meaning_for_a_crop() -> None:
    with pytest.raises(InputError, match=r"shape_mode \(--rect\): has no effect for a classification model"):
        Detector(session([0.0, 2.0, 1.0]), shape_mode="rect")


def test_a_model_that_does_not_say_its_transform_is_asked_for_it() -> None:
    info = replace(INFO, transform=None)
    with pytest.raises(InputError, match=r"m\.onnx: does not say how images become its input: expected the transform"):
        Detector(session([0.0, 2.0, 1.0], info), model_name="m.onnx")
    given = info.with_transform("timm", subject="m.onnx")
    with Detector(session([0.0, 2.0, 1.0], info), given) as detector:
        assert detector.info.transform == transform_of("timm", (32, 32))


def test_the_networks_input_is_normalised_by_the_transform() -> None:
    seen = []

    def run(feeds: Any) -> list[Any]:
        seen.append(feeds["images"])
        return [np.zeros((1, 3), np.float32)]

    spec = TensorSpec("images", "float32", (1, 3, 32, 32))
    record = replace(INFO, batch=1)
    running = ScriptedSession(
        [spec], [TensorSpec("output0", "float32", (1, 3))], run, metadata={METADATA_KEY: record.to_json()}
    )
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    with Detector(running, replace(record, transform=transform_of("yolov5", (32, 32)))) as detector:
        detector(image)
    planes = image[..., ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    want = (planes - np.reshape(np.array([0.485, 0.456, 0.406], np.float32), (3, 1, 1))) / np.reshape(
        np.array([0.229, 0.224, 0.225], np.float32), (3, 1, 1)
    )
    np.testing.assert_array_equal(seen[-1][0], want)


def test_values_normalised_inside_the_graph_cannot_be_changed() -> None:
    info = replace(INFO, input_form="image")
    with pytest.raises(InputError, match="the graph normalises images itself, with other values"):
        info.with_transform("ultralytics", subject="m.onnx")
    assert info.with_transform("torchvision-v2", subject="m.onnx").transform == transform_of("torchvision-v2", (32, 32))


def test_a_transform_is_refused_for_a_model_of_boxes() -> None:
    boxes = ModelInfo("detect", "yolov5", NAMES, (8,), (), "float", "raw", (64, 64), 1)
    with pytest.raises(InputError, match="is for classification models; images of others are letterboxed"):
        boxes.with_transform("timm", subject="m.onnx")
