"""Oriented boxes as a task: how they are decoded and suppressed, and where they come to lie."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.decoded import detections
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError
from yoloship.model import ModelInfo, NmsConfig, TensorSpec
from yoloship.results.oriented import corners_of
from yoloship.tasks.obb import Obb, as_xywhr, unturned

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.detections import Detections

HW = (64, 96)
INFO = ModelInfo("obb", "ultralytics", ("ship", "plane"), (8, 16, 32), (), "float", "raw", HW, 1, extra_columns=1)
IMAGES = TensorSpec("images", "float32", (1, 3, *HW))
ROWS = TensorSpec("output0", "float32", (1, 4 + 2 + 1, 126))
OBB = Obb()


def columns(*objects: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """(1, 7, 126): cx, cy, w, h, two scores, the angle."""
    table = np.zeros((1, 7, 126), np.float32)
    table[0, :, : len(objects)] = np.reshape(objects, (-1, 7)).T
    return table


def found_in(table: npt.NDArray[np.float32], image_hw: tuple[int, int] = HW, **options: Any) -> Detections:
    return detections(INFO, table, image_hw, **options)


def test_boxes_are_in_source_pixels_as_decoded_and_their_hull_is_clipped() -> None:
    found = found_in(columns((48, 32, 10, 30, 0.9, 0.1, 2.0), (90, 60, 30, 20, 0.0, 0.8, 0.5)), (32, 48))
    assert found.task == "obb"
    assert found.corners_xy is not None
    assert found.boxes_xywhr is not None
    np.testing.assert_allclose(found.boxes_xywhr, [[24, 16, 5, 15, 2.0], [45, 30, 15, 10, 0.5]], atol=1e-5)
    low, high = found.corners_xy.min(axis=1), found.corners_xy.max(axis=1)
    assert (high > [48, 32]).any()
    hulls = np.concatenate([low, high], axis=1)
    np.testing.assert_allclose(found.boxes_xyxy, np.clip(hulls, 0, [48, 32, 48, 32]), atol=1e-5)
    np.testing.assert_allclose(found.corners_xy, corners_of(found.boxes_xywhr), atol=1e-6)


def test_suppression_is_by_probabilistic_iou_and_not_greedy() -> None:
    chain = columns(*((30 + 7 * step, 32, 30, 30, 0.9 - 0.1 * step, 0, 0.2) for step in range(3)))
    assert found_in(chain, iou_threshold=0.5).scores.tolist() == pytest.approx([0.9])
    crossed = columns((48, 32, 60, 6, 0.9, 0, 0.0), (48, 32, 60, 6, 0.8, 0, 1.57))
    assert len(found_in(crossed, iou_threshold=0.5)) == 2


def test_boxes_of_other_classes_stay_unless_classes_are_ignored() -> None:
    two = columns((48, 32, 30, 20, 0.9, 0, 0.2), (48, 32, 30, 20, 0, 0.8, 0.2))
    assert len(found_in(two)) == 2
    assert len(found_in(two, class_agnostic=True)) == 1
    assert len(found_in(two, classes=["plane"])) == 1
    assert len(found_in(two, max_detections=1)) == 1


def test_nothing_found_is_a_result_of_the_task() -> None:
    found = found_in(columns())
    assert found.task == "obb"
    assert found.boxes_xywhr is not None
    assert found.boxes_xywhr.shape == (0, 5)


def test_a_box_that_is_not_finite_is_dropped() -> None:
    broken = columns((48, 32, 30, 20, 0.9, 0, np.nan), (np.inf, 32, 30, 20, 0.8, 0, 0), (48, 32, 30, 20, 0.7, 0, 0.1))
    assert found_in(broken).scores.tolist() == pytest.approx([0.7])


def test_a_box_is_turned_about_the_cell_that_its_distances_count_from() -> None:
    random = np.random.default_rng(1)
    sides = random.uniform(0, 5, (6, 4)).astype(np.float32)
    centres, strides = random.uniform(0, 9, (6, 2)).astype(np.float32), np.full((6, 1), 8, np.float32)
    angles = random.uniform(-1, 2.5, (6, 1)).astype(np.float32)
    boxes = as_xywhr(unturned(sides, centres, strides, angles), angles)
    for box, (left, top, right, bottom), centre in zip(boxes, sides, centres, strict=True):
        cosine, sine = np.cos(box[4]), np.sin(box[4])
        turn = np.array([[cosine, -sine], [sine, cosine]])
        own = np.array([[right, bottom], [right, -top], [-left, -top], [-left, bottom]])
        np.testing.assert_allclose(corners_of(box), (own @ turn.T + centre) * 8, atol=1e-3)


@pytest.mark.parametrize("form", ["raw", "heads", "compact", "nms", "end2end"])
@pytest.mark.parametrize("columns_said", [0, 2])
def test_a_record_with_another_number_of_further_columns_is_refused(form: str, columns_said: int) -> None:
    nms = NmsConfig() if form == "nms" else None
    info = replace(INFO, output_form=form, nms=nms, extra_columns=columns_said)
    with pytest.raises(InputError, match=f"bad 'extra_columns': expected 1, the angle, got {columns_said}"):
        OBB.check([ROWS], info, "m.onnx")


def test_centres_and_sizes_of_the_one_to_one_form_become_corners() -> None:
    info = replace(INFO, output_form="end2end", head="one2one")
    rows = np.zeros((1, 3, 7), np.float32)
    rows[0, 0] = (48, 32, 30, 20, 0.9, 1, -4.0)
    (answer,) = OBB.form("end2end", "m").decode([rows], info, HW, 0.25)
    np.testing.assert_array_equal(answer.boxes_xyxy, [[33, 22, 63, 42]])
    np.testing.assert_array_equal(answer.extras, [[-4.0]])
    kept = OBB.suppress(answer, DetectOptions(iou_threshold=0.0), None)
    assert (len(kept), kept.final) == (1, True)
