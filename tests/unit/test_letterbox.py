from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from yoloship.errors import InputError
from yoloship.letterbox import Letterbox


def random_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(image: npt.NDArray[np.uint8], letterbox: Letterbox) -> npt.NDArray[np.uint8]:
    """Resize, then a border of grey: the plain way."""
    rows, columns = letterbox.resized_hw
    resized = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    sides = (letterbox.top, letterbox.bottom, letterbox.left, letterbox.right)
    return np.asarray(cv2.copyMakeBorder(resized, *sides, cv2.BORDER_CONSTANT, value=(114, 114, 114)), np.uint8)


def test_a_portrait_lies_between_grey_columns() -> None:
    box = Letterbox.fixed((1080, 810), (640, 640))
    assert box == Letterbox((1080, 810), (640, 480), left=80, top=0, right=80, bottom=0)
    assert box.input_hw == (640, 640)


def test_an_odd_padding_has_its_extra_pixel_right_and_below() -> None:
    box = Letterbox.fixed((100, 99), (640, 640))
    assert box.resized_hw == (640, 634)
    assert (box.left, box.right) == (3, 3)
    box = Letterbox.fixed((640, 635), (640, 640))
    assert (box.left, box.right) == (2, 3)
    box = Letterbox.fixed((635, 640), (640, 640))
    assert (box.top, box.bottom) == (2, 3)


def test_rect_pads_to_the_next_multiple_of_the_stride() -> None:
    assert Letterbox.rect((1080, 810), (640, 640), 32).input_hw == (640, 480)
    assert Letterbox.rect((720, 1280), (640, 640), 32).input_hw == (384, 640)
    assert Letterbox.rect((720, 1280), (640, 640), 32).top == 12


def test_a_very_thin_image_keeps_one_pixel() -> None:
    box = Letterbox.fixed((1, 8192), (640, 640))
    assert box.resized_hw == (1, 640)
    assert Letterbox.rect((1, 8192), (640, 640), 32).input_hw == (32, 640)
    canvas = box.apply(random_image(1, 8192))
    assert (canvas[box.top] != 114).any()
    assert (np.delete(canvas, box.top, axis=0) == 114).all()


def test_a_small_image_is_enlarged() -> None:
    assert Letterbox.fixed((32, 16), (640, 640)).resized_hw == (640, 320)


@pytest.mark.parametrize("size", [(1080, 810), (480, 640), (641, 639), (333, 777), (3, 500), (640, 640), (1, 1)])
@pytest.mark.parametrize("input_hw", [(640, 640), (384, 640)])
def test_the_canvas_has_the_pixels_of_the_plain_way(size: tuple[int, int], input_hw: tuple[int, int]) -> None:
    image = random_image(*size)
    box = Letterbox.fixed(size, input_hw)
    np.testing.assert_array_equal(box.apply(image), reference(image, box))


def test_a_canvas_that_was_used_before_is_wholly_written_over() -> None:
    canvases = np.full((2, 640, 640, 3), 7, np.uint8)
    image = random_image(200, 301)
    box = Letterbox.fixed((200, 301), (640, 640))
    assert np.shares_memory(box.apply(image, out=canvases[1]), canvases)
    np.testing.assert_array_equal(canvases[1], reference(image, box))
    assert (canvases[0] == 7).all()


def test_the_image_is_not_written_to_and_may_be_any_view() -> None:
    image = random_image(100, 200)
    flipped = image[::-1, ::-1]
    flipped.flags.writeable = False
    box = Letterbox.fixed((100, 200), (64, 64))
    np.testing.assert_array_equal(box.apply(flipped), reference(np.ascontiguousarray(flipped), box))


def test_boxes_keep_their_type_and_the_caller_owns_them() -> None:
    box = Letterbox.fixed((1080, 810), (640, 640))
    corners = np.array([[80, 0, 560, 640]], np.float32)
    moved = box.to_image(corners)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, [[0, 0, 810, 1080]], atol=1e-3)
    assert box.to_image(corners.astype(np.float64)).dtype == np.float64


def test_points_go_the_same_way_as_the_corners_of_boxes() -> None:
    box = Letterbox.fixed((333, 810), (640, 320))
    corners = np.random.default_rng(4).uniform(0, 640, (5, 3, 4))
    np.testing.assert_array_equal(box.to_image(corners.reshape(5, 3, 2, 2)).reshape(5, 3, 4), box.to_image(corners))
    assert box.to_image(np.empty((0, 17, 2), np.float32)).shape == (0, 17, 2)


def test_wrong_arrays_and_sizes_are_refused() -> None:
    box = Letterbox.fixed((10, 20), (64, 64))
    with pytest.raises(InputError, match="image: wrong array: expected uint8"):
        box.apply(random_image(20, 10))
    with pytest.raises(InputError, match="out: wrong array"):
        box.apply(random_image(10, 20), out=np.zeros((64, 65, 3), np.uint8))
    with pytest.raises(InputError, match="has no pixels"):
        Letterbox.fixed((0, 20), (64, 64))
    with pytest.raises(InputError, match="not a multiple of the stride: expected n × 32"):
        Letterbox.rect((10, 20), (650, 640), 32)
