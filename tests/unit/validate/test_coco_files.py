"""Truth and detections as COCO's files: their ids agree, and pycocotools reads them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.validated import BOX, FAR, NAMES, OTHER, found, sample
from yoloship.errors import InputError
from yoloship.evaluate.coco import Scored, Truth
from yoloship.sinks.coco_results import COCO_IDS
from yoloship.validate.coco_files import Ids, numbering, predictions_file, truth_file

SAMPLES = [sample("0017.jpg", [BOX, OTHER], [0, 2]), sample("sub/0021.jpg", [FAR], [1]), sample("0022.jpg", [], [])]
TRUTHS = [one.truth for one in SAMPLES if one.truth is not None]
FOUND = [found([BOX, FAR], [0.91234567, 0.8], [0, 1]), found([FAR], [0.7], [1]), found([], [], [])]


def precision_of_files(tmp_path: Path, ids: Ids) -> tuple[float, Any, Any]:
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    numbers = numbering(SAMPLES, NAMES, ids)
    truth, found_rows = truth_file(SAMPLES, TRUTHS, NAMES, numbers), predictions_file(FOUND, numbers)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found_rows))
    with contextlib.redirect_stdout(io.StringIO()):
        read = coco.COCO(str(tmp_path / "truth.json"))
        judge = evaluation.COCOeval(read, read.loadRes(str(tmp_path / "found.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), truth, found_rows


def test_pycocotools_reads_both_files_and_finds_the_same(tmp_path: Path) -> None:
    ap, truth, rows = precision_of_files(tmp_path, "coco")
    assert ap == pytest.approx((1 + 0.5 + 0) / 3)  # the dog after a false one, the owl never
    assert [image["id"] for image in truth["images"]] == [1, 2, 3]
    assert [row["category_id"] for row in rows] == [1, 2, 2]


def test_as_yolov5_numbers_are_those_of_the_files_and_categories_count_from_zero(tmp_path: Path) -> None:
    ap, truth, rows = precision_of_files(tmp_path, "yolov5")
    assert ap == pytest.approx(0.5)
    assert [image["id"] for image in truth["images"]] == [17, 21, 22]
    assert rows[0] == {"image_id": 17, "category_id": 0, "bbox": [10, 10, 20, 20], "score": 0.91235}
    assert [category["id"] for category in truth["categories"]] == [0, 1, 2]


def test_the_ids_of_a_coco_file_are_kept() -> None:
    samples = [replace(one, image_id=number) for one, number in zip(SAMPLES, (900, 5, 77), strict=True)]
    numbers = numbering(samples, NAMES, "coco", (90, None, 3))
    assert (numbers.images, numbers.categories) == ((900, 5, 77), (90, 92, 3))  # a class that the file does not have
    assert numbering(samples, NAMES, "coco", ("a", "b", "c")).categories == ("a", "b", "c")
    assert numbering(samples, NAMES, "coco", ("a", None, "c")).categories == ("a", "class 1", "c")
    assert numbering(samples, NAMES, "coco", ("a", 5, "c")).categories == (1, 2, 3)
    assert numbering(SAMPLES, NAMES, "yolov5", (90, None, 3)).categories == (0, 1, 2)


def test_cocos_eighty_classes_have_their_official_ids() -> None:
    names = ("person", *(f"class {number}" for number in range(78)), "toothbrush")
    assert numbering(SAMPLES, names, "coco").categories == COCO_IDS
    assert numbering(SAMPLES, names, "yolov5").categories == COCO_IDS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.jpg", "b/01.jpg"], r"a/1\.jpg and b/01\.jpg would both have the image id 1; use --ids coco"),
        (["1.jpg", "cat.jpg"], r"some images are named by numbers, and others, such as cat\.jpg, are not"),
    ],
)
def test_names_that_give_no_ids_are_refused(names: list[str], message: str) -> None:
    samples = [sample(name, [BOX], [0]) for name in names]
    with pytest.raises(InputError, match=message):
        numbering(samples, NAMES, "yolov5")
    assert numbering(samples, NAMES, "coco").images == (1, 2)


def test_masks_keypoints_and_oriented_boxes_are_written() -> None:
    one = sample("1.jpg", [BOX], [0])
    numbers = numbering([one], NAMES, "coco")
    plain = FOUND[0]
    first = Scored(plain.boxes_xyxy[:1], plain.scores[:1], plain.class_ids[:1], plain.image_hw)
    mask = {"size": [100, 100], "counts": "abc"}
    assert predictions_file([replace(first, masks=(mask,))], numbers)[0]["segmentation"] == mask
    points = np.array([[[1, 2], [3, 4]]], np.float32)
    assert predictions_file([replace(first, keypoints=points)], numbers)[0]["keypoints"] == [1, 2, 1, 3, 4, 1]
    box = np.array([[20, 20, 20, 20, 0]], np.float32)
    (corners,) = predictions_file([replace(first, boxes_xywhr=box)], numbers)[0]["segmentation"]
    assert sorted(corners) == [10, 10, 10, 10, 30, 30, 30, 30]
    truth = Truth(np.array([BOX]), np.array([0]), boxes_xywhr=box.astype(float))
    (row,) = truth_file([one], [truth], NAMES, numbers)["annotations"]
    assert "xywhr" not in row
    assert sorted(row["segmentation"][0]) == sorted(corners)
