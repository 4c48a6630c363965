"""YOLO label files: read back, they are the objects that were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yoloship.errors import ImageError, OutputError
from yoloship.evaluate.labels import read_label
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks
from yoloship.sinks import Entry
from yoloship.sinks.yolo_labels import ScoredLabels, YoloLabels, label_names

HW = (60, 80)
BOXES = np.array([[10.5, 20, 30.25, 40], [40, 20, 60, 40.1]], np.float32)


def found(**extras: Any) -> Detections:
    ids = np.array([1, 0], np.int32)
    return Detections(BOXES, np.array([0.9, 0.5], np.float32), ids, ("cat", "dog"), HW, **extras)


def lines(folder: Path, result: Detections, kind: type[YoloLabels] = YoloLabels) -> list[list[float]]:
    with kind.open(folder / "labels", overwrite=True, inputs=[Path("in/a.jpg")]) as sink:
        sink.write(Entry("in/a.jpg", result))
    text = (folder / "labels" / "a.txt").read_text(encoding="utf-8")
    return [[float(number) for number in line.split()] for line in text.splitlines()]


def test_boxes_read_back_as_the_boxes_that_they_were(tmp_path: Path) -> None:
    assert lines(tmp_path, found())[0] == [1, 0.254688, 0.5, 0.246875, 0.333333]
    ids, boxes = np.array([row[0] for row in lines(tmp_path, found())]), np.array(lines(tmp_path, found()))[:, 1:]
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    np.testing.assert_allclose(corners * [80, 60, 80, 60], BOXES, atol=1e-3)
    assert ids.tolist() == [1, 0]


def test_our_own_reader_of_labels_reads_them(tmp_path: Path) -> None:
    lines(tmp_path, found())
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros(HW, np.uint8))
    truth = read_label(tmp_path / "labels" / "a.txt", tmp_path / "a.png")
    np.testing.assert_allclose(truth.boxes_xyxy, BOXES, atol=1e-3)
    assert truth.class_ids.tolist() == [1, 0]


def test_a_mask_is_the_outline_of_its_largest_part(tmp_path: Path) -> None:
    mask = np.zeros((2, *HW), bool)
    mask[0, 20:40, 10:30] = mask[0, 5:8, 60:63] = True
    (row,) = lines(tmp_path, found(masks=Masks.from_array(mask)))
    points = np.array(row[1:]).reshape(-1, 2) * [80, 60]
    assert row[0] == 1
    np.testing.assert_allclose(points.min(axis=0), [10, 20], atol=1e-3)
    np.testing.assert_allclose(points.max(axis=0), [29, 39], atol=1e-3)


@pytest.mark.parametrize("numbers", [2, 3])
def test_keypoints_follow_the_box(tmp_path: Path, numbers: int) -> None:
    points = np.array([[[40, 30, 0.25]] * 2] * 2, np.float32)[..., :numbers]
    first, _ = lines(tmp_path, found(keypoints=points))
    assert first[5:] == [0.5, 0.5, 0.25][:numbers] * 2


def test_an_oriented_box_is_its_four_corners(tmp_path: Path) -> None:
    oriented = np.array([[40, 30, 20, 12, 0], [50, 30, 20, 6, 1]], np.float32)
    first, _ = lines(tmp_path, found(boxes_xywhr=oriented))
    assert first == [1, 0.625, 0.6, 0.625, 0.4, 0.375, 0.4, 0.375, 0.6]


def test_scores_come_last_if_they_are_asked_for(tmp_path: Path) -> None:
    plain, scored = lines(tmp_path, found()), lines(tmp_path, found(), ScoredLabels)
    assert [row[:-1] for row in scored] == plain
    assert [row[-1] for row in scored] == [0.9, 0.5]


def test_nothing_found_is_an_empty_file_and_a_failed_image_has_none(tmp_path: Path) -> None:
    assert lines(tmp_path, Detections.empty(HW)) == []
    with YoloLabels.open(tmp_path / "x") as sink:
        sink.write(Entry("a.jpg", None, ImageError("no such file")))
        sink.write(Entry("b.jpg", Detections.empty(HW), index=1))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["000002.txt"]


def test_images_of_one_name_have_files_of_their_own() -> None:
    inputs = [Path(name) for name in ("a/1.jpg", "b/1.png", "1.JPG", "1-2.jpg", "É.jpg", "é.png")]
    assert label_names(inputs) == ("1.txt", "1-2.txt", "1-3.txt", "1-2-2.txt", "É.txt", "é-2.txt")


def test_a_result_without_boxes_is_refused(tmp_path: Path) -> None:
    class Label:
        task = "classify"

    other: Any = Label()
    with YoloLabels.open(tmp_path) as sink, pytest.raises(OutputError, match=r"a.jpg: has no boxes"):
        sink.write(Entry("a.jpg", other))


def test_the_track_is_the_last_column(tmp_path: Path) -> None:
    tracked = found(track_ids=np.array([7, -1], np.int32))
    assert [row[5:] for row in lines(tmp_path, tracked)] == [[7], [-1]]
    assert [row[5:] for row in lines(tmp_path, tracked, ScoredLabels)] == [[0.9, 7], [0.5, -1]]


def test_without_known_inputs_a_file_has_the_stem_of_its_entry(tmp_path: Path) -> None:
    with YoloLabels.open(tmp_path / "x") as sink:
        sink.write(Entry("clip.mp4#17", Detections.empty(HW), stem="clip_17"))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["clip_17.txt"]
