from __future__ import annotations

from pathlib import Path

import numpy as np

from yoloship.datasets.dataset import Dataset, Fault, Sample
from yoloship.evaluate.coco import Truth


def sample(count: int) -> Sample:
    return Sample(Path("a.jpg"), "a.jpg", (10, 20), Truth(np.zeros((count, 4)), np.zeros(count, np.int64)))


def test_a_fault_says_where_it_is_and_what_it_led_to() -> None:
    assert str(Fault(Path("labels/a.txt"), 3, "4 numbers, not 5", "image left out")) == (
        "labels/a.txt, line 3: 4 numbers, not 5 (image left out)"
    )
    assert str(Fault(Path("a.jpg"), None, "is not an image", "image left out")) == (
        "a.jpg: is not an image (image left out)"
    )


def test_a_fault_becomes_plain_data() -> None:
    assert Fault(Path("a.txt"), 3, "doubled", "row dropped").to_dict() == {
        "path": "a.txt", "line": 3, "problem": "doubled", "consequence": "row dropped",
    }  # fmt: skip


def test_a_dataset_counts_the_objects_of_all_samples() -> None:
    dataset = Dataset("d", "yolo", "detect", ("cat",), (sample(2), sample(0), sample(3)))
    assert dataset.object_count == 5


def test_a_classified_image_counts_as_one_object() -> None:
    assert Sample(Path("cat/a.jpg"), "cat/a.jpg", (10, 20), class_id=0).object_count == 1
