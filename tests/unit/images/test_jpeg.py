"""JPEG files: what their headers say, and the same pixels as OpenCV's, whichever library decodes."""

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
from yoloship.images.jpeg import REMEMBERED_BYTES, _frame_of_whole_scan, jpeg_head, read_jpeg

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


def test_the_head_ends_with_the_first_scan_and_has_what_precedes_the_tables_apart() -> None:
    data = saved(smooth(), "JPEG")
    tables, scan = data.index(b"\xff\xdb"), data.index(b"\xff\xda")
    head = jpeg_head(data)
    assert head is not None
    assert [data[start] << 8 | data[start + 1] for _, start, _, _ in head.notes] == [0xFFE0]
    assert (head.data_at, head.coding) == (scan + 14, data[tables : scan + 14])
    later = jpeg_head(data[:scan] + segment(0xFE, b"words") + data[scan:])
    assert later is not None
    assert (later.notes, len(later.coding)) == (head.notes, len(head.coding) + 9)


@pytest.mark.parametrize(
    "between", [b"\xff", b"\0", b"\xff\xd8", segment(0xC2, b""), segment(0xDC, b"\0\1"), b"\xff\xfe\0\1"]
)
def test_what_is_unusual_between_segments_leaves_no_head(between: bytes) -> None:
    data = saved(smooth(), "JPEG")
    at = data.index(b"\xff\xdb")
    assert jpeg_head(data[:at] + between + data[at:]) is None


def test_a_head_that_is_cut_anywhere_is_none() -> None:
    data = saved(smooth(), "JPEG")
    end = data.index(b"\xff\xda") + 14
    assert all(jpeg_head(data[:at]) is None for at in range(end))
    assert jpeg_head(data[:end]) is not None


def test_only_heads_of_the_usual_length_are_remembered() -> None:
    """A file may have megabytes between its tables."""
    data = saved(smooth(31, 41), "JPEG", quality=41)
    at = data.index(b"\xff\xda")
    words = segment(0xDB, b"\1" + b"\7" * 64) * (REMEMBERED_BYTES // 69 + 1)
    before = _frame_of_whole_scan.cache_info().currsize
    for _ in range(2):
        layout = read_jpeg(data[:at] + words + data[at:])
    assert (layout.width, layout.height, layout.problem) == (41, 31, "")
    assert _frame_of_whole_scan.cache_info().currsize == before
    hits = _frame_of_whole_scan.cache_info().hits
    for _ in range(2):
        assert read_jpeg(data)[:2] == (41, 31)
    assert _frame_of_whole_scan.cache_info().hits == hits + 1


@pytest.mark.parametrize("frame", [b"", b"\x08\0\1\0\2"])
def test_a_frame_without_its_size_is_read_as_by_a_search(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind it is taken for its size, also beyond the scan's segment, as nobody may decode it."""
    data = b"\xff\xd8" + segment(0xC0, frame) + segment(0xDA, b"") + b"\1\1\1\1\1\1\xff\xd9"
    assert jpeg_head(data) is not None
    found = read_jpeg(data)._replace(head=None)
    monkeypatch.setattr("yoloship.images.jpeg.jpeg_head", lambda _: None)
    assert read_jpeg(data) == found
