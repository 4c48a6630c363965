"""Sizes from headers, against what the decoder finds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from yoloship.images import read_header

SIZE = (37, 23)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(SIZE, 60).convert(mode).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (saved("JPEG"), "JPEG"),
        (saved("JPEG", progressive=True), "JPEG"),
        (saved("JPEG", "CMYK"), "JPEG"),
        (saved("PNG"), "PNG"),
        (saved("BMP"), "BMP"),
        (saved("GIF"), "GIF"),
        (saved("WEBP"), "WebP"),
        (saved("WEBP", lossless=True), "WebP"),
        (saved("WEBP", "RGBA"), "WebP"),
        (saved("TIFF"), "TIFF"),
        (saved("TIFF", compression="tiff_lzw"), "TIFF"),
        (saved("TIFF", big_tiff=True), "TIFF"),
        (saved("AVIF"), "AVIF"),
        (saved("JPEG2000"), "JPEG 2000"),
        (saved("JPEG2000", no_jp2=True), "JPEG 2000"),
        (saved("PPM"), "Netpbm"),
        (saved("PPM", "L"), "Netpbm"),
        (b"P6\n# a comment 9 9\n37 23\n255\n" + bytes(37 * 23 * 3), "Netpbm"),
    ],
)
def test_the_size_is_read_without_decoding(data: bytes, name: str) -> None:
    header = read_header(data)
    assert header is not None
    assert (header.format, header.width, header.height) == (name, *SIZE)


def test_a_bitmap_stored_from_the_top_has_a_positive_height() -> None:
    data = bytearray(saved("BMP"))
    data[22:26] = np.int32(-23).tobytes()
    header = read_header(bytes(data))
    assert header is not None
    assert header.upright_hw == SIZE[::-1]


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"GIF88a", b"RIFF\0\0\0\0WAVE", b"PK\x03\x04"])
def test_other_files_are_not_recognised(data: bytes) -> None:
    assert read_header(data) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_a_header_that_was_cut_gives_no_size_and_no_exception(kind: str) -> None:
    data = saved(kind)
    for length in range(13):
        header = read_header(data[:length])
        assert header is None or (header.width, header.height) in {(0, 0), SIZE}
