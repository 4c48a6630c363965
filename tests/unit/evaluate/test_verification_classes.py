"""Comparing two classification models, on scripted ones whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from yoloship.detect.detector import Detector
from yoloship.errors import InputError
from yoloship.evaluate.coco import Truth
from yoloship.evaluate.reports import facts, plot
from yoloship.evaluate.verification import Tolerances, verify
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime.scripted import ScriptedSession
from yoloship.transforms import transform_of

if TYPE_CHECKING:
    from pathlib import Path

HW = (32, 32)
INFO = ModelInfo(
    "classify", "resnet", ("dark", "light"), (), (), "float", "raw", HW, 1, class_scores="probabilities",
    transform=transform_of("ultralytics", HW),
)  # fmt: skip


def model(offset: float = 0.0, info: ModelInfo = INFO) -> Detector:
    """Says how light an image is."""

    def run(feeds: Any) -> list[Any]:
        light = np.clip(feeds["images"].mean() + offset, 0, 1)
        return [np.array([[1 - light, light]], np.float32)]

    spec = TensorSpec("images", "float32", (1, 3, *HW))
    return Detector(
        ScriptedSession(
            [spec], [TensorSpec("output0", "float32", (1, 2))], run, metadata={METADATA_KEY: info.to_json()}
        )
    )


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two images of each class, each in the folder of its class."""
    paths = []
    for name, levels in (("dark", (10, 120)), ("light", (150, 240))):
        (tmp_path / name).mkdir()
        for level in levels:
            paths.append(tmp_path / name / f"{level}.png")
            cv2.imwrite(str(paths[-1]), np.full((40, 50, 3), level, np.uint8))
    return paths


def test_two_equal_models_agree_and_have_one_accuracy(images: list[Path]) -> None:
    with model() as one, model() as other:
        found = verify(("a", one), ("b", other), images)
    assert found.passed
    assert (found.task, found.images, found.agreement.share) == ("classify", 4, 1.0)
    assert [(side.top1, side.top5, side.map50_95) for side in found.sides] == [(1.0, 1.0, None)] * 2
    data = json.loads(json.dumps(found.to_dict()))
    assert data["passed"] is True
    assert data["details"][0] | {"limit": None} == {
        "name": "probability difference", "unit": "", "mean": 0.0, "worst": 0.0, "limit": None,
    }  # fmt: skip
    rows = dict(facts(found))
    assert rows["classes"] == "4 of 4 images have the same top class"
    assert "4 images" in rows["B"]
    assert rows["B"].endswith("top-1 1.0000, top-5 1.0000")
    assert plot(found).shape[2] == 3


def test_a_model_that_says_other_classes_fails_by_name(images: list[Path]) -> None:
    with model() as one, model(offset=0.1) as other:
        found = verify(("a", one), ("b", other), images)
    assert not found.passed
    assert (found.agreement.share, found.sides[1].top1) == (0.75, 0.75)
    assert found.details[0].worst == pytest.approx(0.1, abs=1e-6)
    assert [check.name for check in found.checks if not check.passed] == [
        "agreement", "mean probability difference", "top-1 accuracy lost",
    ]  # fmt: skip
    with model() as one, model(offset=0.1) as other:
        loose = Tolerances(agreement=0.7, score=0.2, drop=0.3)
        assert verify(("a", one), ("b", other), images, tolerances=loose).passed


def test_the_truth_can_be_given_and_a_threshold_cannot(images: list[Path]) -> None:
    wrong = [Truth(np.zeros((1, 4)), np.array([1]))] * 4
    with model() as one, model() as other:
        assert verify(("a", one), ("b", other), images, truths=wrong).sides[0].top1 == 0.5
        with pytest.raises(InputError, match=r"score_threshold \(--conf\): has no effect for a classification model"):
            verify(("a", one), ("b", other), images, score_threshold=0.5)
        with pytest.raises(InputError, match="class 2: has no name: expected 0 to 1"):
            verify(("a", one), ("b", other), images, truths=[Truth(np.zeros((1, 4)), np.array([2]))] * 4)


def test_images_in_folders_of_other_names_have_no_accuracy(images: list[Path], tmp_path: Path) -> None:
    images[0].rename(tmp_path / "elsewhere.png")
    paths = [tmp_path / "elsewhere.png", *images[1:]]
    with model() as one, model() as other:
        found = verify(("a", one), ("b", other), paths)
    assert [side.top1 for side in found.sides] == [None, None]
    assert len(found.checks) == 2


def test_models_that_cannot_be_compared_are_refused(images: list[Path]) -> None:
    other = replace(INFO, transform=transform_of("torchvision-v1:mean=0/0/0,std=1/1/1", HW))
    renamed = replace(INFO, class_names=("a", "b"))
    with model() as one, model(info=other) as cut, model(info=renamed) as named:
        with pytest.raises(InputError, match="b: the two models see different parts of an image"):
            verify(("a", one), ("b", cut), images)
        with pytest.raises(InputError, match="the two models have different classes"):
            verify(("a", one), ("b", named), images)
        with pytest.raises(InputError, match="no images to compare on"):
            verify(("a", one), ("b", one), [])
