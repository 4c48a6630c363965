from __future__ import annotations

import cv2
import numpy as np
import pytest

from yoloship.validate.yolov5.pixels import Placed


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "scaled"),
    [((640, 640), (640, 640)), ((333, 500), (426, 640)), ((160, 200), (512, 640)), ((400, 616), (415, 639))],
)
def test_sizes_are_rounded_down_and_small_images_are_enlarged(source: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert Placed.of(source, 640, (672, 672)).image_hw == scaled


def test_shrinking_takes_areas_and_enlarging_is_bilinear() -> None:
    large, small = noise(1000, 750), noise(50, 40)
    for image, size, method in ((large, (480, 640), cv2.INTER_AREA), (small, (512, 640), cv2.INTER_LINEAR)):
        placed = Placed.of(image.shape[:2], 640, (640, 640))
        assert placed.image_hw == size[::-1]
        left = (640 - size[0]) // 2
        np.testing.assert_array_equal(
            placed.draw(image)[:, left : left + size[0]], cv2.resize(image, size, interpolation=method)
        )


def test_the_padding_is_grey_and_remembered_with_its_half() -> None:
    image = noise(63, 64)
    placed = Placed.of((63, 64), 64, (96, 96))
    assert placed.pad_xy == (16.0, 16.5)
    canvas = placed.draw(image)
    np.testing.assert_array_equal(canvas[16 : 16 + 63, 16 : 16 + 64], image)
    canvas[16 : 16 + 63, 16 : 16 + 64] = 114
    assert (canvas == 114).all()


def test_the_gain_is_that_of_the_height() -> None:
    placed = Placed.of((333, 500), 640, (672, 672))
    assert placed.gain == 426 / 333
    assert placed.gain != 640 / 500


def test_an_image_of_the_right_size_is_not_scaled() -> None:
    image = noise(32, 64)
    np.testing.assert_array_equal(Placed.of((32, 64), 64, (32, 64)).draw(image), image)


def test_a_long_strip_keeps_a_pixel() -> None:
    placed = Placed.of((10, 10_000), 640, (64, 640))
    assert placed.image_hw == (1, 640)
    assert placed.draw(noise(10, 10_000)).shape == (64, 640, 3)
