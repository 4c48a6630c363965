"""Graphs that suppress: their own thresholds count, unless the user names others."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.cli import run
from helpers.shared import GENERATED, require


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").symlink_to(require(GENERATED / "v7-yolov5n.pt"))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite("a.png", image)
    options = ("--imgsz", "64x96", "--output", "nms", "--conf", "0.0005", "--iou", "0.6", "--max-det", "40")
    assert run("export", "best.pt", "-o", "nms.onnx", *options).code == 0
    return tmp_path


def detections(*options: str) -> int:
    ran = run("detect", "nms.onnx", "a.png", "--no-draw", "--json", "-", *options)
    assert ran.code == 0, ran.err
    return len(json.loads(ran.out)[0]["detections"])


def test_detect_takes_the_graphs_own() -> None:
    every = detections()
    assert 0 < every <= 40
    assert detections("--iou", "0.6", "--conf", "0.0005") == every
    assert detections("--conf", "0.5") == 0


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--iou", "0.45", "iou_threshold (--iou) is fixed at 0.6 inside this graph"),
        ("--conf", "0.0001", "score_threshold (--conf) cannot be below 0.0005"),
        ("--max-det", "300", "max_detections (--max-det) cannot be above 40"),
    ],
)
def test_another_one_is_refused_by_the_options_name(option: str, value: str, words: str) -> None:
    ran = run("detect", "nms.onnx", "a.png", "--no-draw", option, value)
    assert ran.code == 1
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_agnostic_suppression_is_refused_by_its_name() -> None:
    ran = run("detect", "nms.onnx", "a.png", "--no-draw", "--agnostic-nms")
    assert ran.code == 1
    assert "class_agnostic (--agnostic-nms) is fixed at False" in ran.err


def test_verify_takes_the_graphs_own_for_both() -> None:
    ran = run("verify", "best.pt", "nms.onnx", "--imgsz", "64x96", "--images", "a.png", "--json", "-")
    report = json.loads(ran.out)
    assert report["score_threshold"] == 0.0005
    assert report["agreement"]["share"] > 0.95
    low = run("verify", "best.pt", "nms.onnx", "--imgsz", "64x96", "--images", "a.png", "--conf", "0.0001")
    assert low.code == 1
    assert "--conf" in low.err
