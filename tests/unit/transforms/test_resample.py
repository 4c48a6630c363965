from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from yoloship.transforms.resample import resample

if TYPE_CHECKING:
    from yoloship.transforms import Interpolation

pytest.importorskip("PIL", minversion="13.0", reason="resamples as Pillow 13 does, which is not for Python 3.10")

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("hw", [(100, 70), (31, 140), (17, 9), (64, 48), (65, 47), (300, 1), (151, 61)])
def test_it_is_pillows_filter_to_one_level(name: Interpolation, hw: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*hw, 3), np.uint8)
    want = np.asarray(Image.fromarray(image).resize((48, 64), PILLOW[name]))
    made = resample(image, (64, 48), range(64), range(48), name)
    assert np.abs(made.astype(int) - want).max() <= 1
    assert (made != want).mean() < 0.01  # sums that lie at a half


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_black_and_white_edges_do_not_leave_the_range(name: Interpolation) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[::3] = 255
    want = np.asarray(Image.fromarray(image).resize((90, 90), PILLOW[name]))
    assert np.abs(resample(image, (90, 90), range(90), range(90), name).astype(int) - want).max() <= 1


def test_a_part_of_the_result_is_that_part_of_the_whole() -> None:
    image = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    whole = resample(image, (40, 50), range(40), range(50), "bilinear")
    part = resample(image, (40, 50), range(11, 30), range(3, 44), "bilinear")
    assert np.abs(part.astype(int) - whole[11:30, 3:44]).max() <= 1
    assert (part != whole[11:30, 3:44]).mean() < 0.01


def test_the_same_size_is_a_copy() -> None:
    image = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    made = resample(image, (20, 30), range(20), range(30), "bicubic")
    np.testing.assert_array_equal(made, image)
    assert not np.shares_memory(made, image)


def test_an_image_that_is_not_contiguous_is_read_as_it_is() -> None:
    image = np.random.default_rng(4).integers(0, 256, (40, 60, 6), np.uint8)[::2, :, ::2]
    made = resample(image, (16, 16), range(16), range(16), "bilinear")
    np.testing.assert_array_equal(made, resample(image.copy(), (16, 16), range(16), range(16), "bilinear"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("hw", [(5003, 61), (61, 5003), (700, 901)])
def test_an_image_of_many_blocks_is_pillows_in_every_channel(channels: int, hw: tuple[int, int]) -> None:
    image = np.random.default_rng(5).integers(0, 256, (*hw, channels), np.uint8)
    made = resample(image, (48, 40), range(48), range(40), "bilinear")
    for channel in range(channels):
        want = np.asarray(Image.fromarray(image[:, :, channel]).resize((40, 48), Image.Resampling.BILINEAR))
        assert np.abs(made[:, :, channel].astype(int) - want).max() <= 1
        assert (made[:, :, channel] != want).mean() < 0.01
