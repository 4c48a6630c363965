from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yoloship.cuda.letterbox import FRAME_DTYPE, Canvas, FrameDescriptor, pack_frames
from yoloship.cuda.postprocess import (
    HeadLevel,
    ScoreFilter,
    Suppression,
    Workspace,
    pack_classes,
    pack_levels,
    result_dtype,
    workspace_bytes,
    workspace_parts,
)
from yoloship.errors import InputError

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


@pytest.mark.parametrize(
    "changes",
    [{"iou_threshold": float("nan")}, {"iou_threshold": 1.1}, {"max_detections": 0}, {"max_detections": 1025}],
)
def test_a_suppression_outside_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(Suppression(), **changes)


@pytest.mark.parametrize("changes", [{"score_threshold": float("nan")}, {"score_threshold": -0.1}, {"classes": 0}])
def test_a_score_filter_outside_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(ScoreFilter(80), **changes)


def test_levels_are_numbered_in_the_order_of_the_raw_output() -> None:
    levels = [HeadLevel(1, (4, 6), 8, ((1.0, 2.0), (3.0, 4.0))), HeadLevel(2, (2, 3), 16, ((5.0, 6.0),))]
    table = pack_levels(levels)
    assert table["first"].tolist() == [0, 48]
    assert table["sizes"][0].tolist()[:3] == [[1, 2], [3, 4], [0, 0]]
    with pytest.raises(InputError, match=r"levels\[0\]"):
        pack_levels([replace(levels[0], anchors=((1.0, 1.0),) * 9)])
    with pytest.raises(InputError, match="levels"):
        pack_levels([])


def test_class_ids_become_bits() -> None:
    assert pack_classes([0, 33, 79], 80).tolist() == [1, 2, 1 << 15]
    with pytest.raises(InputError, match="expected 0 to 79, got 80"):
        pack_classes([80], 80)


def test_parts_of_a_workspace_are_aligned_and_apart() -> None:
    parts = workspace_parts(3, 1000)
    end = 0
    for offset, size in parts.values():
        assert offset % 256 == 0
        assert offset >= end
        end = offset + size
    assert workspace_bytes(3, 1000) >= end
    assert Workspace(256, 3, 1000).part("matrix") == 256 + parts["matrix"][0]
    with pytest.raises(InputError, match="multiple of 256"):
        Workspace(100, 3, 1000)


def test_a_result_is_a_few_kilobytes() -> None:
    assert result_dtype(300).itemsize == 16 + 28 * 300
