from __future__ import annotations

from dataclasses import replace

import pytest

from yoloship.engine import BuildConfig, InputProfile, Range
from yoloship.engine.config import resolve_profiles
from yoloship.errors import InputError
from yoloship.model import ModelInfo, TensorSpec

STATIC = TensorSpec("images", "float32", (1, 3, 640, 640))
DYNAMIC = TensorSpec("images", "float32", ("batch", 3, "height", "width"))
IMAGES = TensorSpec("images", "uint8", ("batch", "height", "width", 3))
INFO = ModelInfo("detect", "yolov5", ("a",), (8, 16, 32), (), "float", "raw", (None, None), None)
SIZES = BuildConfig(batch=Range(1, 4, 8), height=Range(320, 384, 640), width=Range(320, 640, 640))


def test_a_static_network_needs_no_profile() -> None:
    assert resolve_profiles((STATIC,), BuildConfig(), INFO) == ()


def test_ranges_become_three_shapes() -> None:
    assert resolve_profiles((DYNAMIC,), SIZES, INFO) == (
        InputProfile("images", (1, 3, 320, 320), (4, 3, 384, 640), (8, 3, 640, 640)),
    )


def test_ranges_fit_images_whose_channels_come_last() -> None:
    assert resolve_profiles((IMAGES,), SIZES, INFO) == (
        InputProfile("images", (1, 320, 320, 3), (4, 384, 640, 3), (8, 640, 640, 3)),
    )


def test_images_of_other_numbers_of_channels_are_understood_in_both_layouts() -> None:
    grey_bytes = TensorSpec("images", "uint8", ("batch", "height", "width", 1))
    grey_floats = TensorSpec("images", "float32", ("batch", 1, "height", "width"))
    for info in (None, INFO):
        assert resolve_profiles((grey_bytes,), SIZES, info)[0].optimum == (4, 384, 640, 1)
        assert resolve_profiles((grey_floats,), SIZES, info)[0].optimum == (4, 1, 384, 640)
    many = TensorSpec("images", "uint8", ("batch", "height", "width", 20))
    assert resolve_profiles((many,), SIZES, replace(INFO, input_form="image"))[0].optimum == (4, 384, 640, 20)


def test_a_dynamic_axis_without_a_range_is_named_with_the_option_that_it_needs() -> None:
    with pytest.raises(InputError) as caught:
        resolve_profiles((DYNAMIC,), BuildConfig(batch=Range(1, 1, 1)), INFO)
    assert str(caught.value) == (
        "input images float32(batch, 3, height, width): axis 2 (height) is dynamic and nothing says how large it may "
        "be; give --imgsz MIN:OPT:MAX"
    )


def test_a_range_for_a_fixed_axis_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        resolve_profiles((STATIC,), BuildConfig(batch=Range(1, 4, 8)), INFO)
    assert str(caught.value) == (
        "images: batch is fixed in the graph: expected 1, got 1:4:8; export the graph with a dynamic batch, or leave "
        "--batch out"
    )


def test_the_fixed_extent_itself_may_be_said_again() -> None:
    assert resolve_profiles((STATIC,), BuildConfig(batch=Range(1, 1, 1), height=Range(640, 640, 640)), INFO) == ()


@pytest.mark.parametrize("extents", [(330, 384, 640), (320, 380, 640), (320, 384, 650)])
def test_each_size_of_a_range_must_be_a_multiple_of_the_stride(extents: tuple[int, int, int]) -> None:
    bad = next(extent for extent in extents if extent % 32)
    config = BuildConfig(batch=Range(1, 1, 1), height=Range(*extents), width=Range(320, 320, 320))
    with pytest.raises(InputError) as caught:
        resolve_profiles((DYNAMIC,), config, INFO)
    assert str(caught.value).startswith(
        f"images: height is not a multiple of the model's stride: expected a multiple of 32, got {bad}; take "
    )


def test_a_fixed_size_that_is_no_multiple_of_the_stride_is_refused() -> None:
    spec = TensorSpec("images", "float32", (1, 3, 640, 650))
    with pytest.raises(InputError, match=r"width is not a multiple of the model's stride.*got 650; take 640 or 672"):
        resolve_profiles((spec,), BuildConfig(), INFO)


def test_sizes_of_an_unknown_model_are_left_to_tensorrt() -> None:
    assert resolve_profiles((TensorSpec("images", "float32", (1, 3, 50, 50)),), BuildConfig()) == ()


def test_a_whole_profile_is_taken_as_it_is() -> None:
    profile = InputProfile("mask", (1, 2), (2, 2), (3, 2))
    mask = TensorSpec("mask", "float32", ("rows", 2))
    assert resolve_profiles((STATIC, mask), BuildConfig(input_profiles=(profile,)), INFO) == (profile,)


def test_a_whole_profile_must_fit_its_input() -> None:
    mask = TensorSpec("mask", "float32", ("rows", 2))
    config = BuildConfig(input_profiles=(InputProfile("mask", (1, 3), (2, 3), (3, 3)),))
    with pytest.raises(InputError, match=r"mask: profile does not fit the input: expected \(rows, 2\), got \(1, 3\)"):
        resolve_profiles((mask,), config)


def test_a_profile_for_an_unknown_input_is_refused() -> None:
    config = BuildConfig(input_profiles=(InputProfile("nobody", (1,), (1,), (1,)),))
    with pytest.raises(InputError, match="nobody: profile for an input that the network does not have"):
        resolve_profiles((STATIC,), config, INFO)
