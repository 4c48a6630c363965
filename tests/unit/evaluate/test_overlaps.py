"""How much objects overlap, by their boxes, masks, keypoints and oriented boxes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.evaluate.overlaps import (
    keypoint_similarities,
    mask_ious,
    object_ious,
    oriented_ious,
    overlaps,
    point_sigmas,
    seen_points,
)
from yoloship.letterbox import Letterbox
from yoloship.results.detections import Detections
from yoloship.results.masks import Masks, MaskWindow

HW = (40, 60)


def rectangle(left: int, top: int, right: int, bottom: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(HW, bool)
    mask[top:bottom, left:right] = True
    return mask


def posed(*points: list[tuple[float, ...]], side: float = 10.0) -> Detections:
    count = len(points)
    boxes = np.tile(np.array([[0, 0, side, side]], np.float32), (count, 1))
    keypoints = np.array(points, np.float32)
    return Detections(boxes, np.ones(count, np.float32), np.zeros(count, np.int32), ("a",), HW, keypoints=keypoints)


def test_overlap_is_intersection_over_union() -> None:
    first = np.array([[0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    second = np.array([[5, 0, 15, 10], [5, 5, 5, 5], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(object_ious(first, second), np.array([[1 / 3, 0, 0], [0, 1, 0]], np.float64))


def test_masks_overlap_by_their_pixels_and_not_by_their_boxes() -> None:
    square, lower = rectangle(10, 10, 20, 20), rectangle(10, 13, 20, 20)
    corners = np.zeros(HW, bool)
    corners[10, 10] = corners[19, 19] = True
    first, second = Masks.from_array(np.stack([square])), Masks.from_array(np.stack([square, lower, corners]))
    np.testing.assert_allclose(mask_ious(first, second), [[1, 0.7, 0]])


@pytest.mark.parametrize("seed", range(4))
def test_mask_overlaps_are_those_of_whole_masks_from_one_half_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(12):
        x, y = rng.integers(0, 30, 2)
        masks.append(rectangle(x, y % 20, x + int(rng.integers(3, 25)), y % 20 + int(rng.integers(3, 19))))
        masks[-1] &= rng.random(HW) < 0.9
    whole = np.stack(masks).reshape(12, -1).astype(np.float64)
    shared = whole @ whole.T
    want = shared / (whole.sum(axis=1)[:, None] + whole.sum(axis=1) - shared)
    got = mask_ious(Masks.from_array(np.stack(masks)), Masks.from_array(np.stack(masks)))
    np.testing.assert_allclose(np.where(want >= 0.5, got, 0), np.where(want >= 0.5, want, 0))
    assert (got[want < 0.5] < 0.5).all()


def test_masks_of_different_canvases_are_compared_on_the_image() -> None:
    box = Letterbox.fixed(HW, (80, 120))
    twice = Masks((MaskWindow.of(np.ones((20, 20), bool), 20, 20),), HW, box)
    same = Masks.from_array(np.stack([rectangle(10, 10, 20, 20)]))
    np.testing.assert_allclose(mask_ious(twice, same), [[1.0]])


def test_two_masks_without_a_pixel_are_equal_and_no_other_pair_with_one_is() -> None:
    empty, full = rectangle(0, 0, 0, 0), rectangle(0, 0, 5, 5)
    np.testing.assert_allclose(mask_ious(*[Masks.from_array(np.stack([empty, full]))] * 2), np.eye(2))


def test_oriented_boxes_are_equal_whichever_side_is_called_the_width() -> None:
    box = np.array([[20, 20, 10, 4, 0.3]])
    turned = np.array([[20, 20, 4, 10, 0.3 + np.pi / 2], [20, 20, 10, 4, 0.3], [50, 50, 10, 4, 0.3]])
    np.testing.assert_allclose(oriented_ious(box, turned), [[1, 1, 0]], atol=1e-3)
    assert oriented_ious(box, box).tolist() == [[1.0]]


def test_a_thin_oriented_box_overlaps_nothing_but_itself() -> None:
    thin = np.array([[20, 20, 0, 0, 0.0]])
    assert oriented_ious(thin, thin).tolist() == [[1.0]]
    assert oriented_ious(thin, np.array([[20, 20, 10, 10, 0.0]])).tolist()[0][0] < 0.5


def test_keypoints_are_similar_by_coco_formula() -> None:
    near, far = posed([(1, 1), (5, 5)]), posed([(1, 1), (5, 8)])
    wide = 2 * 100 * 0.53 * (2 / 2) ** 2
    expected = (1 + np.exp(-9 / wide)) / 2
    np.testing.assert_allclose(keypoint_similarities(near, far), [[expected]])
    assert keypoint_similarities(near, near).tolist() == [[1.0]]


def test_keypoints_that_neither_shows_play_no_part_unless_none_is_shown() -> None:
    first, moved = posed([(1, 1, 0.9), (5, 5, 0.1)]), posed([(1, 1, 0.9), (30, 30, 0.1)])
    assert keypoint_similarities(first, moved).tolist() == [[1.0]]
    hidden, elsewhere = posed([(1, 1, 0.1), (5, 5, 0.1)]), posed([(1, 1, 0.1), (30, 30, 0.1)])
    assert keypoint_similarities(hidden, elsewhere)[0, 0] < 0.6
    one = np.array([[0, 0, 0.9], [0, 0, 0.1]], np.float32)
    other = np.array([[0, 0, 0.1], [0, 0, 0.2]], np.float32)
    assert seen_points(one, other).tolist() == [True, False]
    assert seen_points(other, other).tolist() == [True, True]


def test_seventeen_points_are_those_of_a_person() -> None:
    coco = pytest.importorskip("pycocotools.cocoeval")
    np.testing.assert_allclose(point_sigmas(17), coco.Params("keypoints").kpt_oks_sigmas)
    assert point_sigmas(4).tolist() == [0.25] * 4


def test_each_task_has_its_own_overlap() -> None:
    box = np.array([[10, 10, 20, 20]], np.float32)
    common = (box, np.ones(1, np.float32), np.zeros(1, np.int32), ("a",), HW)
    masks = Masks.from_array(np.stack([rectangle(10, 10, 20, 20)]))
    smaller = Masks.from_array(np.stack([rectangle(10, 10, 20, 18)]))
    assert overlaps(Detections(*common), Detections(*common)).tolist() == [[1.0]]
    assert overlaps(Detections(*common, masks=masks), Detections(*common, masks=smaller))[0, 0] == pytest.approx(0.8)
    turned = [np.array([[15, 15, 10, 3, angle]], np.float32) for angle in (0.0, 0.8)]
    assert overlaps(*(Detections(*common, boxes_xywhr=one) for one in turned))[0, 0] < 0.7
    points = [np.array([[[12, 12], [x, 18]]], np.float32) for x in (18, 12)]
    assert overlaps(*(Detections(*common, keypoints=one) for one in points))[0, 0] < 0.95
