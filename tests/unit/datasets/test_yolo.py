from __future__ import annotations

from pathlib import Path

import pytest

from helpers.datasets import NAMES, model_info, write_image, write_text, write_yolo
from yoloship.datasets.dataset import Dataset
from yoloship.datasets.yolo import files_of_place, files_of_yaml, label_path, read_yolo
from yoloship.errors import InputError
from yoloship.evaluate.label_lines import BOXES

ROW = "1 0.5 0.5 0.2 0.4\n"


def read(yaml: Path, split: str = "val") -> Dataset:
    return read_yolo(files_of_yaml(yaml, split), BOXES, model_info())


def test_a_dataset_has_its_images_labels_and_names(tmp_path: Path) -> None:
    dataset = read(write_yolo(tmp_path, {"b.jpg": ROW * 1, "a.png": "0 0.5 0.5 1 1\n2 0.5 0.5 0.1 0.1\n"}))
    assert (dataset.kind, dataset.task, dataset.class_names) == ("yolo", "detect", NAMES)
    assert [sample.name for sample in dataset.samples] == ["images/val/a.png", "images/val/b.jpg"]
    assert [sample.object_count for sample in dataset.samples] == [2, 1]
    assert dataset.samples[0].image_hw == (40, 80)
    assert dataset.name == f"{tmp_path / 'data.yaml'} (val)"


def test_what_is_missing_empty_doubled_and_left_out_is_counted(tmp_path: Path) -> None:
    yaml = write_yolo(
        tmp_path, {"a.jpg": ROW, "b.jpg": None, "c.jpg": "", "d.jpg": ROW + ROW, "e.jpg": "0 2 2 2 2\n", "f.jpg": ROW}
    )
    (tmp_path / "images" / "val" / "f.jpg").write_bytes(b"")
    dataset = read(yaml)
    assert [sample.path.name for sample in dataset.samples] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    counts = (dataset.left_out, dataset.missing_labels, dataset.empty_labels, dataset.duplicate_rows)
    assert counts == (2, 1, 1, 1)
    assert [fault.path.name for fault in dataset.faults] == ["d.txt", "e.txt", "f.jpg"]


def test_a_dataset_is_never_changed(tmp_path: Path) -> None:
    yaml = write_yolo(tmp_path, {"a.jpg": ROW + ROW, "b.jpg": "x"})
    image = tmp_path / "images" / "val" / "a.jpg"
    image.write_bytes(image.read_bytes() + bytes(10))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read(yaml)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_path_is_taken_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_yolo(tmp_path / "data", {"a.jpg": ROW})
    yaml = write_text(tmp_path / "configs" / "x.yaml", "path: ../data\nval: images/val\nnames: {0: a, 1: b, 2: c}\n")
    monkeypatch.chdir("/")
    dataset = read(yaml)
    assert dataset.class_names == ("a", "b", "c")
    assert [sample.name for sample in dataset.samples] == ["images/val/a.jpg"]


def test_a_split_may_be_a_list_of_folders_and_list_files(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a.jpg": ROW})
    write_image(tmp_path / "images" / "more" / "b.jpg")
    write_image(tmp_path / "images" / "other" / "c.jpg")
    write_text(tmp_path / "one.txt", "./images/other/c.jpg\n")
    yaml = write_text(tmp_path / "x.yaml", "test: [images/val, images/more, one.txt]\nnames: [cat, dog, owl]\n")
    assert [sample.path.name for sample in read(yaml, "test").samples] == ["b.jpg", "c.jpg", "a.jpg"]


def test_a_path_that_goes_up_one_folder_too_far_is_found_and_said(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a.jpg": ROW})
    yaml = write_text(tmp_path / "x.yaml", "val: ../images/val\nnames: [cat, dog, owl]\n")
    dataset = read(yaml)
    assert len(dataset.samples) == 1
    assert [str(fault) for fault in dataset.faults] == [
        f"{yaml}: val: ../images/val does not exist, and images/val was taken (kept)"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("names: [a]\ntrain: images\n", r"names no val images: expected a line 'val: …', got train; choose another"),
        ("names: [a]\n", "names no val images: .* got no split"),
        ("val: images/val\n", "names is missing, or not a list of names"),
        ("val: images/val\nnames: []\n", "names is missing"),
        ("val: images/val\nnames: [a, '']\n", "names is missing, or not a list"),
        ("val: images/val\nnames: {0: a, 2: b}\n", "names has ids that are not 0, 1, 2, …: .* got 0, 2"),
        ("val: images/val\nnames: {a: 0}\n", "names has ids"),
        ("val: {a: 1}\nnames: [a]\n", "val is not a path or a list of paths"),
        ("val: 5\nnames: [a]\n", "val is not a path"),
        ("path: 5\nval: images\nnames: [a]\n", "path is not text"),
        ("val: nowhere\nnames: [a]\n", "val: no such folder or list: got .*nowhere; 'path:' is relative to"),
        ("- a\n", "is not a mapping"),
    ],
)
def test_a_description_that_is_wrong_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"data\.yaml: {problem}"):
        files_of_yaml(write_yolo(tmp_path, {"a.jpg": ROW}, text), "val")


def test_a_download_in_the_description_is_not_followed(tmp_path: Path) -> None:
    yaml = write_yolo(tmp_path, {"a.jpg": ROW}, "val: images/val\nnames: [a, b, c]\ndownload: |\n  import os\n")
    assert len(read(yaml).samples) == 1


def test_names_stay_text(tmp_path: Path) -> None:
    yaml = write_yolo(tmp_path, {"a.jpg": ROW}, "val: images/val\nnames: [no, 1, null]\n")
    assert read(yaml).class_names == ("no", "1", "null")


def test_a_folder_alone_takes_the_names_of_the_model(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a.jpg": ROW})
    dataset = read_yolo(files_of_place(tmp_path / "images"), BOXES, model_info(names=("x", "y", "z")))
    assert dataset.class_names == ("x", "y", "z")
    assert [sample.name for sample in dataset.samples] == ["val/a.jpg"]


def test_images_without_any_label_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image has a label file: expected .*labels/val/a\.txt and so on"):
        read(write_yolo(tmp_path, {"a.jpg": None, "b.jpg": None}))


def test_a_class_without_a_name_ends_the_reading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels/val/b\.txt, line 2: class 3 has no name"):
        read(write_yolo(tmp_path, {"a.jpg": ROW, "b.jpg": ROW + "3 0.5 0.5 0.1 0.1\n"}))


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/val/a.jpg", "/d/labels/val/a.txt"),
        ("/images/d/images/a.b.png", "/images/d/labels/a.b.txt"),
        ("/d/val/a.jpg", "/d/val/a.txt"),
        ("/d/myimages/a.jpg", "/d/myimages/a.txt"),
    ],
)
def test_the_last_folder_images_becomes_labels(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)
