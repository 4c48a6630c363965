from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.results.skeleton import COCO_LIMBS, COCO_POINTS, draw_keypoints

Image = npt.NDArray[np.uint8]
GREY = np.full((200, 200, 3), 128, np.uint8)


def marks(keypoints: npt.NDArray[np.float32], line_width_px: int | None = 3) -> npt.NDArray[np.bool_]:
    return np.asarray((draw_keypoints(GREY.copy(), keypoints, line_width_px) != GREY).any(axis=2))


def person(**visibility: float) -> npt.NDArray[np.float32]:
    """Seventeen points on a circle, so that every pair of them is apart; (1, 17, 3)."""
    angles = np.arange(COCO_POINTS) * (2 * np.pi / COCO_POINTS)
    points = np.stack([100 + 80 * np.cos(angles), 100 + 80 * np.sin(angles), np.ones(COCO_POINTS)], axis=1)
    for name, value in visibility.items():
        points[int(name.removeprefix("point_")), 2] = value
    return points[None].astype(np.float32)


def test_every_limb_joins_two_points_and_every_point_has_one() -> None:
    assert len({frozenset(limb[:2]) for limb in COCO_LIMBS}) == len(COCO_LIMBS) == 19
    assert {end for limb in COCO_LIMBS for end in limb[:2]} == set(range(COCO_POINTS))


def test_a_person_has_points_and_limbs_between_them() -> None:
    points = person()
    drawn = marks(points)
    for one, other, _ in COCO_LIMBS:
        x, y = points[0, [one, other], :2].mean(axis=0)
        assert drawn[round(y), round(x)]


def test_a_point_that_cannot_be_seen_is_not_drawn_nor_are_its_limbs() -> None:
    arm = person(**{f"point_{index}": 0.0 for index in range(COCO_POINTS) if index not in {7, 9}})
    hidden = arm.copy()
    hidden[0, 9, 2] = 0.49
    for share in (1.0, 0.5):  # the wrist, and half way to the elbow
        x, y = arm[0, 9, :2] * share + arm[0, 7, :2] * (1 - share)
        assert marks(arm)[round(y), round(x)]
        assert not marks(hidden)[round(y), round(x)]


@pytest.mark.parametrize("numbers", [2, 3])
def test_another_number_of_points_is_drawn_as_points_alone(numbers: int) -> None:
    points = np.array([[[40, 40, 1], [160, 40, 1]]], np.float32)[..., :numbers]
    drawn = marks(points)
    assert drawn[40, 40]
    assert drawn[40, 160]
    assert not drawn[:, 80:120].any()


def test_points_of_a_set_have_colours_of_their_own() -> None:
    drawn = draw_keypoints(GREY.copy(), np.array([[[40, 40], [160, 40]]], np.float32))
    assert drawn[40, 40].tolist() != drawn[40, 160].tolist()


def test_the_best_object_is_on_top() -> None:
    person_a, person_b = person(), person()
    person_b[..., 0] += 1
    both = draw_keypoints(GREY.copy(), np.concatenate([person_a, person_b]), 3)
    alone = draw_keypoints(GREY.copy(), person_a, 3)
    x, y, _ = person_a[0, 0]
    assert both[round(y), round(x)].tolist() == alone[round(y), round(x)].tolist()


def test_points_that_are_not_finite_or_far_away_do_no_harm() -> None:
    points = person()
    points[0, 9] = np.nan
    points[0, 10, 0] = np.inf
    points[0, 15, :2] = 3e9
    assert marks(points).any()
    assert not marks(np.full((2, 5, 2), np.nan, np.float32)).any()
    assert not marks(np.empty((0, 17, 3), np.float32)).any()
    assert not marks(np.empty((2, 0, 3), np.float32)).any()
