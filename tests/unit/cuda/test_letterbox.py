from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from helpers.cuda_contract import LetterboxContract
from helpers.cuda_emulator import EmulatedRig
from yoloship.cuda.device_pixels import DevicePixels
from yoloship.cuda.letterbox import FRAME_DTYPE, Canvas, FrameDescriptor, pack_frames
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes

PIXELS = DevicePixels(4096, 300, (50, 100))
FRAME = FrameDescriptor(PIXELS, (320, 640), (160, 0))
NV12 = replace(FRAME, pixels=DevicePixels(4096, 100, (50, 100), "nv12", 8192, 100, orientation=3))
CANVAS_HW = (640, 640)


def test_a_frame_table_holds_what_the_kernel_reads() -> None:
    table = pack_frames([FRAME, NV12], CANVAS_HW)
    assert table.dtype == FRAME_DTYPE
    scales = (1 / (320 / 50), 1 / (640 / 100))
    place = (50, 100, 320, 640, 160, 0)
    assert table[["data", "chroma", "scale_y", "scale_x", "pitch", "step"]][0].item() == (4096, 0, *scales, 300, 3)
    last = (4096 + 49 * 100 + 99, 8192 + 24 * 100 + 98, *scales, -100, -1, -100, -2, 0)
    *numbers, colours, reserved, source = table[1].item()
    assert tuple(numbers) == (*last, *place, 2)
    assert (tuple(colours), reserved, source) == (NV12.pixels.colours(), 0, 0)


def test_a_frame_table_can_be_written_into_memory_of_the_caller() -> None:
    memory = np.zeros(2 * 104 + 8, np.uint8)
    view = memory[:208].view(FRAME_DTYPE)
    assert pack_frames([FRAME, FRAME], CANVAS_HW, view) is view
    assert memory.any()
    with pytest.raises(InputError, match="out: wrong frame"):
        pack_frames([FRAME], CANVAS_HW, view)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resized_hw": (320, 0)}, "resized_hw: wrong frame"),
        ({"top_left": (-1, 0)}, "top_left: wrong frame"),
        ({"source": 24}, "source: wrong frame: expected an address for packed upright pixels, a multiple of 16"),
        ({"source": 4096, "pixels": replace(PIXELS, pointer=4097)}, "source: wrong frame"),
        ({"source": 4096, "pixels": replace(PIXELS, orientation=6)}, "source: wrong frame"),
        ({"source": 4096, "pixels": NV12.pixels}, "source: wrong frame"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(FRAME, **changes)
    assert str(caught.value).startswith(message)


def test_a_frame_outside_the_canvas_is_refused() -> None:
    with pytest.raises(InputError, match=r"frame: wrong frame: expected within the canvas \(640, 640\)"):
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
