from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import numpy as np

from yoloship.datasets.dataset import Fault
from yoloship.validate.record import IOU_THRESHOLDS, ClassFigures, Curves, Validation

CLASS = ClassFigures(0, "cat", 2, 3, 0.5, 0.6, 0.55, 0.7, 0.4, (0.7, *[0.4] * 9))
CURVES = Curves((0,), *(np.linspace(0, 1, 1000).reshape(shape) for shape in [1000, *[(1, 1000)] * 3, 1000, (1, 1000)]))


def validation() -> Validation:
    return Validation(
        "m.pt", "", "d", "detect", "yolov5", "box", 2, 3, 9, 0.5, 0.6, 0.7, 0.4, 0.25, (CLASS,), CURVES,
        np.eye(2, dtype=np.int64), faults=(Fault(Path("a.txt"), 1, "doubled", "row dropped"),),
        settings=MappingProxyType({"imgsz": 640}),
    )  # fmt: skip


def test_a_validation_becomes_plain_data_without_its_curves() -> None:
    plain = json.loads(json.dumps(validation().to_dict()))
    assert "curves" not in plain
    assert plain["classes"][0]["ap_by_iou"] == [0.7, *[0.4] * 9]
    assert plain["confusion"] == {"size": 2, "cells": [[0, 0, 1], [1, 1, 1]]}
    assert plain["faults"] == [{"path": "a.txt", "line": 1, "problem": "doubled", "consequence": "row dropped"}]
    assert plain["settings"] == {"imgsz": 640}
    assert plain["coco"] is None


def test_curves_become_plain_data_on_their_own() -> None:
    plain = json.loads(json.dumps(CURVES.to_dict()))
    assert plain["class_ids"] == [0]
    assert len(plain["confidences"]) == len(plain["recalls"]) == 1000
    assert [len(row) for row in plain["precision_at_recall"]] == [1000]


def test_there_are_ten_thresholds() -> None:
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
