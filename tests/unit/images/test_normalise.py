"""Arrays and PIL images brought to one form."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yoloship.errors import ImageError, InputError
from yoloship.images import as_bgr, as_channels, checked_order

RNG = np.random.default_rng(3)
BGR = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)


def test_an_image_in_the_right_form_is_not_copied() -> None:
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
def test_a_pil_image_becomes_bgr(mode: str) -> None:
    image = Image.fromarray(BGR[:, :, ::-1]).convert(mode)
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    assert np.array_equal(as_bgr(image), expected)


def test_a_sixteen_bit_pil_image_is_scaled() -> None:
    wide = Image.fromarray(BGR[:, :, 0].astype(np.uint16) * 257)
    assert np.array_equal(as_bgr(wide)[:, :, 1], BGR[:, :, 0])


def test_the_orientation_of_a_pil_image_is_applied() -> None:
    image = Image.fromarray(BGR[:, :, ::-1])
    image.getexif()[0x0112] = 6
    assert np.array_equal(as_bgr(image), np.rot90(BGR, -1))


@pytest.mark.parametrize(
    ("image", "message"),
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
def test_everything_else_is_refused_with_what_was_expected(image: object, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        as_bgr(image, subject="frame 7")
    assert message in str(caught.value)
    assert str(caught.value).startswith("frame 7: ")


@pytest.mark.parametrize("alpha", [False, True])
def test_an_rgb_array_becomes_bgr(alpha: bool) -> None:
    rgb = BGR[:, :, ::-1]
    given = np.dstack([rgb, BGR[:, :, 0]]) if alpha else rgb
    made = as_bgr(given, channels="rgb")
    assert np.array_equal(made, BGR)
    assert made.flags.c_contiguous


def test_the_order_of_a_grey_array_does_not_matter() -> None:
    assert np.array_equal(as_bgr(BGR[:, :, 0], channels="rgb"), as_bgr(BGR[:, :, 0]))


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_a_pil_image_says_its_own_order(channels: Any) -> None:
    assert np.array_equal(as_bgr(Image.fromarray(BGR[:, :, ::-1]), channels=channels), BGR)


def test_another_order_is_refused() -> None:
    wrong: Any = "gbr"
    with pytest.raises(InputError, match="channels: no such channel order: expected bgr or rgb, got 'gbr'"):
        as_bgr(BGR, channels=wrong)


def nvimgcodec_image(values: npt.NDArray[np.uint8], sample_format: str | None = "I_RGB") -> Any:
    """What nvImageCodec 0.9 gives: an image in the host's memory, which says what its samples are."""
    kind = type("Image", (), {"__module__": "nvidia.nvimgcodec.nvimgcodec_impl"})
    image: Any = kind()
    interface = {"shape": values.shape, "typestr": "|u1", "data": (values.ctypes.data, True), "version": 3}
    image.__array_interface__, image.values = interface, values
    if sample_format is not None:
        image.sample_format = SimpleNamespace(name=sample_format)
    return image


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize(("sample_format", "step"), [("I_RGB", -1), ("I_BGR", 1), (None, -1)])
def test_an_image_of_nvimagecodec_says_its_own_order(channels: Any, sample_format: str | None, step: int) -> None:
    image = nvimgcodec_image(np.ascontiguousarray(BGR[:, :, ::step]), sample_format)
    assert np.array_equal(as_bgr(image, channels=channels), BGR)
    assert np.array_equal(as_channels(image, 1, channels=channels), BGR)


def test_an_image_of_nvimagecodec_in_another_colour_space_is_refused() -> None:
    with pytest.raises(ImageError, match=r"unusual sample format: .*got I_YCC; decode it with the sample format I_RGB"):
        as_bgr(nvimgcodec_image(BGR, "I_YCC"))


def test_an_order_for_channels_that_are_not_colours_is_refused() -> None:
    five = np.zeros((4, 4, 5), np.uint8)
    assert as_channels(five, 5).shape == (4, 4, 5)
    with pytest.raises(InputError, match="channels: is for colour images: got 'rgb' for a model of 5 channels"):
        as_channels(five, 5, channels="rgb")


def test_a_matrix_is_an_array_like_others() -> None:
    """np.repeat writes beyond the memory of a matrix, which ends the process sooner or later."""
    grey = BGR[:, :, 0]
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.asmatrix(grey)
    for found in (as_bgr(matrix), as_channels(matrix, 3)):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, as_bgr(grey))
    assert type(as_channels(matrix, 1)) is np.ndarray


@pytest.mark.parametrize(("mode", "factor"), [("I", 257), ("I", -1), ("F", 1 / 255), ("F", 257)])
def test_a_pil_image_of_32_bits_is_not_cut_off_at_255(mode: str, factor: float) -> None:
    values = BGR[:, :, 0].astype(np.float32)
    same = Image.fromarray(values.astype(np.int32) if mode == "I" else values)
    np.testing.assert_array_equal(as_bgr(same), as_bgr(BGR[:, :, 0]))
    scaled = (values * factor).astype(np.int32 if mode == "I" else np.float32)
    with pytest.raises(ImageError, match=f"mode {mode} with values other than whole numbers from 0 to 255"):
        as_bgr(Image.fromarray(scaled))


@pytest.mark.parametrize("order", [np.array(["bgr", "rgb"]), ["rgb"], 5])
def test_an_order_of_another_type_is_refused_by_name(order: Any) -> None:
    with pytest.raises(InputError, match="channels: no such channel order: expected bgr or rgb"):
        checked_order(order)
    with pytest.raises(InputError, match="channels: no such channel order: expected bgr or rgb"):
        as_bgr(BGR, channels=order)
