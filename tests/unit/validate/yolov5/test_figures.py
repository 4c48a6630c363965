from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yoloship.datasets.dataset import Fault
from yoloship.validate.yolov5.figures import Subject, figures_of
from yoloship.validate.yolov5.matching import correct
from yoloship.validate.yolov5.precision import Judged
from yoloship.validate.yolov5.seeing import Seen

BOX = (0.0, 0.0, 10.0, 10.0)
SUBJECT = Subject(
    "m.pt",
    "00",
    "d.yaml",
    "detect",
    ("cat", "dog", "owl"),
    (Fault(Path("a"), None, "x", "image left out"),),
    1,
    {"imgsz": 640},
)


def seen(index: int, found: list[tuple[float, int]], label_ids: list[int]) -> Seen:
    """Detections that all have the same box as the labels."""
    boxes = np.array([BOX] * len(found), np.float32).reshape(-1, 4)
    scores, class_ids = np.array([s for s, _ in found], np.float32), np.array([i for _, i in found], np.int32)
    labels, ids = np.array([BOX] * len(label_ids), np.float32).reshape(-1, 4), np.array(label_ids, np.int64)
    judged = Judged(correct(boxes, class_ids, labels, ids), scores, class_ids, ids)
    return Seen(index, boxes, scores, class_ids, labels, judged, (1, 2, 3))


def test_a_validation_holds_the_means_of_the_classes_with_labels() -> None:
    found = figures_of(SUBJECT, [seen(0, [(0.9, 0)], [0]), seen(1, [], [2]), seen(2, [(0.8, 1)], [])], {"network": 5.0})
    assert (found.images, found.labels, found.detections, found.left_out) == (3, 2, 2, 1)
    assert [(one.class_id, one.name, one.images, one.labels) for one in found.classes] == [
        (0, "cat", 1, 1), (2, "owl", 1, 1),
    ]  # fmt: skip
    assert found.map50 == pytest.approx(0.995 / 2)
    assert found.map50_95 == pytest.approx(0.995 / 2)
    assert found.recall == pytest.approx(0.5)
    assert found.curves is not None
    assert found.curves.class_ids == (0, 2)
    assert found.confusion is not None
    assert found.confusion[0, 0] == 1
    assert found.confusion[3, 2] == 1
    assert found.confusion.sum() == 2
    assert (found.rules, found.metric, found.faults) == ("yolov5", "box", SUBJECT.faults)


def test_without_detections_all_figures_are_zero() -> None:
    found = figures_of(SUBJECT, [seen(0, [], [0, 1])], {})
    assert (found.precision, found.recall, found.map50, found.map50_95) == (0, 0, 0, 0)
    assert found.best_confidence is None
    assert [one.f1 for one in found.classes] == [0, 0]


def test_the_arrays_are_read_only() -> None:
    found = figures_of(SUBJECT, [seen(0, [(0.9, 0)], [0])], {})
    assert found.curves is not None
    assert found.confusion is not None
    assert not any(array.flags.writeable for array in (found.confusion, found.curves.precision, found.curves.recalls))
