"""What a record of a detection model must say, and what becomes of candidates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.models import info
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError, YoloshipError
from yoloship.letterbox import Letterbox
from yoloship.model import NmsConfig, TensorSpec
from yoloship.tasks import form_of, task_of
from yoloship.tasks.decode import Candidates
from yoloship.tasks.detect import Detect

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"class_names": ()}, SessionError, "names no classes or no strides"),
        ({"strides": ()}, SessionError, "names no classes or no strides"),
        ({"anchors": (((1.0, 1.0),),)}, InputError, r"bad 'anchors': expected one set a level \(3\), got 1 sets"),
        ({"nms": NmsConfig()}, InputError, "bad 'nms': expected thresholds if suppression is inside the graph"),
        ({"output_form": "nms"}, InputError, "bad 'nms'.* got none"),
        ({"extra_columns": 1}, InputError, "bad 'extra_columns': expected 0 for a detection model, got 1"),
        ({"output_form": "boxes"}, SessionError, "expected raw, heads, compact, nms, end2end, got boxes"),
        ({"output_form": "compact"}, SessionError, "the model's record says 'compact': expected 3 outputs, got 1"),
    ],
)  # fmt: skip
def test_a_record_that_contradicts_itself_or_its_graph_is_refused(
    changes: Mapping[str, Any], kind: type[YoloshipError], message: str
) -> None:
    record = replace(info(), **changes)
    outputs = [TensorSpec(f"head{level}", "float32", (1, 24, 8, 8)) for level in range(3)]
    with pytest.raises(kind, match=message):
        Detect().check(outputs[:1] if "output_form" in changes else outputs, record, "m.onnx")


def test_a_task_or_a_family_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(SessionError, match="a model for the task 'fly' cannot be run here yet: expected detect"):
        task_of(replace(info(), task="fly"), "m.onnx")
    strange = replace(info("raw"), family="yolov99", anchors=())
    with pytest.raises(SessionError, match="is of the family 'yolov99', whose output is not known here"):
        form_of(strange, "m.onnx").decode([np.zeros((1, 3, 8), np.float32)], strange, (64, 96), 0.25)


def test_a_family_whose_head_has_anchors_has_rows_with_an_objectness() -> None:
    fork = replace(info("raw"), family="fork")
    rows = np.zeros((1, 2, 8), np.float32)
    rows[0, 1] = [20, 10, 4, 6, 0.9, 0.1, 0.8, 0.2]
    (found,) = form_of(fork, "m").decode([rows], fork, (64, 96), 0.25)
    assert found.class_ids.tolist() == [1]
    np.testing.assert_allclose(found.boxes_xyxy, [[18, 7, 22, 13]])


def test_only_forms_that_a_kernel_reads_are_decoded_on_a_gpu() -> None:
    forms = task_of(info(), "m").forms
    assert [form.name for form in forms if form.on_gpu(info())] == ["raw", "heads", "end2end"]
    assert [form.name for form in forms if form.on_gpu(replace(info(), anchors=()))] == ["raw", "heads", "end2end"]
    many = replace(info(), anchors=(((8.0, 8.0),) * 9, *info().anchors[1:]))
    assert [form.name for form in forms if form.on_gpu(many)] == [
        "raw",
        "end2end",
    ]  # the kernel's table has room for 8 a level


def test_suppression_keeps_the_wanted_classes_and_the_result_lies_in_the_image() -> None:
    boxes = np.array([[0, 0, 20, 20], [1, 1, 21, 21], [40, 10, 200, 30]], np.float32)
    found = Candidates(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1], np.int32))
    letterbox = Letterbox.fixed((32, 48), (64, 96))
    task, names = Detect(), ("a", "b")
    both = task.to_result(task.suppress(found, DetectOptions(), None), letterbox, names)
    assert both.class_ids.tolist() == [0, 1]
    np.testing.assert_allclose(both.boxes_xyxy, [[0, 0, 10, 10], [20, 5, 48, 15]])
    second = task.to_result(task.suppress(found, DetectOptions(), np.array([1], np.int32)), letterbox, names)
    assert second.scores.tolist() == pytest.approx([0.7])


def test_cells_that_are_kept_do_not_keep_the_runtime_s_outputs() -> None:
    record = info("compact")
    outputs = [np.zeros((1, 6, 4), np.float32), np.zeros((1, 6), np.float32), np.zeros((1, 6), np.int32)]
    cells = form_of(record, "m").cells(outputs, record)
    assert cells is not None
    assert not any(np.shares_memory(kept, output) for kept in cells for output in outputs)


def test_final_boxes_are_kept_whatever_they_overlap_best_first_and_finite_ones_alone() -> None:
    box = [1, 2, 30, 40]
    boxes = np.array([box, box, [np.nan, 2, 3, 4], box, [5, 6, np.inf, 8]], np.float32)
    scores, ids = np.array([0.4, 0.9, 0.8, 0.6, 0.7], np.float32), np.array([0, 0, 0, 1, 1], np.int32)
    answer = Candidates(boxes, scores, ids, final=True)
    for wanted, most, kept in ((None, 300, [1, 3, 0]), (None, 2, [1, 3]), (np.array([0], np.int32), 300, [1, 0])):
        found = Detect().suppress(answer, DetectOptions(iou_threshold=0.1, max_detections=most), wanted)
        np.testing.assert_array_equal(found.scores, scores[kept])
        np.testing.assert_array_equal(found.class_ids, ids[kept])
