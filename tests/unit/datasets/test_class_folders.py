from __future__ import annotations

from pathlib import Path

import pytest

from helpers.datasets import model_info, write_image, write_text
from yoloship.datasets.class_folders import read_class_dataset
from yoloship.errors import InputError

INFO = model_info("classify")


def test_folders_are_classes_by_their_names(tmp_path: Path) -> None:
    for name in ("owl/1.jpg", "cat/2.png", "cat/deep/1.jpg"):
        write_image(tmp_path / "val" / name)
    dataset = read_class_dataset(tmp_path, "val", INFO)
    assert [(sample.name, sample.class_id) for sample in dataset.samples] == [
        ("cat/2.png", 0), ("cat/deep/1.jpg", 0), ("owl/1.jpg", 2),
    ]  # fmt: skip
    assert (dataset.kind, dataset.task, dataset.name) == ("folders", "classify", f"{tmp_path} (val)")
    assert dataset.samples[0].image_hw == (40, 80)


def test_folders_of_other_names_count_in_their_order_if_they_are_as_many(tmp_path: Path) -> None:
    for name in ("n3/1.jpg", "n1/1.jpg", "n2/1.jpg"):
        write_image(tmp_path / name)
    dataset = read_class_dataset(tmp_path, "val", INFO)
    assert [(sample.name, sample.class_id) for sample in dataset.samples] == [
        ("n1/1.jpg", 0), ("n2/1.jpg", 1), ("n3/1.jpg", 2),
    ]  # fmt: skip
    assert [fault.problem for fault in dataset.faults] == [
        "no folder has the name of a class, so they count in their order: 'n1' is class 0, 'cat'"
    ]
    assert dataset.left_out == 0


def test_folders_that_are_classes_but_for_upper_case_do_not_count_in_their_order(tmp_path: Path) -> None:
    for name in ("Owl/1.jpg", "CAT/1.jpg", "Zebra/1.jpg"):
        write_image(tmp_path / name)
    with pytest.raises(InputError, match=r"Owl: is not at the position of its class: expected class 1 'dog'"):
        read_class_dataset(tmp_path, "val", INFO)


def test_a_folder_that_is_not_a_class_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "1.jpg")
    write_image(tmp_path / "elk" / "1.jpg")
    with pytest.raises(InputError, match="elk: is not a class of the model: expected cat, dog, owl"):
        read_class_dataset(tmp_path, "val", INFO)


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "cat" / "1.jpg")
    with pytest.raises(InputError, match="there is no folder 'val' beside it"):
        read_class_dataset(tmp_path, "val", INFO)


def test_damaged_images_are_left_out_and_said(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "1.jpg")
    write_text(tmp_path / "dog" / "1.jpg", "no image")
    dataset = read_class_dataset(tmp_path, "val", INFO)
    assert (len(dataset.samples), dataset.left_out) == (1, 1)
    assert dataset.faults[0].path == tmp_path / "dog" / "1.jpg"


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"has no images: expected .*CLASS/1\.jpg"):
        read_class_dataset(tmp_path, "val", INFO)
