"""Classification exports of others: logits or probabilities, whose classes, and which transform is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.errors import InputError, SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.tasks.classify import softmax
from yoloship.tasks.recognise import recognise_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from yoloship.model import DType

    Floats = npt.NDArray[np.float32]

NAMES = {"names": "{0: 'cat', 1: 'dog', 2: 'cow'}"}
ULTRALYTICS = {**NAMES, "task": "classify", "version": "8.3.63", "imgsz": "[64, 64]"}
IMAGE = np.full((100, 80, 3), 90, np.uint8)


def logits(images: npt.NDArray[Any], classes: int = 3) -> Floats:
    """Numbers that depend on the image, the largest always in class 1."""
    base = images.astype(np.float64).mean(axis=(1, 2, 3))[:, None] * np.arange(classes) - 3
    base[:, 1] += 20
    found: Floats = base.astype(np.float32)
    return found


def session(
    answer: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    shape: tuple[int | str, ...] = (1, 3, 64, 64),
    classes: int = 3,
    dtype: DType = "float32",
) -> ScriptedSession:
    return ScriptedSession(
        [TensorSpec("input", dtype, shape)], [TensorSpec("output", dtype, (shape[0], classes))],
        lambda feeds: [answer(feeds["input"]).astype(dtype)], metadata=metadata,
    )  # fmt: skip


def recognised(found: ScriptedSession, names: tuple[str, ...] | None = None) -> ModelInfo:
    return recognise_foreign(found, "x.onnx", None, names)


def refused(found: ScriptedSession, names: tuple[str, ...] | None = None) -> str:
    with pytest.raises(SessionError) as caught:
        recognised(found, names)
    return str(caught.value)


def test_an_export_of_ultralytics_gives_probabilities_and_its_version_says_the_transform() -> None:
    info = recognised(session(lambda images: softmax(logits(images)), ULTRALYTICS))
    assert (info.task, info.family, info.class_scores, info.strides) == ("classify", "ultralytics", "probabilities", ())
    assert info.transform is not None
    assert (info.transform.kind, info.transform.resize, info.transform.crop) == ("crop", 64, (64, 64))
    assert not info.transform.normalises
    assert ModelInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize("version", ["8.0.200", "", "newest"])
def test_a_version_that_had_another_transform_leaves_it_open(version: str) -> None:
    model = session(lambda images: softmax(logits(images)), {**ULTRALYTICS, "version": version})
    info = recognised(model)
    assert info.transform is None
    with pytest.raises(InputError, match="does not say how images become its input"):
        Detector(model, info)


def test_logits_are_told_from_probabilities_by_several_images() -> None:
    model = session(logits, NAMES)
    info = recognised(model)
    assert (info.family, info.class_scores, info.transform) == ("classifier", "logits", None)
    assert recognised(session(lambda images: softmax(logits(images)), NAMES)).class_scores == "probabilities"
    settled = info.with_transform("yolov5", subject="x.onnx")
    with Detector(model, settled) as detector:
        answer = detector(IMAGE)
    assert answer.class_names[int(answer.probabilities.argmax())] == "dog"
    fed = model.calls[-1]["input"]
    np.testing.assert_allclose(fed[0, 0], (np.float32(90 / 255) - 0.485) / 0.229, rtol=1e-5)


def test_half_precision_and_a_fixed_batch() -> None:
    model = session(lambda images: softmax(logits(images)), ULTRALYTICS, dtype="float16", shape=(4, 3, 64, 64))
    info = recognised(model)
    assert (info.batch, info.class_scores) == (4, "probabilities")
    with Detector(model, info) as detector:
        assert [one.class_names[int(one.probabilities.argmax())] for one in detector.detect_batch([IMAGE] * 2)] == [
            "dog"
        ] * 2


def test_dynamic_sizes_are_those_of_the_metadata_or_224() -> None:
    shape = ("batch", 3, "height", "width")
    model = session(lambda images: softmax(logits(images)), ULTRALYTICS, shape=shape)
    info = recognised(model)
    assert (info.batch, info.input_hw) == (None, (None, None))
    with Detector(model, info) as detector:
        detector(IMAGE)
    assert model.calls[-1]["input"].shape == (1, 3, 64, 64)
    plain = {key: value for key, value in ULTRALYTICS.items() if key != "imgsz"}
    unsaid = recognised(session(lambda images: softmax(logits(images)), plain, shape=shape))
    assert unsaid.transform is not None
    assert unsaid.transform.crop == (224, 224)


def test_a_thousand_classes_are_imagenets_unless_others_are_given() -> None:
    model = session(lambda images: logits(images, 1000), {}, classes=1000)
    assert recognised(model).class_names[0] == "tench"
    given = tuple(f"class {number}" for number in range(1000))
    assert recognised(model, given).class_names == given
    assert "give them with --names" in refused(session(logits, {}))
    assert "2 class names beside an output (B, 3)" in refused(session(logits, {}), ("a", "b"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda images: 1 / (1 + np.exp(-logits(images))), "do not add up to 1"),
        (lambda images: logits(images) / np.linalg.norm(logits(images), axis=1, keepdims=True), "for embeddings"),
        (lambda images: logits(images) * np.nan, "not finite for a grey image"),
    ],
)
def test_other_rows_are_refused(answer: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], words: str) -> None:
    assert words in refused(session(answer, NAMES))


def test_one_number_and_a_contradiction_are_refused() -> None:
    assert "not a score of a class" in refused(session(lambda images: logits(images, 2)[:, :1], {}, classes=1), ("a",))
    assert "scores that are not probabilities" in refused(session(logits, ULTRALYTICS))
    maps = ScriptedSession(
        [TensorSpec("input", "float32", (1, 3, 64, 64))], [TensorSpec("output", "float32", (1, 3, 2, 2))],
        lambda _: [np.zeros((1, 3, 2, 2), np.float32)], metadata=ULTRALYTICS,
    )  # fmt: skip
    assert "a task 'classify' in its metadata, and outputs (1, 3, 2, 2)" in refused(maps)


def test_seven_classes_are_not_taken_for_a_list_of_boxes() -> None:
    names = tuple("abcdefg")
    info = recognised(session(lambda images: logits(images, 7) + 0.1, {}, classes=7), names)
    assert (info.task, info.class_names) == ("classify", names)
    one_box = np.array([[0, 10, 20, 30, 40, 1, 0.5]], np.float32)
    assert recognised(session(lambda _: one_box, {}, classes=7), names).output_form == "list"
