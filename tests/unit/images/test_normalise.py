"""Arrays and PIL pictures brought to one form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yoloship.errors import ImageError
from yoloship.images import as_bgr

RNG = np.random.default_rng(3)
BGR = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)


def test_a_picture_in_the_right_form_is_not_copied() -> None:
    assert as_bgr(BGR) is BGR


def test_a_view_with_other_strides_becomes_contiguous_and_the_original_stays() -> None:
    view = BGR[::-1, ::2]
    before = view.copy()
    made = as_bgr(view)
    assert made.flags.c_contiguous
    assert np.array_equal(made, view)
    assert np.array_equal(view, before)


@pytest.mark.parametrize("grey", [BGR[:, :, 0], BGR[:, :, :1]])
def test_greyscale_is_repeated(grey: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(as_bgr(grey), np.dstack([BGR[:, :, 0]] * 3))


def test_alpha_is_dropped() -> None:
    assert np.array_equal(as_bgr(np.dstack([BGR, BGR[:, :, 0]])), BGR)


def test_sixteen_bits_are_scaled_whatever_their_byte_order() -> None:
    wide = BGR.astype(np.uint16) * 257
    assert np.array_equal(as_bgr(wide), BGR)
    assert np.array_equal(as_bgr(wide.astype(">u2")), BGR)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_pil_picture_becomes_bgr(mode: str) -> None:
    picture = Image.fromarray(BGR[:, :, ::-1]).convert(mode)
    expected = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    assert np.array_equal(as_bgr(picture), expected)


def test_a_sixteen_bit_pil_picture_is_scaled() -> None:
    wide = Image.fromarray(BGR[:, :, 0].astype(np.uint16) * 257)
    assert np.array_equal(as_bgr(wide)[:, :, 1], BGR[:, :, 0])


def test_the_orientation_of_a_pil_picture_is_applied() -> None:
    picture = Image.fromarray(BGR[:, :, ::-1])
    picture.getexif()[0x0112] = 6
    assert np.array_equal(as_bgr(picture), np.rot90(BGR, -1))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (BGR.astype(np.float32), "got float32; multiply by 255 and convert to uint8"),
        (BGR.astype(np.int64), "wrong element type"),
        (BGR.transpose(2, 0, 1), "got (3, 6, 8); transpose it to height, width, channels"),
        (np.zeros((2, 3, 4, 3), np.uint8), "wrong shape"),
        (np.zeros(5, np.uint8), "wrong shape"),
        (np.zeros((0, 5, 3), np.uint8), "has no pixels: got (0, 5, 3)"),
        (np.zeros((5, 0, 3), np.uint8), "has no pixels: got (5, 0, 3)"),
        ([1, 2], "is not an image"),
        (None, "got NoneType"),
    ],
)
def test_everything_else_is_refused_with_what_was_expected(picture: object, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        as_bgr(picture, subject="frame 7")
    assert message in str(caught.value)
    assert str(caught.value).startswith("frame 7: ")
