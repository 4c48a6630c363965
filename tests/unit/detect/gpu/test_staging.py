"""Where frames lie in memory; that they arrive there is tested in tests/gpu/test_detector.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yoloship.cuda.device_pixels import DevicePixels
from yoloship.cuda.letterbox import FrameDescriptor, frame_row
from yoloship.detect.gpu.filling import staged_hw
from yoloship.detect.gpu.staging import Frame, _as_found, _Place, _row_as_read, _staged_bytes
from yoloship.detect.gpu.transfer import RowPick
from yoloship.letterbox import Letterbox

BOX = Letterbox.fixed((50, 120), (64, 96))
PIXELS = np.zeros((50, 120, 3), np.uint8)


@pytest.mark.parametrize(
    ("mode", "hw"),
    [("copied", (50, 120)), ("pinned", (50, 120)), ("resized", BOX.resized_hw)],
)
def test_a_frame_takes_the_room_of_what_is_sent(mode: Any, hw: tuple[int, int]) -> None:
    frame = Frame(PIXELS, BOX, mode)
    assert staged_hw(frame) == hw
    assert 3 * hw[0] * hw[1] <= _staged_bytes(frame) < 3 * hw[0] * hw[1] + 512
    assert _staged_bytes(frame) % 16 == 0


@pytest.mark.parametrize("mode", ["mapped", "resident"])
def test_a_frame_that_is_read_where_it_lies_takes_none(mode: Any) -> None:
    assert _staged_bytes(Frame(PIXELS, BOX, mode)) == 0


def test_of_a_frame_of_which_some_rows_are_copied_only_those_take_room() -> None:
    pick = RowPick.of(Letterbox.fixed((1080, 1920), (64, 96)))
    assert pick is not None
    frame = Frame(PIXELS, Letterbox.fixed((1080, 1920), (64, 96)), "copied", pick=pick)
    height, width = staged_hw(frame)
    assert width == 1920
    assert height == 1080 // pick.step * pick.count < 1080


def test_the_way_back_is_that_of_the_whole_image_whatever_was_sent() -> None:
    sent = DevicePixels(4096, 3 * BOX.resized_hw[1], BOX.resized_hw)
    descriptor = _as_found(_Place(BOX, "resized", "bgr", sent))
    assert descriptor.pixels.upright_hw == (50, 120)
    assert (descriptor.resized_hw, descriptor.top_left) == (BOX.resized_hw, (BOX.top, BOX.left))
    row = _row_as_read(sent, BOX, 0, (64, 96))
    assert row == frame_row(FrameDescriptor(sent, BOX.resized_hw, (BOX.top, BOX.left)), (64, 96))
