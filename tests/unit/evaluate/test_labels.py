from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yoloship.errors import InputError
from yoloship.evaluate.labels import (
    read_class_folders,
    read_label,
    read_labels,
    truths_in_folders,
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((50, 200, 3), np.uint8))
    return path


def test_lines_become_boxes_in_source_pixels(image: Path) -> None:
    label = image.with_suffix(".txt")
    label.write_text("2 0.5 0.5 0.25 1\n\n0 0.1 0.2 0.1 0.2\n")
    truth = read_label(label, image)
    np.testing.assert_allclose(truth.boxes_xyxy, [[75, 0, 125, 50], [10, 5, 30, 15]])
    assert truth.class_ids.tolist() == [2, 0]


def test_a_image_without_a_label_file_holds_nothing(image: Path) -> None:
    assert read_label(image.with_suffix(".txt"), image).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    "line",
    [
        "1 0.5 0.5 0.1",
        "x 0 0 0 0",
        "0 0.5 0.5 1.5 1",
        "0 nan 0 0 0",
        "-1 0 0 0 0",
        "<html>",
        "1e23 0.5 0.5 0.1 0.1",
        "9999999999 0.5 0.5 0.1 0.1",
        "100000 0.5 0.5 0.1 0.1",
        "1.5 0.5 0.5 0.1 0.1",
        "1_0 0.5 0.5 0.1 0.1",
        "٣ 0.5 0.5 0.1 0.1",
        "0 0.5 0.5 0.1 1e-400x",
        "9" * 4000 + " 0.5 0.5 0.1 0.1",
        "0 0.5 0.5 0.1 0." + "1" * 5000,
        "0 0,5 0.5 0.1 0.1",
        "0 0.1 0.1 0.2 0.2 0.3 0.3",
    ],
)
def test_what_is_no_label_is_refused_with_its_line(image: Path, line: str) -> None:
    label = image.with_suffix(".txt")
    label.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: is not a label: expected class cx cy w h"):
        read_label(label, image)


def test_bytes_that_are_no_text_are_refused(image: Path) -> None:
    label = image.with_suffix(".txt")
    label.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_label(label, image)


def test_a_class_that_is_written_as_a_decimal_is_taken(image: Path) -> None:
    label = image.with_suffix(".txt")
    label.write_text("3.0 0.5 0.5 0.25 1\r\n4. .5 5e-1 0.25 1\r\n")
    assert read_label(label, image).class_ids.tolist() == [3, 4]


def test_the_outline_of_a_segmentation_is_named(image: Path) -> None:
    label = image.with_suffix(".txt")
    label.write_text("0 0.1 0.1 0.2 0.2 0.3 0.1")
    with pytest.raises(InputError, match="the outline of a segmentation"):
        read_label(label, image)


def test_more_labels_than_any_image_has_are_refused(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloship.evaluate.label_lines.MAX_OBJECTS", 3)
    label = image.with_suffix(".txt")
    label.write_text("0 0.5 0.5 0.1 0.1\n" * 4)
    with pytest.raises(InputError, match="has too many labels: expected at most 3"):
        read_label(label, image)


def test_an_image_is_not_decoded_for_its_size(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = image.with_suffix(".txt")
    label.write_text("0 0.5 0.5 1 1")
    monkeypatch.setattr("yoloship.images.reading._DECODERS", None)
    np.testing.assert_allclose(read_label(label, image).boxes_xyxy, [[0, 0, 200, 50]])


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 50)).save(path, exif=exif)
    path.with_suffix(".txt").write_text("0 0.5 0.5 1 1")
    np.testing.assert_allclose(read_label(path.with_suffix(".txt"), path).boxes_xyxy, [[0, 0, 50, 200]])


def data_set(root: Path, images: dict[str, str | None], *, flat: bool = False) -> list[Path]:
    """Images with labels of as many objects as their text has letters; None has no label."""
    paths = []
    for name, objects in images.items():
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(path)
        paths.append(path)
        if objects is not None:
            label = (root / "labels" / (path.name if flat else name)).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.1 0.1\n" * len(objects))
    return paths


def counts(root: Path, paths: list[Path]) -> list[int]:
    return [len(truth.class_ids) for truth in read_labels(root / "labels", paths)]


def test_images_of_one_name_in_several_folders_get_their_own_labels(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"a/1.jpg": "x", "b/1.jpg": "xxx", "2.jpg": None})
    assert counts(tmp_path, paths) == [1, 3, 0]


def test_labels_are_found_from_a_folder_below(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"train/a/1.jpg": "x", "val/a/1.jpg": "xxx"})
    assert counts(tmp_path, paths[1:]) == [3]


def test_labels_in_one_folder_are_found_by_name(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"a/1.jpg": "x", "b/2.jpg": "xx", "b/3.jpg": None}, flat=True)
    assert counts(tmp_path, paths) == [1, 2, 0]


def test_two_images_of_one_label_file_are_refused_by_name(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"a/1.jpg": "x", "b/1.jpg": "xx"}, flat=True)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "labels", paths)
    assert "1.txt: is the label file of several images" in str(caught.value)
    assert str(paths[0]) in str(caught.value)
    assert str(paths[1]) in str(caught.value)


def test_images_that_differ_only_in_their_suffix_are_refused(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"p.jpg": "x", "p.png": None})
    with pytest.raises(InputError, match="is the label file of several images"):
        read_labels(tmp_path / "labels", paths)


def test_an_image_whose_label_lies_elsewhere_is_not_taken_for_empty(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"a/1.jpg": "x", "a/2.jpg": "x", "b/3.jpg": None})
    (tmp_path / "labels" / "3.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"3\.txt: belongs to an image, but is not where the other labels are"):
        read_labels(tmp_path / "labels", paths)


def test_a_folder_without_labels_of_these_images_is_refused(tmp_path: Path) -> None:
    paths = data_set(tmp_path, {"a/1.jpg": None})
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match=r"holds no labels of these images: expected 1\.txt and so on"):
        read_labels(tmp_path / "labels", paths)


CLASSES = ("cat", "dog")


def class_folders(root: Path, *names: str) -> list[Path]:
    paths = []
    for name in names:
        paths.append(root / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(paths[-1])
    return paths


def test_the_class_of_an_image_is_the_folder_that_it_lies_in(tmp_path: Path) -> None:
    paths = class_folders(tmp_path, "dog/1.png", "cat/deep/2.png")
    (tmp_path / "bird").mkdir()
    truths = read_class_folders(tmp_path, paths, CLASSES)
    assert [truth.class_ids.tolist() for truth in truths] == [[1], [0]]
    assert truths[0].boxes_xyxy.tolist() == [[0, 0, 20, 10]]


def test_folders_that_have_numbers_for_names_count_in_their_order(tmp_path: Path) -> None:
    paths = class_folders(tmp_path, "n02/1.png", "n01/2.png")
    (tmp_path / ".cache").mkdir()
    assert [truth.class_ids.tolist() for truth in read_class_folders(tmp_path, paths, CLASSES)] == [[1], [0]]
    with pytest.raises(InputError, match=r"n02: is not a class of the model: expected cat, dog, owl"):
        read_class_folders(tmp_path, paths, ("cat", "dog", "owl"))


def test_an_image_elsewhere_has_no_class(tmp_path: Path) -> None:
    inside, outside = class_folders(tmp_path, "val/1.png", "other/dog/2.png")
    for path in (inside, outside):
        with pytest.raises(InputError, match=rf"{path.name}: does not lie in a folder of its class: .*has a folder of"):
            read_class_folders(tmp_path / "val", [path], CLASSES)


def test_without_labels_the_folders_must_all_be_classes(tmp_path: Path) -> None:
    paths = class_folders(tmp_path, "dog/1.png", "cat/2.png")
    found = truths_in_folders([paths[0], str(paths[1])], CLASSES)
    assert found is not None
    assert [truth.class_ids.tolist() for truth in found] == [[1], [0]]
    assert truths_in_folders(paths, ("dog", "owl")) is None
    assert truths_in_folders([paths[0], np.zeros((2, 2, 3), np.uint8)], CLASSES) is None
