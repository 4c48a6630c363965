"""The demonstration: what counts as found, what the QR codes say, and engines that cannot be built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yoloship import engine
from yoloship.demo import run as demo
from yoloship.demo.run import read_qr_codes
from yoloship.demo.scene import CLASS_NAMES, Scene, make_scene
from yoloship.errors import DependencyError, EngineError
from yoloship.results.detections import Detections


def truth_of(scene: Scene, shift_px: float = 0.0, classes: tuple[int, ...] = ()) -> Detections:
    count = len(scene.texts)
    ids = np.array(classes or scene.class_ids, np.int32)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    return Detections(scene.boxes_xyxy + np.float32(shift_px), scores, ids, CLASS_NAMES, scene.image.shape[:2])


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(demo.DEFAULT_SEED, demo.SCENE_HW)


def result(found: Detections, codes: int, matched: int) -> demo.DemoResult:
    return demo.DemoResult(found, (None,) * len(found), codes, matched, ())


def test_the_default_scene_has_several_codes_of_each_class(scene: Scene) -> None:
    assert np.bincount(scene.class_ids, minlength=3).min() >= 2


def test_every_code_counts_once(scene: Scene) -> None:
    found = truth_of(scene)
    assert demo.matches(scene, found) == 7
    twice = Detections(
        np.concatenate([found.boxes_xyxy, found.boxes_xyxy]),
        np.concatenate([found.scores, found.scores]),
        np.concatenate([found.class_ids, found.class_ids]),
        CLASS_NAMES,
        found.image_hw,
    )
    assert demo.matches(scene, twice) == 7
    assert result(twice, 7, 7).extra == 7
    assert not result(twice, 7, 7).good


def test_a_box_elsewhere_or_of_another_class_does_not_count(scene: Scene) -> None:
    assert demo.matches(scene, truth_of(scene, shift_px=400)) == 0
    assert demo.matches(scene, truth_of(scene, classes=(0,) * 7)) == int((scene.class_ids == 0).sum())


def test_it_worked_when_nearly_all_codes_were_found_and_hardly_anything_else(scene: Scene) -> None:
    found = truth_of(scene)
    assert result(found, 7, 7).good
    assert result(found, 8, 7).good
    assert not result(found, 10, 7).good
    assert not result(found, 5, 5).good
    assert result(Detections.empty((640, 640), CLASS_NAMES), 0, 0).good


def test_qr_codes_are_read_from_their_boxes_and_other_classes_left_alone(scene: Scene) -> None:
    texts = read_qr_codes(scene.image, truth_of(scene))
    assert texts == [
        text if CLASS_NAMES[class_id] == "qr_code" else None
        for text, class_id in zip(scene.texts, scene.class_ids, strict=True)
    ]


def test_a_box_without_a_readable_code_says_nothing() -> None:
    blank = np.full((640, 640, 3), 200, np.uint8)
    corner = np.array([[0, 0, 20, 20], [600, 600, 640, 640], [5, 5, 5, 5]], np.float32)
    found = Detections(
        corner, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int32), CLASS_NAMES, blank.shape[:2]
    )
    assert read_qr_codes(blank, found) == [None, None, None]


@pytest.fixture
def flavours(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For patching what the room of engines gives: whoever takes names from it on import has done so by then."""
    from yoloship.conversion import engines  # noqa: F401
    from yoloship.models import build_check, building  # noqa: F401

    return monkeypatch


def test_an_engine_that_cannot_be_had_is_a_line_and_no_failure(tmp_path: Path, flavours: pytest.MonkeyPatch) -> None:
    def absent() -> engine.Flavour:
        raise DependencyError("no TensorRT is installed", hint="install one with: pip install 'yoloship[rtx]'")

    flavours.setattr(engine, "open_flavour", absent)
    flavours.setattr(engine, "installed_flavours", tuple)
    went = demo.run_demo(tmp_path / "out")
    last = went.steps[-1]
    assert went.good
    assert last.path is None
    assert last.result == "left out: no TensorRT is installed; install one with: pip install 'yoloship[rtx]'"


def test_an_engine_that_fails_to_build_says_why(tmp_path: Path, flavours: pytest.MonkeyPatch) -> None:
    def broken() -> engine.Flavour:
        raise EngineError("no GPU was found", subject="tensorrt")

    flavours.setattr(engine, "open_flavour", broken)
    flavours.setattr(engine, "installed_flavours", lambda: ("tensorrt",))
    assert demo.run_demo(tmp_path / "out").steps[-1].result == "not built: tensorrt: no GPU was found"
