"""Which measure a task has, and which labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.models import info
from yoloship.evaluate.measures import BOXES, MEASURES, measure_of
from yoloship.tasks import TASKS


def test_every_task_of_ours_has_a_measure() -> None:
    assert set(MEASURES) == set(TASKS.own)
    assert measure_of(info("raw"), "m") is BOXES
    assert measure_of(replace(info("raw"), task="pose"), "m").title == "OKS mAP"


def test_the_task_says_what_a_label_is(tmp_path: Path) -> None:
    image = tmp_path / "cat" / "1.png"
    image.parent.mkdir()
    Image.new("RGB", (20, 10)).save(image)
    model = replace(info("raw"), class_names=("cat", "dog"), keypoint_shape=(2, 2))
    (truth,) = MEASURES["classify"].truths(tmp_path, [image], model)
    assert (truth.class_ids.tolist(), truth.boxes_xyxy.tolist()) == ([0], [[0, 0, 20, 10]])
    assert MEASURES["classify"].known_truths([image], model.class_names) is not None
    assert MEASURES["segment"].known_truths([image], model.class_names) is None
    for task, line in (
        ("detect", "1 0.5 0.5 1 1"),
        ("segment", "1 0 0 1 0 1 1"),
        ("pose", "1 0.5 0.5 1 1 0 0 1 1"),
        ("obb", "1 0 0 1 0 1 1 0 1"),
    ):
        image.with_suffix(".txt").write_text(line)
        (truth,) = MEASURES[task].truths(image.parent, [image], model)
        np.testing.assert_allclose(truth.boxes_xyxy, [[0, 0, 20, 10]])
        extras = [truth.polygons is not None, truth.keypoints is not None, truth.boxes_xywhr is not None]
        assert extras == [task == "segment", task == "pose", task == "obb"]
