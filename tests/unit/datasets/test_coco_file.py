from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.datasets import model_info, write_image, write_text
from yoloship.datasets import coco_file
from yoloship.datasets.coco_file import read_coco
from yoloship.datasets.dataset import Dataset
from yoloship.errors import InputError


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 40, "width": 80},
            {"id": 3, "file_name": "a.jpg", "height": 40, "width": 80},
        ],
        "categories": [{"id": 90, "name": "owl"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 1},
        ],
        **changes,
    }


def write(root: Path, data: object, where: str = "images") -> Path:
    for name in ("a.jpg", "b.jpg"):
        write_image(root / where / name)
    return write_text(
        root / "annotations" / "instances_val2017.json", data if isinstance(data, str) else json.dumps(data)
    )


def read(path: Path) -> Dataset:
    return read_coco(path, model_info())


@pytest.mark.parametrize("where", ["images", "images/val2017", "val2017", "annotations", "."])
def test_images_are_found_in_the_usual_places(tmp_path: Path, where: str) -> None:
    dataset = read(write(tmp_path, document(), where))
    assert [(sample.name, sample.image_id, sample.object_count) for sample in dataset.samples] == [
        ("a.jpg", 3, 0), ("b.jpg", 7, 2),
    ]  # fmt: skip
    assert (dataset.kind, dataset.empty_labels) == ("coco", 1)


def test_categories_are_the_models_classes_by_name(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, document()))
    truth = dataset.samples[1].truth
    assert truth is not None
    assert truth.class_ids.tolist() == [2, 0]
    assert dataset.class_names == ("cat", "dog", "owl")


def test_ids_may_be_texts(tmp_path: Path) -> None:
    text = json.dumps(document()).replace('"id": 7', '"id": "b"').replace('"image_id": 7', '"image_id": "b"')
    dataset = read(write(tmp_path, text.replace("90", '"owl"')))
    assert [(sample.image_id, sample.object_count) for sample in dataset.samples] == [(3, 0), ("b", 2)]


def test_the_folder_of_the_images_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, document(), "far/away")
    with pytest.raises(InputError, match=r"not found: .*; name their folder with --images \(images in Python\)"):
        read(path)
    assert len(read_coco(path, model_info(), tmp_path / "far" / "away").samples) == 2


def test_a_missing_image_and_one_of_another_size_are_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    write_image(tmp_path / "images" / "a.jpg", (50, 80))
    images = [*document()["images"], {"id": 9, "file_name": "c.jpg", "height": 40, "width": 80}]
    path.write_text(json.dumps(document(images=images)))
    dataset = read(path)
    assert [sample.name for sample in dataset.samples] == ["b.jpg"]
    assert dataset.left_out == 2
    assert [fault.problem for fault in dataset.faults] == [
        "has 80×50 pixels, and the dataset says 80×40", "no such file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": []}, "has no images"),
        ({"images": {}}, "is not a dataset in COCO format"),
        ({"images": [{"file_name": "a.jpg", "height": 1, "width": 1}]}, r"images\[0\] has no id"),
        ({"images": [{"id": 1, "file_name": "../a.jpg"}]}, r"images\[0\] has no file name below"),
        ({"images": [{"id": 1, "file_name": "/a.jpg", "height": 1, "width": 1}]}, "has no file name below"),
        ({"images": [{"id": 1, "file_name": "C:\\a.jpg", "height": 1, "width": 1}]}, "has no file name below"),
        ({"images": [{"id": 1, "file_name": "a\0.jpg", "height": 1, "width": 1}]}, "has no file name below"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 1}]}, r"images\[0\] has no size"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 1, "width": 1e9}]}, "has no size"),
        ({"images": document()["images"] * 2}, r"images\[2\] repeats an id or a file name"),
        ({"categories": []}, "has no categories"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] has no name"),
        ({"categories": document()["categories"] * 2}, "repeats an id"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 90, "name": "elk"}]}, r"does not have: .* got elk"),
        ({"annotations": [{"image_id": 99, "category_id": 1}]}, r"annotations\[0\]: belongs to no image"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}]}, "that is not listed: .* got 2"),
        ({"annotations": [None]}, r"annotations\[0\]: belongs to no image"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, r"annotations\[0\]: bbox is not"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_the_entry(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(write(tmp_path, document(**change)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"a": ' * 100_000, "is not JSON"),
        ('{"images": NaN}', "is not JSON: got NaN is not a JSON number"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "is not JSON"),
        ("", "is not JSON"),
        ("\ufeff{", "is not JSON"),
        ("[]", "is not a dataset in COCO format: .*; results .* are not a dataset"),
        ("{}", "is not a dataset in COCO format"),
    ],
)
def test_hostile_json_ends_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(write(tmp_path, text))


def test_a_file_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, '{"images": [' + "[]," * 1000)
    monkeypatch.setattr(coco_file, "_MAX_DECODED_BYTES", 100_000)
    with pytest.raises(InputError, match="would take too much memory"):
        read(path)


def test_changed_files_are_read_or_refused_with_an_error_of_ours(tmp_path: Path) -> None:
    source = random.Random(5)
    values: list[Any] = [None, True, -1, 1.5, "x", [], {}, 10**30, [1, 2, 3, 4], "a.jpg"]
    path = write(tmp_path, document())
    for _ in range(300):
        data = document()
        entries = source.choice([data["images"], data["categories"], data["annotations"]])
        entry = source.choice(entries)
        entry[source.choice([*entry, "more"])] = source.choice(values)
        path.write_text(json.dumps(data))
        with suppress(InputError):
            assert read(path).class_names


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not read for the task 'obb'"):
        read_coco(write(tmp_path, document()), model_info("obb"))


def test_annotations_of_one_id_are_all_taken_and_said(tmp_path: Path) -> None:
    data = document()
    data["annotations"][1]["id"] = 1
    dataset = read(write(tmp_path, data))
    assert dataset.object_count == 2
    assert [(fault.problem, fault.consequence) for fault in dataset.faults] == [
        ("1 annotation with the id of another one; pycocotools would use the last of them for all", "kept")
    ]
