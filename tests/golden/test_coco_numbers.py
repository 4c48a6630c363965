"""COCO's numbers of the official detections in ../shared/val, against those of pycocotools for the same files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.scenes import MODEL
from helpers.shared import SHARED, require
from yoloship.evaluate.coco import Scored, Truth
from yoloship.evaluate.evaluator import evaluate
from yoloship.validate.coco_files import numbering, predictions_file, truth_file
from yoloship.validate.coco_numbers import coco_figures, mean_of
from yoloship.validate.objects import truth_of
from yoloship.validate.opened import OpenOptions
from yoloship.validate.validation import Request, judge_model

VAL = SHARED / "val"
RUNS = sorted(
    name
    for name, run in json.loads((VAL / "results.json").read_text())["runs"].items()
    if run.get("pycocotools") is not None
) if (VAL / "results.json").exists() else ["codes.onnx"]  # fmt: skip
OFFICIAL = {
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP_small": "ap_small", "AP_medium": "ap_medium",
    "AP_large": "ap_large", "AR1": "ar1", "AR10": "ar10", "AR100": "ar", "AR_small": "ar_small",
    "AR_medium": "ar_medium", "AR_large": "ar_large",
}  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
    return rows


def corners(rows: list[dict[str, Any]]) -> Any:
    boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


@pytest.mark.parametrize("name", RUNS)
def test_the_twelve_numbers_and_those_of_classes_are_those_of_pycocotools(name: str) -> None:
    run = json.loads(require(VAL / "results.json").read_text())["runs"][name]
    dataset = json.loads(require(VAL / "sets" / name.partition(".")[0] / "ground-truth.json").read_text())
    one_class = "singlecls" in name
    names = ("object",) if one_class else tuple(category["name"] for category in dataset["categories"])
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    seen: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in dataset["annotations"]:
        by_image[row["image_id"]].append(row)
    for row in rows_of(require(VAL / "runs" / f"{name}.predictions.json.gz")):
        seen[row["image_id"]].append(row)
    scored, truths = [], []
    for image in dataset["images"]:
        objects, found = by_image[image["id"]], seen[image["id"]]
        classes = [0 if one_class else row["category_id"] for row in objects]
        truths.append(
            Truth(corners(objects), np.array(classes, int), areas_px=np.array([row["area"] for row in objects]))
        )
        scored.append(
            Scored(
                corners(found),
                np.array([row["score"] for row in found]),
                np.array([row["category_id"] for row in found], np.int32),
                (image["height"], image["width"]),
            )
        )
    result = evaluate(scored, truths, names)
    figures, expected = coco_figures(result), run["pycocotools"]
    for theirs, ours in OFFICIAL.items():
        assert getattr(figures, ours) == pytest.approx(expected["stats"][theirs], abs=1e-6), theirs
    for class_id, numbers in expected["per_class"].items():
        precision = result.precision[:, :, int(class_id), 0]
        assert mean_of(precision) == pytest.approx(numbers["AP"], abs=1e-6)
        assert mean_of(precision[0]) == pytest.approx(numbers["AP50"], abs=1e-6)


def test_a_whole_validation_has_the_numbers_that_pycocotools_gives_for_its_files() -> None:
    """The bundled model on the codes of ../shared/val, as the command line writes it."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    request = Request(require(VAL / "sets" / "codes" / "data.yaml"), opening=OpenOptions(imgsz=(320, 320)))
    judged = judge_model(MODEL, request)
    figures, numbers = judged.validation.coco, numbering(judged.samples, judged.validation.class_names, "yolov5")
    truths = [truth_of(sample, single_class=False) for sample in judged.samples]
    exact = replace(numbers, rounds=False)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = truth_file(judged.samples, truths, judged.validation.class_names, exact)
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(predictions_file(judged.scored, exact)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert figures is not None
    assert [getattr(figures, name) for name in OFFICIAL.values()] == pytest.approx(judge.stats.tolist(), abs=1e-6)
    assert judged.validation.images == 60
    assert judged.validation.labels == 217


def test_the_files_of_yolov5s_rules_are_the_official_ones_to_the_last_digit() -> None:
    """Rounded as the official tool rounds: a difference of float32 may fall on either side of a half."""
    request = Request(require(VAL / "sets" / "codes" / "data.yaml"), rules="yolov5", batch=1, ids="yolov5")
    judged = judge_model(MODEL, request)
    ours = predictions_file(judged.scored, numbering(judged.samples, judged.validation.class_names, "yolov5"))
    theirs = rows_of(require(VAL / "runs" / "codes.pt-b1.predictions.json.gz"))
    assert len(ours) == len(theirs)

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["image_id"], -row["score"], row["category_id"], row["bbox"]

    for own, official in zip(sorted(ours, key=order), sorted(theirs, key=order), strict=True):
        assert (own["image_id"], own["category_id"]) == (official["image_id"], official["category_id"])
        assert own["bbox"] == pytest.approx(official["bbox"], abs=1.5e-3)
        assert own["score"] == pytest.approx(official["score"], abs=1.5e-5)
