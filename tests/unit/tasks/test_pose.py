"""Keypoints as a task: how they are decoded, what a model's record must have, and where they come to lie."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.decoded import detections
from yoloship.errors import InputError, SessionError
from yoloship.model import ModelInfo, TensorSpec
from yoloship.tasks import refuse_other_results
from yoloship.tasks.pose import Pose, decode_keypoints

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.results.detections import Detections

HW = (64, 96)
INFO = ModelInfo(
    "pose", "ultralytics", ("cat", "dog"), (8, 16, 32), (), "float", "raw", HW, 1,
    extra_columns=6, keypoint_shape=(2, 3),
)  # fmt: skip
IMAGES = TensorSpec("images", "float32", (1, 3, *HW))
ROWS = TensorSpec("output0", "float32", (1, 4 + 2 + 6, 126))
POSE = Pose()


def columns(*objects: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """(1, 12, 126): cx, cy, w, h, two scores, two points."""
    table = np.zeros((1, 12, 126), np.float32)
    table[0, :, : len(objects)] = np.reshape(objects, (-1, 12)).T
    return table


TWO = columns(
    (48, 32, 20, 10, 0.9, 0.1, 40, 30, 0.9, 50, 33, 0.2), (20, 20, 10, 10, 0.0, 0.8, -9, 500, 0.5, 1e30, 21, 1)
)


def found_in(table: npt.NDArray[np.float32], image_hw: tuple[int, int] = HW, **options: Any) -> Detections:
    return detections(INFO, table, image_hw, **options)


def test_points_are_in_source_pixels_clipped_and_their_visibility_is_kept() -> None:
    found = found_in(TWO, (32, 48))  # scaled by two
    assert found.task == "pose"
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[0], [[20, 15, 0.9], [25, 16.5, 0.2]], atol=1e-5)
    np.testing.assert_allclose(found.keypoints[1], [[0, 32, 0.5], [48, 10.5, 1]], atol=1e-5)
    assert found[0].keypoints == tuple(map(tuple, found.keypoints[0].tolist()))


def test_the_points_stay_with_their_box() -> None:
    crowd = columns(*((48, 32, 20, 10, score, 0, 10 * score, 1, 1, 2, 2, 1) for score in (0.5, 0.9, 0.7)))
    found = found_in(crowd)
    assert found.keypoints is not None
    assert len(found) == 1
    assert found.keypoints[0, 0, 0] == np.float32(9)
    assert len(found_in(TWO, class_agnostic=True).filter(classes=["dog"])) == 1


def test_an_object_with_a_point_that_is_not_a_number_is_not_kept() -> None:
    table = columns(*((x, 32, 10, 10, 0.9, 0, x, 1, 1, 2, y, 1) for x, y in ((10, np.nan), (40, 3), (70, np.inf))))
    found = found_in(table)
    assert found.keypoints is not None
    assert found.keypoints[:, :, :2].tolist() == [[[40, 1], [2, 3]], [[70, 1], [2, 64]]]


def test_nothing_found_has_the_shape_of_the_points() -> None:
    found = found_in(columns())
    assert found.keypoints is not None
    assert found.keypoints.shape == (0, 2, 3)
    assert found.task == "pose"


@pytest.mark.parametrize("shape", [(4, 3), (6, 2)])
def test_points_are_decoded_around_the_centre_of_their_cell(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    raw = random.standard_normal((5, 12)).astype(np.float32)
    centres, strides = random.random((5, 2), np.float32), np.full((5, 1), 16, np.float32)
    before = raw.copy()
    points = decode_keypoints(raw, centres, strides, shape=shape).reshape(5, *shape)
    given = before.reshape(5, *shape)
    np.testing.assert_allclose(points[..., :2], (given[..., :2] + centres[:, None]) * 16, rtol=1e-5)
    np.testing.assert_allclose(points[..., 2:], 1 / (1 + np.exp(-given[..., 2:])), rtol=1e-5)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"keypoint_shape": None},
            r"bad 'keypoint_shape': expected the number of points, and 2 or 3 numbers, got None",
        ),
        ({"keypoint_shape": (6, 1)}, r"bad 'keypoint_shape': .*got \(6, 1\)"),
        ({"keypoint_shape": (1, 6)}, r"bad 'keypoint_shape': .*got \(1, 6\)"),
        (
            {"keypoint_shape": (3, 3)},
            r"'keypoint_shape' contradicts 'extra_columns': expected 3 · 3 = 9 columns, got 6",
        ),
        ({"extra_columns": 0}, r"'keypoint_shape' contradicts 'extra_columns': expected 2 · 3 = 6 columns, got 0"),
        ({"keypoint_names": ("nose",)}, r"'keypoint_names' contradict 'keypoint_shape': expected 2 names, got 1"),
    ],
)
@pytest.mark.parametrize("form", ["raw", "heads", "compact", "nms", "end2end"])
def test_a_record_that_contradicts_itself_is_refused(form: str, changes: dict[str, Any], words: str) -> None:
    from yoloship.model import NmsConfig

    info = replace(INFO, output_form=form, nms=NmsConfig() if form == "nms" else None, **changes)
    with pytest.raises(InputError, match=words):
        POSE.check([ROWS], info, "m.onnx")


def test_an_output_of_other_columns_is_refused() -> None:
    POSE.check([ROWS], INFO, "m.onnx")
    other = TensorSpec("output0", "float32", (1, 11, 126))
    with pytest.raises(SessionError, match="the model's metadata contradicts its output"):
        POSE.check([other], INFO, "m.onnx")
    with pytest.raises(SessionError, match="the model's output is not as promised"):
        POSE.form("raw", "m").decode([np.zeros((1, 11, 126), np.float32)], INFO, HW, 0.25)


def test_it_is_not_taken_for_its_boxes_alone() -> None:
    with pytest.raises(InputError, match=r"gives posed objects, which cannot be counted yet: .*judged by OKS"):
        refuse_other_results(INFO, "m.onnx", "counted")
