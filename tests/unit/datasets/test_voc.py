from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.datasets import model_info, write_image, write_text
from yoloship.datasets.dataset import Dataset
from yoloship.datasets.voc import read_voc
from yoloship.errors import InputError


def thing(name: str, box: tuple[object, ...], more: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>\n"


def write(root: Path, annotations: dict[str, str], split: str | None = None) -> None:
    for stem, objects in annotations.items():
        write_image(root / "JPEGImages" / f"{stem}.jpg")
        write_text(
            root / "Annotations" / f"{stem}.xml",
            f"<annotation>\n<filename>{stem}.jpg</filename>\n{objects}</annotation>",
        )
    if split is not None:
        write_text(root / "ImageSets" / "Main" / "val.txt", split)


def read(root: Path) -> Dataset:
    return read_voc(root, "val", model_info())


def test_boxes_count_from_one_and_include_their_last_pixel(tmp_path: Path) -> None:
    write(tmp_path, {"a": thing("dog", (1, 1, 10, 20)) + thing("cat", (11.5, 2, 20, 30), "<difficult>1</difficult>")})
    dataset = read(tmp_path)
    (sample,) = dataset.samples
    assert sample.truth is not None
    assert sample.truth.crowd is not None
    np.testing.assert_array_equal(sample.truth.boxes_xyxy, [[0, 0, 10, 20], [10.5, 1, 20, 30]])
    assert sample.truth.class_ids.tolist() == [1, 0]
    assert sample.truth.crowd.tolist() == [False, True]
    assert (dataset.kind, dataset.class_names, sample.name) == ("voc", ("cat", "dog", "owl"), "JPEGImages/a.jpg")


def test_a_split_lists_its_images(tmp_path: Path) -> None:
    write(tmp_path, {stem: thing("dog", (1, 1, 10, 20)) for stem in "abc"}, "c\na  1\n")
    assert [sample.path.stem for sample in read(tmp_path).samples] == ["c", "a"]


def test_images_without_annotation_or_objects_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a": thing("dog", (1, 1, 10, 20)), "b": ""}, "a\nb\nc\n")
    write_image(tmp_path / "JPEGImages" / "c.jpg")
    dataset = read(tmp_path)
    assert [sample.object_count for sample in dataset.samples] == [1, 0, 0]
    assert (dataset.missing_labels, dataset.empty_labels) == (1, 1)


def test_a_missing_image_and_a_box_outside_are_said(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a": thing("dog", (1, 1, 10, 20)) + thing("cat", (100, 1, 120, 20)), "b": thing("dog", (1, 1, 10, 20))},
    )
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    dataset = read(tmp_path)
    assert [(fault.path.name, fault.line, fault.consequence) for fault in dataset.faults] == [
        ("a.xml", 4, "object dropped"), ("b.jpg", None, "image left out"),
    ]  # fmt: skip
    assert dataset.left_out == 1
    assert dataset.object_count == 1


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ("<object><name>dog</name></object>", r"a\.xml, line 3: is an object without a name or a box"),
        (thing("", (1, 1, 2, 2)), "without a name"),
        (thing("dog", (1, "x", 2, 2)), r"a\.xml, line 3: ymin is not a number of pixels: got 'x'"),
        (thing("dog", (1, "nan", 2, 2)), "ymin is not a number"),
        (thing("dog", (1, 1, "1e300", 2)), "xmax is not a number"),
        (thing("dog", (1, 1, "1_0", 2)), "xmax is not a number"),
        (
            thing("dog", (1, 1, 2, 2)) + thing("elk", (1, 1, 2, 2)),
            "has classes that the model does not have: .* got elk",
        ),
    ],
)
def test_an_annotation_that_is_wrong_is_refused(tmp_path: Path, objects: str, problem: str) -> None:
    write(tmp_path, {"a": objects})
    with pytest.raises(InputError, match=problem):
        read(tmp_path)


def test_a_document_type_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a": ""})
    write_text(
        tmp_path / "Annotations" / "a.xml", '<!DOCTYPE annotation [<!ENTITY x SYSTEM "/etc/passwd">]><annotation/>'
    )
    with pytest.raises(InputError, match="has a document type declaration"):
        read(tmp_path)


def test_the_name_in_an_annotation_cannot_leave_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"a": thing("dog", (1, 1, 10, 20))})
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "secret.jpg")
    text = (tmp_path / "Annotations" / "a.xml").read_text().replace("a.jpg", "../secret.jpg")
    write_text(tmp_path / "Annotations" / "a.xml", text)
    dataset = read(tmp_path)
    assert not dataset.samples
    assert "no such file" in dataset.faults[0].problem


def test_a_split_cannot_name_other_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a": thing("dog", (1, 1, 10, 20))}, "../a\n")
    with pytest.raises(InputError, match=r"val\.txt: is not the name of an image"):
        read(tmp_path)


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has boxes only, and the model is for the task 'segment'"):
        read_voc(tmp_path, "val", model_info("segment"))
