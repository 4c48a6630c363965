"""From a decoded frame to an upright BGR image, held to OpenCV and to the formula."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from helpers.videos import Clip, write_clip
from yoloship.errors import ImageError
from yoloship.images import ImageLimits
from yoloship.images.reading import _upright
from yoloship.sources.pixels import Converter, display_matrix, orientation_of, turned

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.videos import Image


def bgr(frame: Any, limits: ImageLimits | None = None) -> Image:
    return Converter(limits or ImageLimits()).upright_bgr(frame)


BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114)}
"""Of red and blue. ITU-R BT.709-6 and BT.601-7."""


def first(path: Path) -> Any:
    with av.open(str(path)) as container:
        return next(container.decode(container.streams.video[0]))


def by_opencv(path: Path) -> Image:
    image = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[1]
    return np.asarray(image, np.uint8)


def yuv_frame(yuv: tuple[int, int, int], size: tuple[int, int], colour: tuple[int, int]) -> Any:
    frame = av.VideoFrame(*size, "yuv420p")
    for plane, value in zip(frame.planes, yuv, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colour
    return frame


@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize("extent", [LIMITED, FULL])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_colours_follow_the_matrix_and_the_range_that_the_video_states(
    matrix: int, extent: int, size: tuple[int, int]
) -> None:
    red, blue = WEIGHTS[matrix]
    for y, u, v in ((81, 90, 240), (145, 54, 34), (41, 240, 110), (120, 128, 128), (200, 60, 170)):
        luma, cb, cr = float(y), u - 128.0, v - 128.0
        if extent == LIMITED:
            luma, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
        r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
        expected = np.clip([b, (luma - red * r - blue * b) / (1 - red - blue), r], 0, 255)
        found = bgr(yuv_frame((y, u, v), size, (matrix, extent)))
        assert found.shape == (size[1], size[0], 3)
        assert np.abs(found.astype(float) - expected).max() <= 2.1, (y, u, v)


@pytest.mark.parametrize("size", [(96, 64), (95, 63), (33, 64)])
@pytest.mark.parametrize("colour", [None, (BT709, LIMITED), (BT709, FULL), (BT601, LIMITED)])
def test_pixels_are_those_of_opencv(tmp_path: Path, size: tuple[int, int], colour: tuple[int, int] | None) -> None:
    path = write_clip(tmp_path / "a.mkv", Clip(times_ms=(0, 40), size=size, codec="ffv1", colour=colour))
    assert np.array_equal(bgr(first(path)), by_opencv(path))


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "yuv420p10le", "gray", "bgr0", "yuva420p"])
def test_other_pixel_formats_are_those_of_opencv_too(tmp_path: Path, pixel_format: str) -> None:
    path = write_clip(tmp_path / "a.mkv", Clip(times_ms=(0, 40), codec="ffv1", pixel_format=pixel_format))
    difference = np.abs(bgr(first(path)).astype(int) - by_opencv(path))
    assert difference.max() <= (0 if pixel_format != "yuva420p" else 1)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_rotated_video_is_turned_as_opencv_turns_it(tmp_path: Path, degrees: int) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=(0, 40), rotation=degrees))
    found = bgr(first(path))
    assert found.shape[:2] == Converter().upright_hw(first(path)) == ((96, 64) if degrees % 180 else (64, 96))
    assert np.array_equal(found, by_opencv(path))
    assert found.flags.c_contiguous
    assert not found.flags.writeable


class Stated:
    """A frame with a display matrix, for those that no encoder here writes."""

    def __init__(self, a: int, b: int, c: int, d: int) -> None:
        self.side_data = {key: np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes() for key in _keys()}


def _keys() -> list[Any]:
    from av.sidedata.sidedata import Type

    return [Type.DISPLAYMATRIX]


ONE = 65536


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((-1, 0, 0, 1), (0, 1)),
        ((1, 0, 0, -1), (1, 0)),
        ((-1, 0, 0, -1), (1, 1)),
        ((0, 1, -1, 0), (0, 1)),  # clockwise: the corner at the top left comes to the top right
        ((0, -1, 1, 0), (1, 0)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, -1, -1, 0), (1, 1)),
    ],
)
def test_each_of_the_eight_ways_to_turn_and_mirror(matrix: tuple[int, int, int, int], corner: tuple[int, int]) -> None:
    a, b, c, d = (part * ONE for part in matrix)
    found = display_matrix(Stated(a, b, c, d))
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 255
    upright = image if found is None else turned(image, found)
    assert upright.shape == ((3, 2, 3) if matrix[0] == 0 else (2, 3, 3))
    row, column = np.argwhere(upright[..., 0])[0]
    assert (row > 0, column > 0) == (corner[0] > 0, corner[1] > 0)
    np.testing.assert_array_equal(_upright(image, orientation_of(found)), upright)


@pytest.mark.parametrize("matrix", [(46341, 46341, -46341, 46341), (0, 0, 0, 0), (ONE, ONE, 0, 0), (ONE, 0, 0, 0)])
def test_another_rotation_is_refused(matrix: tuple[int, int, int, int]) -> None:
    with pytest.raises(ImageError, match="not a whole number of quarter turns"):
        display_matrix(Stated(*matrix))


@pytest.mark.parametrize("limits", [ImageLimits(max_pixels=6000), ImageLimits(max_side_px=95)])
def test_a_frame_beyond_the_limits_is_refused(limits: ImageLimits) -> None:
    with pytest.raises(ImageError, match=r"frame is too large: expected at most .*, got 96×64"):
        bgr(yuv_frame((1, 2, 3), (96, 64), (BT601, LIMITED)), limits)


def test_frames_are_freed_at_once_and_without_the_garbage_collector(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(rotation=90))
    converter = Converter()
    gc.collect()
    gc.disable()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.video[0]):
                converter.upright_bgr(frame)
        assert sum(isinstance(one, av.VideoFrame) for one in gc.get_objects()) <= 2
    finally:
        gc.enable()
