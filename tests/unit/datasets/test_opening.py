from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.datasets import model_info, write_image, write_text, write_yolo
from yoloship.datasets.opening import open_dataset
from yoloship.errors import InputError

ROW = "1 0.5 0.5 0.2 0.4\n"


def test_a_yolo_dataset_is_opened_by_its_description_its_folder_its_images_or_a_list(tmp_path: Path) -> None:
    yaml = write_yolo(tmp_path, {"a.jpg": ROW})
    listed = write_text(tmp_path / "val.txt", "./images/val/a.jpg\n")
    for place in (yaml, str(yaml), tmp_path, tmp_path / "images", listed):
        dataset = open_dataset(place, info=model_info())
        assert (dataset.kind, len(dataset.samples)) == ("yolo", 1)


def test_other_forms_are_told_by_what_is_there(tmp_path: Path) -> None:
    write_image(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    write_text(
        tmp_path / "voc" / "Annotations" / "a.xml",
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>",
    )
    assert open_dataset(tmp_path / "voc", info=model_info()).kind == "voc"
    write_image(tmp_path / "folders" / "val" / "cat" / "a.jpg")
    assert open_dataset(tmp_path / "folders", info=model_info("classify")).kind == "folders"
    with pytest.raises(InputError, match="is not a dataset in COCO format"):
        open_dataset(write_text(tmp_path / "a.json", "{}"), info=model_info())


def test_a_dataset_of_which_nothing_is_left_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    yaml = write_yolo(tmp_path, {"a.jpg": "x", "b.jpg": "y"})
    with pytest.raises(
        InputError, match=r"no image that can be used; 2 are left out: got first .*a\.txt, line 1: not a"
    ):
        open_dataset(yaml, info=model_info())


def test_what_is_not_there_or_not_for_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dataset"):
        open_dataset(tmp_path / "no.yaml", info=model_info())
    yaml = write_yolo(tmp_path, {"a.jpg": ROW})
    with pytest.raises(InputError, match="is not a dataset for classification"):
        open_dataset(yaml, info=model_info("classify"))
    with pytest.raises(InputError, match="images: is for datasets in COCO format"):
        open_dataset(yaml, info=model_info(), images=tmp_path)
    with pytest.raises(InputError, match="no dataset can be read for the task 'depth'"):
        open_dataset(yaml, info=replace(model_info(), task="depth"))


def test_a_split_of_a_dataset_without_splits_is_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a.jpg": ROW})
    listed = write_text(tmp_path / "val.txt", "./images/val/a.jpg\n")
    write_image(tmp_path / "folders" / "cat" / "a.jpg")
    (tmp_path / "voc" / "Annotations").mkdir(parents=True)
    coco = write_text(tmp_path / "a.json", "{}")
    for place, task in ((tmp_path / "images", "detect"), (listed, "detect"), (tmp_path / "folders", "classify"),
                        (tmp_path / "voc", "detect"), (coco, "detect")):  # fmt: skip
        with pytest.raises(InputError, match="has no split 'test', and is used as a whole; leave the split out"):
            open_dataset(place, split="test", info=model_info(task))
