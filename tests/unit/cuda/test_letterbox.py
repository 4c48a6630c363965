from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from helpers.cuda_contract import LetterboxContract
from helpers.cuda_emulator import EmulatedRig
from yoloship.cuda.letterbox import FRAME_DTYPE, Canvas, FrameDescriptor, pack_frames
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes

FRAME = FrameDescriptor(4096, 300, (50, 100), (320, 640), (160, 0))
NV12 = FrameDescriptor(4096, 100, (50, 100), (320, 640), (160, 0), "nv12", 8192, 100)
CANVAS_HW = (640, 640)


def test_a_frame_table_holds_what_the_kernel_reads() -> None:
    table = pack_frames([FRAME, NV12], CANVAS_HW)
    assert table.dtype == FRAME_DTYPE
    scales = (1 / (320 / 50), 1 / (640 / 100))
    assert table[1].item() == (4096, 8192, *scales, 100, 100, 50, 100, 320, 640, 160, 0, 2, 0, 0)


def test_a_frame_table_can_be_written_into_memory_of_the_caller() -> None:
    memory = np.zeros(2 * 80 + 8, np.uint8)
    view = memory[:160].view(FRAME_DTYPE)
    assert pack_frames([FRAME, FRAME], CANVAS_HW, view) is view
    assert memory.any()
    with pytest.raises(InputError, match="out: wrong frame"):
        pack_frames([FRAME], CANVAS_HW, view)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": 0}, "data: wrong frame: expected an address, got 0"),
        ({"pitch_bytes": 299}, "pitch_bytes: wrong frame: expected 300 or more, got 299"),
        ({"image_hw": (0, 100)}, "image_hw: wrong frame"),
        ({"image_hw": (50, 70_000)}, "image_hw: wrong frame"),
        ({"resized_hw": (320, 0)}, "resized_hw: wrong frame"),
        ({"top_left": (-1, 0)}, "top_left: wrong frame"),
        ({"pixel_format": "yuyv"}, "pixel_format: wrong frame: expected bgr, rgb or nv12, got yuyv"),
        ({"chroma": 1}, "chroma: wrong frame: expected none for bgr"),
        ({"pixel_format": "nv12"}, "chroma: wrong frame: expected an address, and a pitch of 100 or more"),
        ({"source": 24}, "source: wrong frame: expected none for nv12, else a multiple of 16, as data"),
        ({"source": 4096, "data": 4097}, "source: wrong frame"),
        ({"pixel_format": "nv12", "image_hw": (51, 100)}, "image_hw: wrong frame: expected even sides for NV12"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(FRAME, **changes)
    assert str(caught.value).startswith(message)


def test_a_frame_outside_the_canvas_is_refused() -> None:
    with pytest.raises(InputError, match=r"frames\[1\]: wrong frame: expected within the canvas \(640, 640\)"):
        pack_frames([FRAME, replace(FRAME, top_left=(321, 0))], CANVAS_HW)
    with pytest.raises(InputError, match="expected 1 or more, got 0"):
        pack_frames([], CANVAS_HW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch"),
        ({"canvas_hw": (0, 1)}, "canvas_hw"),
        ({"form": "png"}, "form"),
        ({"padding_value": 256}, "padding"),
    ],
)
def test_a_canvas_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(Canvas(256, 1, CANVAS_HW), **changes)


class TestLetterboxOnTheEmulator(LetterboxContract):
    SIDE: ClassVar[int] = 96
    SIZES: ClassVar[tuple[tuple[int, int], ...]] = ((270, 202), (90, 160), (37, 200), (96, 72), (1, 1), (3, 130))

    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)
