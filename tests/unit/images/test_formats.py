from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from yoloship.images.formats import (
    MAX_BOXES,
    LayoutError,
    boxes,
    critical_chunks,
    exif_orientation,
    read_png,
    read_tiff,
)


def tiff(order: str, tag: int, value: int) -> bytes:
    """Exif data with one entry."""
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIHHHIHH", 42, 8, 1, tag, 3, 1, value, 0) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_each_orientation_is_read_in_either_byte_order(order: str, value: int) -> None:
    assert exif_orientation(tiff(order, 0x0112, value)) == value


@pytest.mark.parametrize(
    "data",
    [b"", b"II", b"XX" + tiff("<", 0x0112, 6)[2:], tiff("<", 0x0112, 9), tiff("<", 0x0112, 0), tiff("<", 0x0100, 6)],
)
def test_an_orientation_that_cannot_be_is_upright(data: bytes) -> None:
    assert exif_orientation(data) == 1


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def test_boxes_follow_one_another_and_the_last_may_reach_to_the_end() -> None:
    data = (
        box(b"ftyp", b"avif") + struct.pack(">I4sQ", 1, b"long", 19) + b"abc" + struct.pack(">I4s", 0, b"rest") + b"xy"
    )
    found = [(kind, data[start:end]) for kind, start, end in boxes(memoryview(data), 0, len(data))]
    assert found == [(b"ftyp", b"avif"), (b"long", b"abc"), (b"rest", b"xy")]


@pytest.mark.parametrize("data", [struct.pack(">I4s", 9, b"ftyp"), struct.pack(">I4s", 7, b"ftyp")])
def test_a_box_that_reaches_beyond_what_holds_it_is_refused(data: bytes) -> None:
    with pytest.raises(LayoutError, match="is damaged or cut short"):
        list(boxes(memoryview(data), 0, len(data)))


def test_boxes_without_end_are_refused() -> None:
    data = box(b"free", b"") * (MAX_BOXES + 1)
    with pytest.raises(LayoutError, match="has too many boxes"):
        list(boxes(memoryview(data), 0, len(data)))


def png(*, orientation: int | None = None) -> bytes:
    image = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    file = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def test_a_png_states_its_size_and_how_it_is_turned() -> None:
    layout = read_png(memoryview(png(orientation=6)))
    assert (layout.width, layout.height, layout.orientation, layout.problem) == (7, 5, 6, "")
    assert read_png(memoryview(png())).orientation == 1


def test_a_png_that_was_cut_is_not_decoded() -> None:
    assert read_png(memoryview(png()[:-12])).problem == "is damaged or cut short"


def test_a_png_with_a_changed_header_is_refused_by_its_checksum() -> None:
    data = bytearray(png())
    data[18] ^= 1  # its width
    with pytest.raises(LayoutError):
        read_png(memoryview(bytes(data)))


def test_nothing_but_the_pixels_of_a_png_is_kept() -> None:
    whole = png(orientation=6)
    bare = critical_chunks(whole)
    assert b"eXIf" in whole
    assert b"eXIf" not in bare
    plain, kept = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (png(), bare))
    assert kept is not None
    np.testing.assert_array_equal(plain, kept)


def test_a_tiff_states_its_size() -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 4)).save(file, "TIFF")
    layout = read_tiff(memoryview(file.getvalue()))
    assert (layout.width, layout.height) == (9, 4)
