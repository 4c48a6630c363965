from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.detect.gpu.filling import fill, staged_hw
from yoloship.detect.gpu.staging import Frame
from yoloship.detect.gpu.transfer import RowPick
from yoloship.letterbox import Letterbox


@pytest.mark.parametrize("hw", [(50, 120), (300, 90), (256, 90), (1, 3)])
def test_the_rows_that_count_are_copied_with_red_and_blue_swapped(hw: tuple[int, int]) -> None:
    image = np.random.default_rng().integers(0, 256, (*hw, 3), dtype=np.uint8)
    box = Letterbox.fixed(hw, (64, 96))
    pick = RowPick.of(box)
    frame = Frame(image, box, "copied", pick=pick)
    target = np.zeros((*staged_hw(frame), 3), np.uint8)
    chosen = list(range(hw[0]))
    if pick is not None:
        chosen = [row for row in chosen if 0 <= (row - pick.first) % pick.step < pick.count]
    fill(frame, target)
    np.testing.assert_array_equal(target, image[chosen][..., ::-1])


@pytest.mark.parametrize("hw", [(128, 192), (32, 48)])
def test_a_frame_is_scaled_as_the_letterbox_does(hw: tuple[int, int]) -> None:
    image = np.random.default_rng().integers(0, 256, (*hw, 3), dtype=np.uint8)
    box = Letterbox.fixed(hw, (64, 96))
    target: Any = np.zeros((*box.resized_hw, 3), np.uint8)
    fill(Frame(image, box, "resized"), target)
    np.testing.assert_array_equal(target, box.apply(image))
