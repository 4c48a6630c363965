"""Foreign files after public reports of what people meet: they work, or are refused as what they are."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.shared import PHOTOS, SHARED, require
from yoloship.errors import SessionError
from yoloship.evaluate.artefact import open_artefact
from yoloship.evaluate.verification import verify
from yoloship.models.loading import load

CASES = SHARED / "cases"


@pytest.mark.parametrize(
    ("name", "strides", "hw"),
    [
        ("half", (8, 16, 32), (640, 640)),
        ("fake-dynamic", (8, 16, 32), (640, 640)),
        ("single-level", (8,), (320, 320)),
        ("three-level-4-8-16", (4, 8, 16), (320, 320)),
    ],
)
def test_right_files_work(name: str, strides: tuple[int, ...], hw: tuple[int, int]) -> None:
    with load(require(CASES / f"{name}.onnx")) as detector:
        assert detector.info.strides == strides
        assert detector.info.input_hw == hw
        assert len(detector(require(PHOTOS / "bus.jpg"))) > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [("xyxy", "corners"), ("yolox", "as in YOLOX exports")],
)
def test_other_forms_are_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        load(require(CASES / f"{name}.onnx"))


def test_baked_sizes_are_said_in_one_line() -> None:
    with pytest.raises(SessionError, match="fixed to 640×640: expected 640×640, got 320×320"):
        load(require(CASES / "fake-dynamic.onnx"), imgsz=320)


def test_half_precision_gives_what_float32_gives() -> None:
    images = [require(PHOTOS / name) for name in ("bus.jpg", "street.jpg", "zidane.jpg")]
    with (
        open_artefact(require(CASES / "fake-dynamic.onnx")) as wide,
        load(require(CASES / "half.onnx"), device="cpu") as half,
    ):
        found = verify(("wide", wide), ("half", half), images)
    assert found.passed, found.checks
    assert np.mean([level.score_mean for level in found.levels]) < 1e-3


@pytest.mark.parametrize("name", ["cls", "cos4g", "exp4g", "loop"])
@pytest.mark.timeout(60)
def test_hostile_graphs_are_refused_before_they_run(name: str) -> None:
    with pytest.raises(SessionError, match=r"too much memory|control flow"):
        load(require(CASES / "hostile" / f"{name}.onnx"))
