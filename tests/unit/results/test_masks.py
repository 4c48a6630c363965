"""Masks of objects: kept as small windows, and given as arrays, outlines, areas and run lengths in source pixels."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from yoloship.errors import InputError
from yoloship.letterbox import Letterbox
from yoloship.results.masks import Masks, MaskWindow

Array = npt.NDArray[np.bool_]
HW = (30, 40)


def discs(*circles: tuple[int, int, int], hw: tuple[int, int] = HW) -> Array:
    """Filled circles: centre x, centre y, radius."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.array([(x - cx) ** 2 + (y - cy) ** 2 <= r * r for cx, cy, r in circles]).reshape(-1, *hw)


def on_canvas(masks: Array, letterbox: Letterbox) -> Masks:
    return Masks(tuple(map(MaskWindow.of, masks)), letterbox.image_hw, letterbox)


def test_whole_masks_come_back_as_they_were() -> None:
    given = discs((10, 10, 6), (25, 20, 9), (39, 29, 4), (5, 5, -1))
    masks = Masks.from_array(given)
    np.testing.assert_array_equal(masks.array, given)
    np.testing.assert_array_equal(masks.native_array, given)
    np.testing.assert_array_equal(np.array(list(masks)), given)
    np.testing.assert_array_equal(masks[1], given[1])
    np.testing.assert_array_equal(masks[-2], given[-2])
    assert masks.area_px.tolist() == given.sum(axis=(1, 2)).tolist()
    assert sum(len(window.bits) for window in masks.windows) < given.size / 16


def test_a_selection_has_the_masks_that_were_asked_for() -> None:
    given = discs((10, 10, 6), (25, 20, 9), (30, 10, 4))
    masks = Masks.from_array(given)
    for rows in (slice(1, None), [2, 0], np.array([True, False, True]), np.array([], np.intp), [False, False, True]):
        chosen: Any = rows
        np.testing.assert_array_equal(masks[chosen].array, given[chosen])
    with pytest.raises(IndexError):
        masks[3]


def test_masks_are_values() -> None:
    masks = Masks.from_array(discs((10, 10, 6), (25, 20, 9)))
    assert masks == Masks.from_array(discs((10, 10, 6), (25, 20, 9)))
    assert masks != masks[:1]
    assert pickle.loads(pickle.dumps(masks)) == copy.deepcopy(masks) == masks
    assert repr(masks) == "Masks(2 in 40×30)"


def test_none_at_all_give_arrays_without_rows() -> None:
    masks = Masks((), HW)
    assert masks.array.shape == (0, *HW)
    assert masks.area_px.shape == (0,)
    assert masks.polygons() == []
    assert masks.rle() == []


@pytest.mark.parametrize("image_hw", [(30, 40), (64, 128), (300, 251), (17, 500), (500, 17), (1080, 810)])
def test_a_mask_on_the_canvas_is_interpolated_at_the_centre_of_each_source_pixel(image_hw: tuple[int, int]) -> None:
    letterbox = Letterbox.fixed(image_hw, (64, 128))
    canvas = discs((40, 30, 18), (64, 32, 30), (100, 50, 9), hw=(64, 128))
    found = on_canvas(canvas, letterbox).array
    y, x = (
        np.clip((np.arange(side) + 0.5) * resized / side - 0.5 + pad, 0, limit - 1)
        for side, resized, pad, limit in zip(
            image_hw, letterbox.resized_hw, (letterbox.top, letterbox.left), (64, 128), strict=True
        )
    )
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, 63), np.minimum(x0 + 1, 127)
    fy, fx = (y - y0)[:, None], x - x0
    for mask, whole in zip(found, canvas.astype(float), strict=True):
        top = whole[y0][:, x0] * (1 - fx) + whole[y0][:, x1] * fx
        value = top * (1 - fy) + (whole[y1][:, x0] * (1 - fx) + whole[y1][:, x1] * fx) * fy
        clear = np.abs(value - 0.5) > 0.04  # OpenCV rounds the place to 1/32 of a pixel
        np.testing.assert_array_equal(mask[clear], (value > 0.5)[clear])


def test_a_small_window_gives_what_the_whole_canvas_gives() -> None:
    letterbox = Letterbox.fixed((300, 251), (64, 128))
    canvas = discs((64, 32, 12), (50, 3, 8), (80, 62, 5), (36, 30, 7), (3, 3, 2), hw=(64, 128))
    tight = Masks(Masks.from_array(canvas).windows, letterbox.image_hw, letterbox)
    whole = on_canvas(canvas, letterbox)
    np.testing.assert_array_equal(tight.array, whole.array)
    np.testing.assert_array_equal(tight.native_array, canvas)
    assert tight.area_px.tolist() == whole.area_px.tolist()
    assert tight.rle() == whole.rle()


def test_an_image_of_the_size_of_the_canvas_loses_nothing() -> None:
    letterbox = Letterbox.fixed((50, 128), (64, 128))
    canvas = discs((64, 32, 12), (50, 3, 9), (120, 62, 20), hw=(64, 128))
    for masks in (on_canvas(canvas, letterbox), Masks(Masks.from_array(canvas).windows, (50, 128), letterbox)):
        np.testing.assert_array_equal(masks.array, canvas[:, 7:57])


def test_outlines_are_the_contours_of_the_canvas_moved_to_the_image() -> None:
    letterbox = Letterbox.fixed((128, 128), (64, 128))
    canvas = discs((64, 32, 12), hw=(64, 128))
    ((outline,),) = on_canvas(canvas, letterbox).polygons()
    (contour,), _ = cv2.findContours(canvas[0].view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    np.testing.assert_array_equal(outline, (contour[:, 0] - np.array([32, 0])) * 2.0)
    assert outline.dtype == np.float32


def test_the_largest_part_comes_first_and_specks_without_area_are_left_out() -> None:
    mask = discs((8, 8, 3), hw=HW)[0] | discs((25, 18, 8), hw=HW)[0]
    mask[28, 2:4] = True
    (parts,) = Masks.from_array(mask[None]).polygons()
    assert [round(float(part[:, 0].mean())) for part in parts] == [25, 8]


def test_outlines_stay_inside_the_image() -> None:
    letterbox = Letterbox.fixed((128, 128), (64, 128))
    canvas = np.ones((1, 64, 128), bool)  # in the padding too
    ((outline,),) = on_canvas(canvas, letterbox).polygons()
    assert outline.min() == 0
    assert outline.max() <= 128


def test_masks_of_one_canvas_are_joined_as_they_are_and_others_in_source_pixels() -> None:
    hw = (48, 96)
    letterbox, other = Letterbox.fixed(hw, (64, 128)), Letterbox.fixed(hw, (32, 64))
    first = on_canvas(discs((64, 32, 12), hw=(64, 128)), letterbox)
    second = on_canvas(discs((40, 16, 7), hw=(32, 64)), other)
    assert Masks.concatenate([first, first]) == Masks(first.windows * 2, hw, letterbox)
    joined = Masks.concatenate([first, second])
    assert joined.letterbox is None
    np.testing.assert_array_equal(joined.array, np.concatenate([first.array, second.array]))
    with pytest.raises(InputError, match=r"Masks.concatenate: masks of images of one size are expected"):
        Masks.concatenate([first, Masks((), (9, 9))])
    with pytest.raises(InputError, match=r"Masks.concatenate"):
        Masks.concatenate([])


def test_what_is_not_a_mask_is_refused() -> None:
    wrong: Any = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(InputError, match=r"Masks: wrong array: expected bool \(n, height, width\), got uint8"):
        Masks.from_array(wrong)
    with pytest.raises(InputError, match=r"MaskWindow: is not a window of a mask"):
        MaskWindow(0, 0, (8, 8), b"123")
    with pytest.raises(InputError, match=r"MaskWindow: is not a window of a mask"):
        MaskWindow.of(np.ones((8, 8), bool), -1, 0)
    with pytest.raises(InputError, match=r"a mask reaches beyond its image: expected inside \(30, 40\)"):
        Masks((MaskWindow.of(np.ones((8, 8), bool), 33, 0),), HW)
    with pytest.raises(InputError, match=r"the letterbox is of an image of a different size"):
        Masks((), HW, Letterbox.fixed((9, 9), (64, 64)))


def test_run_lengths_say_the_size_of_the_image() -> None:
    assert Masks.from_array(np.zeros((1, 3, 4), bool)).rle() == [{"size": [3, 4], "counts": "<"}]
