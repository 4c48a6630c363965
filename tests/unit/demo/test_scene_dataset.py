"""Scenes as a dataset on disk: readable by others, the same bytes each time, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED, DatasetConfig, DatasetFormat, make_scene, write_dataset
from yoloship.errors import InputError, OutputError
from yoloship.images import read_image


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_coco_annotations_are_the_scenes_boxes(tmp_path: Path) -> None:
    codes = write_dataset(tmp_path / "set", DatasetConfig(3, first_seed=1))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "set" / "annotations.json")
    scenes = [make_scene(seed) for seed in (1, 2, 3)]
    assert codes == sum(len(scene.texts) for scene in scenes)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)
    for image_id, scene in zip(coco.getImgIds(), scenes, strict=True):
        (image,) = coco.loadImgs(image_id)
        assert read_image(tmp_path / "set" / "images" / image["file_name"]).shape == (
            image["height"],
            image["width"],
            3,
        )
        entries = coco.loadAnns(coco.getAnnIds(image_id))
        assert [entry["category_id"] - 1 for entry in entries] == scene.class_ids.tolist()
        x, y, width, height = np.array([entry["bbox"] for entry in entries]).reshape(-1, 4).T
        np.testing.assert_allclose(np.stack([x, y, x + width, y + height], axis=1), scene.boxes_xyxy, atol=1e-4)


def test_yolo_labels_are_the_scenes_boxes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", DatasetConfig(3, first_seed=1, format="yolo", size_hw=(320, 480)))
    assert (tmp_path / "set" / "data.yaml").read_text() == (
        "train: images\nval: images\nnames:\n  0: qr_code\n  1: marker\n  2: barcode\n"
    )
    for seed in (1, 2, 3):
        assert (tmp_path / "set" / "images" / f"{seed:010d}.jpg").exists()
        text = (tmp_path / "set" / "labels" / f"{seed:010d}.txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 5)
        scene = make_scene(seed, (320, 480))
        assert rows[:, 0].tolist() == scene.class_ids.tolist()
        centres, sizes = rows[:, 1:3] * (480, 320), rows[:, 3:] * (480, 320)
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        np.testing.assert_allclose(boxes, scene.boxes_xyxy, atol=1e-3)


@pytest.mark.parametrize("label_format", ["coco", "yolo"])
def test_the_same_order_gives_the_same_bytes(tmp_path: Path, label_format: DatasetFormat) -> None:
    order = DatasetConfig(2, format=label_format, size_hw=(160, 160))
    write_dataset(tmp_path / "a", order)
    write_dataset(tmp_path / "b", order)
    assert content(tmp_path / "a") == content(tmp_path / "b") != {}


def test_the_images_are_the_scenes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", DatasetConfig(1))
    difference = np.abs(read_image(tmp_path / "set" / "images" / "0000000000.jpg").astype(int) - make_scene(0).image)
    assert difference.mean() < 3


def test_progress_is_told_after_each_scene(tmp_path: Path) -> None:
    steps: list[tuple[str, float, float]] = []
    write_dataset(tmp_path / "set", DatasetConfig(3, size_hw=(160, 160)), lambda *step: steps.append(step))
    assert steps == [("making scenes", done, 3) for done in (1, 2, 3)]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", DatasetConfig(3, size_hw=(160, 160)), interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(OutputError, match="set: already exists; give the name of a new folder"):
        write_dataset(tmp_path / "set", DatasetConfig(1))
    assert list((tmp_path / "set").iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/set: cannot be written: Not a directory"):
        write_dataset(tmp_path / "file" / "set", DatasetConfig(1))


def test_orders_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="count: out of range: expected 1 to 1000000, got 0"):
        DatasetConfig(0)
    with pytest.raises(InputError, match="format: no such format: expected coco or yolo, got 'voc'"):
        DatasetConfig(1, format="voc")  # type: ignore[arg-type]  # what a caller without a type checker may do
    with pytest.raises(InputError, match="reach from those for training into those held out"):
        DatasetConfig(2, first_seed=HELD_OUT_SEED - 1)


def test_the_json_is_plain_and_small(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", DatasetConfig(1))
    document = json.loads((tmp_path / "set" / "annotations.json").read_bytes())
    assert sorted(document) == ["annotations", "categories", "images", "info"]
    assert document["info"]["first_seed"] == 0
