from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from helpers.cuda_steps import bgr_of_planes
from yoloship.cuda.device_pixels import ColourMatrix, DevicePixels
from yoloship.errors import InputError
from yoloship.sources.pixels import Converter

if TYPE_CHECKING:
    import numpy.typing as npt

PIXELS = DevicePixels(4096, 300, (50, 100))
NV12 = DevicePixels(4096, 100, (50, 100), "nv12", 8192, 100)
P010 = DevicePixels(4096, 200, (50, 100), "p010", 8192, 200)
_STATED = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""ITU-T H.273, table 4: matrix coefficients."""


def video_frame(planes: npt.NDArray[Any], kind: str, matrix: ColourMatrix, full_range: bool) -> Any:
    """A frame as the host's decoders give it: planar."""
    import av

    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    frame = av.VideoFrame(width, height, kind)
    for plane, samples in zip(
        frame.planes, (planes[:height], planes[height:, ::2], planes[height:, 1::2]), strict=True
    ):
        rows = np.zeros((plane.height, plane.line_size // planes.itemsize), planes.dtype)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = _STATED[matrix], 2 if full_range else 1
    return frame


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_nv12_becomes_what_the_host_makes_of_the_same_video_frame(matrix: ColourMatrix, full_range: bool) -> None:
    rng = np.random.default_rng()
    exact = platform.machine() in {"x86_64", "AMD64"}  # elsewhere libswscale has other code, which rounds otherwise
    for height, width in ((2, 2), (64, 96), (46, 1000)):
        planes = rng.integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)
        expected = Converter().upright_bgr(video_frame(planes, "yuv420p", matrix, full_range))
        found = bgr_of_planes(planes, (height, width), matrix, full_range)
        assert np.abs(found.astype(int) - expected).max() <= (0 if exact else 3)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_p010_is_close_to_what_the_host_makes_of_the_same_video_frame(matrix: ColourMatrix, full_range: bool) -> None:
    """The host interpolates chroma between rows, which matters at sharp edges of colour only."""
    rng = np.random.default_rng()
    height, width = 240, 320
    noise = rng.integers(0, 1024, (height * 3 // 2, width)).astype(np.float32)
    smooth = np.concatenate(
        [cv2.GaussianBlur(noise[:height], (0, 0), 3)]
        + [cv2.GaussianBlur(noise[height:, at::2], (0, 0), 3) for at in (0, 1)], axis=None
    )  # fmt: skip
    smooth = np.clip((smooth - 512) * 6 + 512, 0, 1023).astype(np.uint16)
    luma, u, v = np.split(smooth, [height * width, height * width * 5 // 4])
    pairs = np.stack([u, v], -1).reshape(height // 2, width)
    planes = np.concatenate([luma.reshape(height, width), pairs])
    expected = Converter().upright_bgr(video_frame(planes, "yuv420p10le", matrix, full_range))
    found = bgr_of_planes(planes << 6, (height, width), matrix, full_range)
    difference = np.abs(found.astype(int) - expected)
    assert difference.mean() <= 4
    assert difference.mean() <= 4
    assert difference.max() <= 40


def test_pixels_know_how_they_become_upright() -> None:
    assert [replace(PIXELS, orientation=turn).upright_hw for turn in (1, 4, 5, 8)] == [(50, 100)] * 2 + [(100, 50)] * 2
    assert PIXELS.steps() == (4096, 300, 3, 0, 0, 0, 0)
    assert replace(PIXELS, orientation=6).steps()[:3] == (4096 + 49 * 300, 3, -300)


@pytest.mark.parametrize(
    ("pixels", "changes", "message"),
    [
        (PIXELS, {"pointer": 0}, "pointer: wrong pixels: expected an address, got 0"),
        (PIXELS, {"pitch_bytes": 299}, "pitch_bytes: wrong pixels: expected 300 or more, got 299"),
        (PIXELS, {"stored_hw": (0, 100)}, "stored_hw: wrong pixels"),
        (PIXELS, {"stored_hw": (50, 70_000)}, "stored_hw: wrong pixels"),
        (PIXELS, {"pixel_format": "yuyv"}, "pixel_format: wrong pixels: expected bgr, rgb, nv12 or p010, got yuyv"),
        (PIXELS, {"orientation": 0}, "orientation: wrong pixels: expected 1 to 8, got 0"),
        (PIXELS, {"orientation": 9}, "orientation: wrong pixels: expected 1 to 8, got 9"),
        (PIXELS, {"chroma": 1}, "chroma: wrong pixels: expected none for bgr"),
        (NV12, {"chroma": 0}, "chroma: wrong pixels: expected an address, and a pitch of 100 or more, got (0, 100)"),
        (NV12, {"stored_hw": (50, 99), "chroma_pitch_bytes": 99}, "chroma: wrong pixels: expected an address, and"),
        (NV12, {"matrix": "fcc"}, "matrix: wrong pixels: expected bt601, bt709 or bt2020, got fcc"),
        (P010, {"pitch_bytes": 199}, "pitch_bytes: wrong pixels: expected 200 or more, got 199"),
        (P010, {"pointer": 4097}, "pointer: wrong pixels: expected even addresses and pitches for p010"),
    ],
)
def test_pixels_that_cannot_be_are_refused(pixels: DevicePixels, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(pixels, **changes)
    assert str(caught.value).startswith(message)
