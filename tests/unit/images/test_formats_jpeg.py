"""JPEG files: the same pixels as OpenCV's, the same orientation, whichever library decodes."""

from __future__ import annotations

import io
import struct
import sys

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from helpers.images import saved, segment, smooth
from yoloship.images import image_size, read_image

Pixels = npt.NDArray[np.uint8]
RNG = np.random.default_rng(5)


def opencv(data: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def detailed(height: int, width: int) -> Pixels:
    coarse = RNG.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(params=["simplejpeg", "OpenCV"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With simplejpeg, and as if it were not installed."""
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "simplejpeg", None)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("hw", [(1, 1), (7, 9), (64, 48), (333, 517)])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"subsampling": "4:1:1"}),
        ("RGB", {"progressive": True}),
        ("RGB", {"quality": 3, "optimize": True}),
        ("RGB", {"restart_marker_blocks": 2}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
        ("L", {"progressive": True}),
        ("CMYK", {}),
    ],
)
def test_the_pixels_are_those_of_opencv(hw: tuple[int, int], mode: str, options: dict[str, object]) -> None:
    out = io.BytesIO()
    Image.fromarray(detailed(*hw)).convert(mode).save(out, "JPEG", **options)
    assert np.array_equal(read_image(out.getvalue()), opencv(out.getvalue()))


@pytest.mark.usefixtures("decoder")
def test_the_pixels_are_those_of_opencv_where_only_rows_are_halved() -> None:
    """4:4:0, as lossless turning makes it of 4:2:2: its blocks are as many, in another order."""
    data = saved(detailed(64, 64), "JPEG", subsampling=1)
    at = data.index(b"\xff\xc0") + 11
    assert data[at] == 0x21
    halved = data[:at] + b"\x12" + data[at + 1 :]
    assert np.array_equal(read_image(halved), opencv(halved))


def exif(entries: list[tuple[int, int, int, int]], order: str = "<", count: int | None = None) -> bytes:
    """An APP1 segment with a first directory of these entries: tag, type, count, 16-bit value."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(order + "HHIHxx", *entry) for entry in entries)
    number = len(entries) if count is None else count
    return segment(0xE1, b"Exif\0\0" + mark + struct.pack(order + "IH", 8, number) + body)


SIX = (274, 3, 1, 6)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    "put",
    [
        *(exif([(274, 3, 1, number)], order) for number in range(11) for order in "<>"),
        *(exif([(274, kind, 1, 6)]) for kind in (1, 3, 4, 7, 10)),
        exif([SIX]) + exif([(274, 3, 1, 3)]),
        exif([(274, 3, 1, 3)]) + exif([SIX]),
        exif([SIX, (274, 3, 1, 1)]),
        exif([(256, 3, 1, 6), SIX]),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + exif([SIX]),
        segment(0xE1, b"Exif\0\0") + exif([SIX]),
        segment(0xE1, b"") + exif([SIX]),
        segment(0xE2, exif([SIX])[4:]),
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + exif([SIX]),
    ],
)
def test_the_orientation_is_read_as_opencv_reads_it(put: bytes) -> None:
    data = saved(smooth(), "JPEG")
    turned = data[:2] + put + data[2:]
    assert np.array_equal(read_image(turned), opencv(turned))
    assert image_size(turned) == opencv(turned).shape[:2]


@pytest.mark.usefixtures("decoder")
def test_the_first_image_of_an_mpo_counts() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (60, 40), color) for color in ((250, 0, 0), (0, 0, 250))]
    frames[0].save(out, "MPO", save_all=True, append_images=frames[1:])
    assert read_image(out.getvalue())[20, 30].tolist() == pytest.approx([0, 0, 250], abs=8)


def test_bytes_behind_the_end_do_not_matter() -> None:
    data = saved(smooth(), "JPEG")
    assert np.array_equal(read_image(data + b"\xff\xd8\xff\xda junk" * 50), read_image(data))
