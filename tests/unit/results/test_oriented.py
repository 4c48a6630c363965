from __future__ import annotations

import cv2
import numpy as np
import pytest

from yoloship.results.oriented import corners_of, hulls_of, moments_of, pair_probious


def boxes(*rows: tuple[float, float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def probiou_of(first: np.ndarray, second: np.ndarray) -> float:
    """Of the distributions themselves, in float64: Bhattacharyya with matrices, and no small numbers."""
    covariances = []
    for _, _, width, height, angle in (first, second):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        covariances.append(turn @ np.diag([width**2, height**2]) @ turn.T / 12)
    mean, apart = sum(covariances) / 2, first[:2] - second[:2]
    log = np.log(np.linalg.det(mean) / np.sqrt(np.prod([np.linalg.det(one) for one in covariances])))
    distance = apart @ np.linalg.inv(mean) @ apart / 8 + log / 2
    return float(1 - np.sqrt(1 - np.exp(-distance)))


def test_corners_have_the_fields_order() -> None:
    (upright,) = corners_of(boxes((10, 20, 8, 4, 0)))
    assert upright.tolist() == [[14, 22], [14, 18], [6, 18], [6, 22]]
    (turned,) = corners_of(boxes((10, 20, 8, 4, np.pi / 2)))
    np.testing.assert_allclose(turned, [[8, 24], [12, 24], [12, 16], [8, 16]], atol=1e-5)


def test_corners_are_those_that_opencv_gives_for_the_same_rectangle() -> None:
    random = np.random.default_rng(1)
    for box in np.float32(random.uniform((0, 0, 1, 1, -0.8), (500, 500, 200, 200, 2.4), (50, 5))):
        x, y, width, height, angle = box.tolist()
        expected = cv2.boxPoints(((x, y), (width, height), np.degrees(angle)))
        apart = np.linalg.norm(corners_of(box)[:, None] - expected, axis=2)
        assert apart.min(axis=0).max() < 0.01  # another order, the same points


def test_the_hull_is_the_smallest_upright_box_around_the_corners() -> None:
    hull = hulls_of(boxes((10, 20, 8, 4, np.pi / 2), (0, 0, 2**0.5, 2**0.5, np.pi / 4)))
    np.testing.assert_allclose(hull, [[8, 16, 12, 24], [-1, -1, 1, 1]], atol=1e-5)
    assert hull.dtype == np.float32
    assert hulls_of(np.empty((0, 5), np.float32)).shape == (0, 4)


def test_probabilistic_iou_is_that_of_the_distributions() -> None:
    random = np.random.default_rng(2)
    low, high = (100, 100, 10, 10, -0.8), (150, 150, 80, 80, 2.4)
    first, second = (random.uniform(low, high, (200, 5)) for _ in range(2))
    expected = [probiou_of(*pair) for pair in zip(first, second, strict=True)]
    exact = pair_probious(moments_of(first), moments_of(second))
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    single = pair_probious(moments_of(first.astype(np.float32)), moments_of(second.astype(np.float32)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-4)


def test_equal_boxes_are_almost_one_and_far_ones_zero() -> None:
    moments = moments_of(boxes((50, 50, 40, 20, 0.3), (50, 50, 20, 40, 0.3 - np.pi / 2), (5000, 50, 40, 20, 0.3)))
    same = pair_probious(moments[:, 0], moments[:, 1])
    assert same == pytest.approx(0.9995, abs=2e-4)
    assert pair_probious(moments[:, 0], moments[:, 2]) == pytest.approx(0, abs=1e-6)


def test_boxes_without_size_give_a_number_and_broken_ones_none() -> None:
    moments = moments_of(boxes((5, 5, 0, 0, 0), (np.nan, 5, 9, 9, 0), (5, 5, 1e30, 1e30, 0)))
    assert np.isfinite(pair_probious(moments[:, 0], moments[:, 0]))
    assert np.isnan(pair_probious(moments[:, 0], moments[:, 1]))
    assert np.isnan(pair_probious(moments[:, 2], moments[:, 2]))
