"""Masks from prototypes: the short way against the plain one, which computes every pixel of every mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yoloship.errors import SessionError
from yoloship.letterbox import Letterbox
from yoloship.results.mask_rules import MASK_RULES
from yoloship.tasks.prototypes import check_prototypes, masks_on_canvas, masks_on_image

Floats = npt.NDArray[np.float32]
RULES = list(MASK_RULES)
CANVAS = (64, 96)


def interpolated(values: npt.NDArray[np.float64], hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(n, h, w) to (n, *hw), bilinear with half-pixel centres: the documented formula of PyTorch's interpolate."""
    for axis, side in ((1, hw[0]), (2, hw[1])):
        have = values.shape[axis]
        place = np.maximum((np.arange(side) + 0.5) * have / side - 0.5, 0)
        low = np.minimum(place.astype(int), have - 1)
        high, share = np.minimum(low + 1, have - 1), place - low
        shape = [-1 if index == axis else 1 for index in range(3)]
        values = values.take(low, axis) * (1 - share.reshape(shape)) + values.take(high, axis) * share.reshape(shape)
    return values


def inside(boxes: Floats, hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: hw[0], : hw[1]]
    x1, y1, x2, y2 = (side[:, None, None] for side in boxes.T)
    result: npt.NDArray[np.bool_] = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return result


def plain(rule: str, boxes: Floats, coefficients: Floats, prototypes: Floats) -> tuple[npt.NDArray[np.float64], float]:
    """The value of every pixel of the canvas, and the limit that it is compared with."""
    chosen = MASK_RULES[rule]
    values = np.tensordot(coefficients.astype(np.float64), prototypes.astype(np.float64), 1)
    if chosen.squashes:
        values = 1 / (1 + np.exp(-values))
    if chosen.crops_first:
        factor = CANVAS[0] // prototypes.shape[1]
        return interpolated(values * inside(boxes / factor, prototypes.shape[1:]), CANVAS), chosen.limit
    return np.where(inside(boxes, CANVAS), interpolated(values, CANVAS), -1.0), chosen.limit


def some(seed: int, factor: int, count: int = 30) -> tuple[Floats, Floats, Floats]:
    """Boxes partly outside the canvas, coefficients and prototypes."""
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(-20, 120, (count, 2, 2)), axis=1).astype(np.float32)
    corners[0] = [[40, 30], [40, 50]]  # no width
    corners[1] = [[200, 200], [300, 300]]  # outside
    coefficients = random.standard_normal((count, 5)).astype(np.float32)
    return (
        corners.reshape(count, 4),
        coefficients,
        random.standard_normal((5, CANVAS[0] // factor, CANVAS[1] // factor)).astype(np.float32),
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_only_what_a_box_can_reach_is_computed_and_it_is_the_same(rule: str, factor: int) -> None:
    boxes, coefficients, prototypes = some(3, factor)
    letterbox = Letterbox.fixed((50, 80), CANVAS)
    masks = masks_on_canvas(boxes, coefficients, prototypes, letterbox, MASK_RULES[rule])
    values, limit = plain(rule, boxes, coefficients, prototypes)
    clear = np.abs(values - limit) > 1e-5
    found = masks.native_array
    np.testing.assert_array_equal(found[clear], (values > limit)[clear])
    assert not found[:2].any()
    assert 0.05 < found.mean() < 0.6


def plain_on_image(
    rule: str, boxes: Floats, coefficients: Floats, prototypes: Floats, letterbox: Letterbox
) -> tuple[npt.NDArray[np.float64], float]:
    """The value of every pixel of the image, by the documented steps, without the short ways."""
    chosen, (height, width) = MASK_RULES[rule], letterbox.image_hw
    values = np.tensordot(coefficients.astype(np.float64), prototypes.astype(np.float64), 1)
    if chosen.squashes:
        values, boxes = 1 / (1 + np.exp(-values)), np.rint(boxes)
    factor, finer = CANVAS[0] // prototypes.shape[1], 1
    if chosen.crops_first:
        gain = min(values.shape[1] / height, values.shape[2] / width)
        y, x = (values.shape[1] - height * gain) / 2, (values.shape[2] - width * gain) / 2
        values = values[:, int(y) : int(values.shape[1] - y), int(x) : int(values.shape[2] - x)]
    else:
        while letterbox.top * finer % factor or letterbox.left * finer % factor:
            finer *= 2
        values = interpolated(values, (values.shape[1] * finer, values.shape[2] * finer))
        gain = min(values.shape[1] / height, values.shape[2] / width)
        y, x = letterbox.top * finer // factor, letterbox.left * finer // factor
        values = values[:, y : y + round(height * gain), x : x + round(width * gain)]
    return np.where(inside(boxes, letterbox.image_hw), interpolated(values, letterbox.image_hw), -1.0), chosen.limit


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("image_hw", [(64, 96), (128, 192), (50, 80), (100, 40), (31, 96), (333, 97)])
@pytest.mark.parametrize("factor", [2, 4])
def test_masks_at_the_size_of_the_image_are_interpolated_there(
    rule: str, image_hw: tuple[int, int], factor: int
) -> None:
    boxes, coefficients, prototypes = some(4, factor)
    letterbox = Letterbox.fixed(image_hw, CANVAS)
    height, width = image_hw
    boxes = np.clip(letterbox.to_image(boxes), 0, [width, height, width, height]).astype(np.float32)
    masks = masks_on_image(boxes, coefficients, prototypes, letterbox, MASK_RULES[rule])
    values, limit = plain_on_image(rule, boxes, coefficients, prototypes, letterbox)
    clear = np.abs(values - limit) > 1e-4
    assert masks.letterbox is None
    found = masks.array
    np.testing.assert_array_equal(found[clear], (values > limit)[clear])
    assert found.any()


def test_an_image_that_is_much_longer_than_wide_still_has_masks() -> None:
    letterbox = Letterbox.fixed((3000, 5), CANVAS)
    boxes, weights, ones = np.array([[0, 0, 5, 3000]], np.float32), np.ones((1, 1), np.float32), np.ones((1, 16, 24))
    for rule in MASK_RULES.values():
        masks = masks_on_image(boxes, weights, ones.astype(np.float32), letterbox, rule)
        assert masks.area_px.tolist() == [15000]


def test_numbers_that_are_not_finite_give_no_mask_and_no_error() -> None:
    letterbox = Letterbox.fixed(CANVAS, CANVAS)
    prototypes = np.ones((1, 16, 24), np.float32)
    prototypes[0, :8] = np.nan
    boxes = np.array([[0, 0, 96, 64], [np.nan, 0, 5, 5], [0, 0, np.inf, 64], [-3e38, -3e38, 3e38, 3e38]], np.float32)
    for rule in MASK_RULES.values():
        for make in (masks_on_canvas, masks_on_image):
            masks = make(boxes, np.full((4, 1), 3e38, np.float32), prototypes, letterbox, rule).array
            assert not masks[:, :28].any()
            assert not masks[1:3].any()
            assert masks[[0, 3], 40:].all()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 16, 24), r"do not fit the mask coefficients: expected \(5, h, w\), got \(4, 16, 24\)"),
        ((5, 16), "do not fit the mask coefficients"),
        ((5, 15, 24), r"are not whole cells of the canvas: expected 64×96 divided by a whole number, got 15×24"),
        ((5, 16, 23), "are not whole cells"),
        ((5, 32, 24), "are not whole cells"),
        ((5, 128, 192), "are not whole cells"),
        ((5, 0, 0), "are not whole cells"),
    ],
)
def test_prototypes_that_do_not_fit_are_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(SessionError, match=f"output1: the prototypes {words}"):
        check_prototypes(shape, CANVAS, 5, "output1")
