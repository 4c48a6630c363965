"""Lines of label files, for each task."""

from __future__ import annotations

import numpy as np
import pytest

from yoloship.errors import InputError
from yoloship.evaluate.label_lines import (
    BOXES,
    CornerLines,
    KeypointLines,
    LabelLines,
    OutlineLines,
)

HW = (100, 200)


def test_an_outline_gives_its_box() -> None:
    truth = OutlineLines().truth("1 0.1 0.2 0.5 0.2 0.5 0.8\n0 0 0 1 0 1 1 0 1\n", HW, "a.txt")
    assert truth.class_ids.tolist() == [1, 0]
    np.testing.assert_allclose(truth.boxes_xyxy, [[20, 20, 100, 80], [0, 0, 200, 100]])
    assert truth.polygons is not None
    np.testing.assert_allclose(truth.polygons[0], [[20, 20], [100, 20], [100, 80]])
    assert len(truth.polygons[1]) == 4


def test_keypoints_have_a_visibility_or_are_unlabelled_at_the_origin() -> None:
    lines = KeypointLines(2)
    truth = lines.truth("0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.1 0.2 0\n0 0.5 0.5 1 1 0 0 0.25 0.5\n", HW, "a.txt")
    assert truth.keypoints is not None
    np.testing.assert_allclose(truth.keypoints[0], [[100, 50, 2], [20, 20, 0]])
    np.testing.assert_allclose(truth.keypoints[1], [[0, 0, 0], [50, 50, 1]])
    np.testing.assert_allclose(truth.boxes_xyxy[0], [80, 30, 120, 70])


def test_four_corners_give_an_oriented_box() -> None:
    centre, along, across = np.array([100, 50]), np.array([24, 18]), np.array([-6, 8])
    corners = np.array([centre + along + across, centre + along - across, centre - along - across])
    corners = np.vstack([corners, centre - along + across]) / [200, 100]
    truth = CornerLines().truth("2 " + " ".join(map(str, corners.ravel())), HW, "a.txt")
    assert truth.boxes_xywhr is not None
    x, y, width, height, angle = truth.boxes_xywhr[0].tolist()
    assert (x, y) == pytest.approx((100, 50), abs=1e-3)
    assert sorted((width, height)) == pytest.approx([20, 60], abs=1e-3)
    turn = np.arctan2(18, 24) - (angle if width > height else angle + np.pi / 2)
    assert np.sin(turn) == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(truth.boxes_xyxy[0], [70, 24, 130, 76], atol=1e-3)


@pytest.mark.parametrize(
    ("lines", "text", "problem"),
    [
        (OutlineLines(), "0 0.1 0.2 0.3 0.4", "expected class x1 y1 x2 y2 x3 y3 …, .*looks like a detection label"),
        (OutlineLines(), "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "three points or more"),
        (OutlineLines(), "0 0.1 0.2 0.3 0.4 0.5 1.6", "all from 0 to 1"),
        (KeypointLines(2), "0 0.5 0.5 0.2 0.4 0.5 0.5 2", "and 2 keypoints as x y or as x y v"),
        (KeypointLines(2), "0 0.5 0.5 0.2 0.4 0.5 0.5 3 0.1 0.1 1", "the visibility v is 0, 1 or 2"),
        (KeypointLines(2), "0 0.5 0.5 0.2 0.4 0.5 0.5 0.5 0.1 0.1 1", "the visibility v is 0, 1 or 2"),
        (CornerLines(), "0 0.5 0.5 0.2 0.4 0.5", "the corners of an oriented box"),
        (CornerLines(), "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 nan", "the corners of an oriented box"),
        (BOXES, "0 0.1 0.1 0.2 0.1 0.2 0.2", "looks like the outline of a segmentation"),
    ],
)
def test_a_line_of_another_form_is_refused_with_its_number(lines: LabelLines, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"a\.txt, line 2: is not a label: .*{problem}"):
        lines.truth(f"\n{text}\n", HW, "a.txt")


@pytest.mark.parametrize("lines", [BOXES, OutlineLines(), KeypointLines(3), CornerLines()])
def test_an_empty_file_means_an_image_without_objects(lines: LabelLines) -> None:
    truth = lines.truth(" \n\n", HW, "a.txt")
    assert truth.boxes_xyxy.shape == (0, 4)
    assert truth.class_ids.shape == (0,)
