"""`yoloship.val`: a model and a dataset in, a record out, by either rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import yoloship
from helpers.scenes import MODEL, held_out_scenes
from yoloship.detect.detector import Detector
from yoloship.errors import InputError
from yoloship.models.loading import load
from yoloship.validate.validation import Request, judge_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes that the bundled model was not trained on."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for index, (image, boxes, class_ids) in enumerate(held_out_scenes()[:4]):
        assert cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
        middle, size = (boxes[:, :2] + boxes[:, 2:]) / 1280, (boxes[:, 2:] - boxes[:, :2]) / 640
        rows = [
            f"{name} {x} {y} {w} {h}\n" for name, (x, y, w, h) in zip(class_ids, np.hstack([middle, size]), strict=True)
        ]
        (folder / "labels" / f"{index}.txt").write_text("".join(rows))
    (folder / "data.yaml").write_text("val: images\nnames: [qr_code, marker, barcode]\n")
    return folder / "data.yaml"


def test_a_model_is_judged_by_cocos_rules(data: Path) -> None:
    found = yoloship.val(MODEL, data)
    assert (found.rules, found.metric, found.images) == ("coco", "box", 4)
    assert found.map50_95 is not None
    assert found.map50 is not None
    assert 0.5 < found.map50_95 <= found.map50 <= 1
    assert found.model == MODEL.name
    assert len(found.model_sha256) == 64


def test_a_detector_that_is_open_is_judged_as_it_is_and_stays_open(data: Path) -> None:
    with yoloship.load(MODEL, imgsz=320) as detector:
        found = yoloship.val(detector, data)
        assert found.settings["input"] == "320×320"
        with pytest.raises(InputError, match="imgsz, rectangles: has no effect with a detector, which is open already"):
            yoloship.val(detector, data, imgsz=640, rectangles=True)
        detector(np.zeros((64, 64, 3), np.uint8))


def test_yolov5s_rules_have_cocos_numbers_of_the_same_detections_beside_them(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Detector[Any]] = []

    def counting(*arguments: Any, **options: Any) -> Detector[Any]:
        opened.append(load(*arguments, **options))
        return opened[-1]

    for place in ("validate.yolov5.network", "evaluate.artefact", "validate.opened"):
        monkeypatch.setattr(f"yoloship.{place}.load", counting)
    found = yoloship.val(MODEL, data, rules="yolov5", imgsz=320, batch=2)
    assert len(opened) == 1
    assert found.model_sha256 == opened[0].info.checkpoint_sha256
    assert (found.rules, found.images) == ("yolov5", 4)
    assert found.coco is not None
    assert found.coco.ap is not None
    assert found.map50_95 != found.coco.ap
    assert found.curves is not None
    assert found.worst or found.recall == 1
    assert found.class_names == ("qr_code", "marker", "barcode")


def test_arguments_without_effect_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="batch: has no effect with COCO's rules"):
        yoloship.val(MODEL, data, batch=8)
    with pytest.raises(InputError, match="device, class_names, confidence: has no effect with YOLOv5's rules"):
        yoloship.val(MODEL, data, rules="yolov5", device="cpu", class_names=["a"], confidence=0.5)
    with pytest.raises(InputError, match="imgsz: must be one number with YOLOv5's rules: got 320×640"):
        yoloship.val(MODEL, data, rules="yolov5", imgsz=(320, 640))


def test_files_that_cannot_be_written_are_refused_before_the_model_runs(data: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for folder in ("a", "b"):
        (images / folder).mkdir(parents=True)
        (tmp_path / "labels" / folder).mkdir(parents=True)
        (tmp_path / "labels" / folder / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        (images / folder / "1.png").write_bytes((data.parent / "images" / "0.png").read_bytes())
    seen: list[str] = []
    request = Request(images, ids="yolov5")
    with pytest.raises(InputError, match=r"would both have the image id 1; use --ids coco"):
        judge_model(MODEL, request, lambda what, done, total: seen.append(what))
    assert "validating" not in seen


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"rules": "COCO"}, "rules: wrong value: expected coco or yolov5, got 'COCO'"),  # not YOLOv5's then
        ({"class_names": "abc"}, "class_names: wrong value: expected a sequence of names, got 'abc'"),
        ({"data": 5}, "data: wrong value: expected the name of a file or a folder, got 5"),
        ({"model": None}, "model: wrong value: expected a name or a Detector, got None"),
    ],
)
def test_arguments_of_another_kind_are_refused(data: Path, given: dict[str, Any], refusal: str) -> None:
    with pytest.raises(InputError, match=refusal):
        yoloship.val(**{"model": MODEL, "data": data, **given})


def test_a_dataset_without_objects_is_refused_before_the_model_runs(data: Path, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "1.png").write_bytes((data.parent / "images" / "0.png").read_bytes())
    (tmp_path / "labels" / "1.txt").write_text("")
    seen: list[str] = []
    for rules in ("coco", "yolov5"):
        with pytest.raises(InputError, match="images: no image has an object, so precision cannot be computed"):
            judge_model(MODEL, Request(tmp_path / "images", rules=rules), lambda what, *_: seen.append(what))
    assert "validating" not in seen
