from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yoloship.errors import InputError
from yoloship.transforms import Transform, transform_of
from yoloship.transforms.crop import Crop

RNG = np.random.default_rng(5)


def noise(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def by_pillow(image: npt.NDArray[np.uint8], resize: int, crop_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """torchvision's Resize and CenterCrop, spelled out."""
    height, width = image.shape[:2]
    shorter, longer = sorted((height, width))
    longer = int(resize * longer / shorter)
    size = (resize, longer) if width <= height else (longer, resize)
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    pads = [max(0, want - have) for want, have in zip(crop_hw, scaled.shape, strict=False)]
    scaled = np.pad(scaled, [(pad // 2, (pad + 1) // 2) for pad in pads] + [(0, 0)])
    top, left = (round((have - want) / 2.0) for have, want in zip(scaled.shape, crop_hw, strict=False))
    return scaled[top : top + crop_hw[0], left : left + crop_hw[1]]


@pytest.mark.parametrize("hw", [(97, 61), (61, 97), (64, 64), (33, 200), (20, 30), (7, 5)])
@pytest.mark.parametrize(("resize", "crop"), [(36, (32, 32)), (32, (32, 32)), (35, (32, 32)), (40, (24, 56))])
def test_a_centred_crop_is_that_of_torchvision(hw: tuple[int, int], resize: int, crop: tuple[int, int]) -> None:
    image = noise(*hw)
    made = Crop.of(hw, Transform("crop", resize, crop, "bilinear", (0.0,), (1.0,))).apply(image)
    assert made.shape == (*crop, 3)
    assert np.abs(made.astype(int) - by_pillow(image, resize, crop)).max() <= 1


def test_what_a_larger_crop_adds_is_black() -> None:
    image = np.full((30, 20, 3), 200, np.uint8)
    made = Crop.of((30, 20), Transform("crop", 10, (12, 16), "bilinear", (0.0,), (1.0,))).apply(image)
    assert (made[:, 3:13] == 200).all()
    assert not made[:, :3].any()
    assert not made[:, 13:].any()


def test_the_centred_square_is_scaled_as_opencv_does() -> None:
    image = noise(60, 101)
    made = Crop.of((60, 101), transform_of("yolov5", (32, 48))).apply(image)
    np.testing.assert_array_equal(made, cv2.resize(image[:, 20:80], (48, 32), interpolation=cv2.INTER_LINEAR))


def test_an_image_can_be_stretched() -> None:
    image = noise(50, 40)
    made = Crop.of((50, 40), transform_of("ultralytics", (32, 48))).apply(image)
    want = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
    assert np.abs(made.astype(int) - want).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", ["torchvision-v1", "yolov5"])
def test_any_number_of_channels_is_cut_channel_by_channel(name: str, channels: int) -> None:
    image, transform = noise(70, 50, channels), transform_of(name, (32, 32))
    made = Crop.of((70, 50), transform).apply(image)
    for channel in range(channels):
        alone = Crop.of((70, 50), transform).apply(np.ascontiguousarray(image[:, :, channel : channel + 1]))
        np.testing.assert_array_equal(made[:, :, channel], alone[:, :, 0])


def test_it_writes_into_the_canvas_that_it_is_given() -> None:
    image, canvas = noise(50, 40), np.full((32, 32, 3), 7, np.uint8)
    crop = Crop.of((50, 40), transform_of("timm", (32, 32)))
    assert crop.apply(image, canvas) is canvas
    np.testing.assert_array_equal(canvas, crop.apply(image))
    assert (crop.image_hw, crop.input_hw) == ((50, 40), (32, 32))


def test_another_image_than_it_was_made_for_is_refused() -> None:
    crop = Crop.of((50, 40), transform_of("timm", (32, 32)))
    with pytest.raises(InputError, match="wrong array"):
        crop.apply(noise(40, 50))
    with pytest.raises(InputError, match="the image has no pixels"):
        Crop.of((0, 40), transform_of("timm", (32, 32)))


def test_a_narrow_image_costs_no_more_than_its_crop() -> None:
    image = noise(1, 60_000)
    made = Crop.of((1, 60_000), transform_of("torchvision-v1", (32, 32))).apply(image)
    assert made.shape == (32, 32, 3)
