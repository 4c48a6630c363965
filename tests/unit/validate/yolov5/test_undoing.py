from __future__ import annotations

import numpy as np

from yoloship.validate.yolov5.pixels import Placed
from yoloship.validate.yolov5.undoing import labels_to_source, shares_of, to_source

PLACED = Placed.of((333, 500), 640, (512, 672))
"""426 × 640 on the canvas: 43 px of padding at the top, 16 px on the left."""


def test_boxes_lose_the_padding_and_are_divided_by_the_gain_of_the_height_on_both_axes() -> None:
    back = to_source(np.array([[16 + 64, 43 + 42.6, 16 + 320, 43 + 213]], np.float32), PLACED)
    gain = 426 / 333
    np.testing.assert_allclose(back, [[64 / gain, 42.6 / gain, 320 / gain, 213 / gain]], rtol=1e-6)
    assert back.dtype == np.float32


def test_boxes_are_clipped_to_the_image() -> None:
    back = to_source(np.array([[-100, 0, 1000, 1000]], np.float32), PLACED)
    np.testing.assert_array_equal(back, [[0, 0, 500, 333]])


def test_labels_take_the_same_way_and_carry_its_error() -> None:
    shares = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    back = labels_to_source(shares, PLACED)
    gain = 426 / 333
    x1, x2 = 0.4 * 640 / gain, 0.6 * 640 / gain
    np.testing.assert_allclose(back, [[x1, 0.3 * 333, x2, 0.7 * 333]], rtol=1e-5)
    assert abs(x2 - 300) > 0.01


def test_labels_are_clipped_to_the_canvas_a_thousandth_of_a_pixel_inside() -> None:
    placed = Placed.of((640, 640), 640, (640, 640))
    back = labels_to_source(np.array([[0.5, 0.5, 1, 1], [0.9, 0.9, 0.5, 0.5]], np.float32), placed)
    np.testing.assert_allclose(back[:, 2:], 639.999, atol=2e-4)


def test_shares_are_those_that_were_read() -> None:
    rows = np.array([[0.1, 0.2, 0.1, 0.2], [0.4589124284, 0.4913085979, 0.9178248569, 0.9134226334]], np.float32)
    scale = np.array([513, 385], np.float64)
    half = rows[:, 2:].astype(np.float64) / 2
    boxes = np.concatenate([(rows[:, :2] - half) * scale, (rows[:, :2] + half) * scale], axis=1)
    np.testing.assert_array_equal(shares_of(boxes, (385, 513)), rows)
    assert shares_of(np.zeros((0, 4)), (10, 10)).shape == (0, 4)
