"""The main job through the command line: a trained checkpoint, photographs, the reference detections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.cli import run
from helpers.shared import PHOTOS, TRAINED, require
from yoloship.images import read_image

REFERENCE = "conf0.25_iou0.45"


@pytest.mark.parametrize("name", ["coco-yolov5n", "ppe-yolov5n", "damage-yolov5n"])
def test_detect_on_a_checkpoint_gives_the_reference_detections_and_images_to_look_at(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path / "cache"))
    reference = json.loads(require(PHOTOS / "detections.json").read_bytes())[name]
    checkpoint = require(TRAINED / f"{name}.pt")
    ran = run("detect", checkpoint, require(PHOTOS), "-o", "found", "--json", "found.json")
    assert ran.code == 0

    document = json.loads(Path("found.json").read_bytes())
    assert [Path(entry["input"]).name for entry in document] == ["bus.jpg", "street.jpg", "zidane.jpg"]
    for entry in document:
        photo = Path(entry["input"])
        expected = sorted(reference["images"][photo.name][REFERENCE], key=lambda row: (row[5], -row[4]))
        found = sorted(entry["detections"], key=lambda row: (row["class_id"], -row["score"]))
        assert [row["class_id"] for row in found] == [int(row[5]) for row in expected]
        assert [row["class_name"] for row in found] == [reference["names"][int(row[5])] for row in expected]
        scores = np.array([row["score"] for row in found]) - [row[4] for row in expected]
        assert np.abs(scores).max(initial=0) <= 0.002
        before, after = read_image(photo), read_image(Path("found") / photo.name)
        assert after.shape == before.shape
        drawn = (np.abs(before.astype(int) - after).max(axis=2) > 60).mean()
        assert drawn > 0.002 if found else drawn < 0.002

    cached = list((tmp_path / "cache" / "graphs").iterdir())
    assert len(cached) == 1
    again = run("detect", checkpoint, require(PHOTOS), "--no-draw", "--json", "-")
    for entry in document:
        assert Path(entry.pop("annotated")) == Path("found") / Path(entry["input"]).name
    assert json.loads(again.out) == document
    assert list((tmp_path / "cache" / "graphs").iterdir()) == cached
