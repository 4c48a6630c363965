"""Masks on an image: a tint that the image shows through, and a line around it."""

from __future__ import annotations

import numpy as np

from yoloship.letterbox import Letterbox
from yoloship.results.drawing import class_color
from yoloship.results.masks import Masks, MaskWindow
from yoloship.results.overlay import TINT, draw_masks

HW = (120, 160)
IMAGE = np.random.default_rng(3).integers(0, 256, (*HW, 3), dtype=np.uint8)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def test_inside_the_colour_is_mixed_in_and_outside_nothing_changes() -> None:
    mask = disc(70, 60, 30)
    drawn = draw_masks(IMAGE.copy(), Masks.from_array(mask[None]), np.array([2], np.int32))
    inner = disc(70, 60, 27)
    expected = IMAGE[inner] * (1 - TINT) + np.array(class_color(2)) * TINT
    np.testing.assert_allclose(drawn[inner], expected, atol=0.51)
    np.testing.assert_array_equal(drawn[~disc(70, 60, 33)], IMAGE[~disc(70, 60, 33)])


def test_an_outline_shows_where_an_object_ends() -> None:
    mask = np.zeros((1, *HW), bool)
    mask[0, 30:90, 40:120] = True
    drawn = draw_masks(IMAGE.copy(), Masks.from_array(mask), np.array([0], np.int32), 2)
    inside = np.abs(drawn[40:80, 50:110].astype(int) - class_color(0)).mean()
    for line in (drawn[30, 42:118], drawn[32:88, 119]):  # its sides are smoothed into the pixels beside it
        assert np.abs(line.astype(int) - class_color(0)).mean() < 0.6 * inside


def test_the_best_object_is_on_top() -> None:
    both = Masks.from_array(np.array([disc(60, 60, 30), disc(80, 60, 30)]))
    drawn = draw_masks(IMAGE.copy(), both, np.array([0, 1], np.int32))
    alone = draw_masks(draw_masks(IMAGE.copy(), both[1:], np.array([1], np.int32)), both[:1], np.array([0], np.int32))
    np.testing.assert_array_equal(drawn, alone)


def test_masks_on_a_canvas_of_the_network_are_drawn_too() -> None:
    letterbox = Letterbox.fixed(HW, (64, 64))
    window = MaskWindow.of(np.ones((20, 20), bool), 20, 20)
    drawn = draw_masks(IMAGE.copy(), Masks((window,), HW, letterbox), np.array([5], np.int32))
    assert (drawn[50:80, 60:90] != IMAGE[50:80, 60:90]).any()


def test_an_empty_mask_draws_nothing() -> None:
    nothing = Masks.from_array(np.zeros((2, *HW), bool))
    np.testing.assert_array_equal(draw_masks(IMAGE.copy(), nothing, np.zeros(2, np.int32)), IMAGE)
