"""Whatever the bytes, reading an image gives an array or an ImageError."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.images import box, heif, sized
from yoloship.errors import DependencyError, ImageError
from yoloship.images import ImageLimits, image_size, read_header, read_image

LIMITS = ImageLimits(max_pixels=4_000_000)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((24, 16), 80).convert("RGB").save(out, kind, **options)
    return out.getvalue()


def animated(kind: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.effect_noise((24, 16), 80).convert("RGB") for _ in range(3)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


def turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(kind, exif=exif)


SEEDS = (
    *(saved(kind) for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")),
    *(turned(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")),
    *(animated(kind) for kind in ("PNG", "GIF", "WEBP", "TIFF", "AVIF", "MPO")),
    saved("JPEG", progressive=True),
    saved("JPEG2000", no_jp2=True),
    saved("TIFF", compression="tiff_lzw"),
    saved("WEBP", lossless=True),
    heif([sized(24, 16), box(b"irot", b"\1"), box(b"imir", b"\1")], data=bytes(64)),
)


def check(data: bytes) -> None:
    """An image, and then of the size that its header states; or an error of ours."""
    try:
        image = read_image(data, limits=LIMITS)
    except (ImageError, DependencyError):
        return
    assert image.dtype == np.uint8
    assert image.shape == (*image_size(data, limits=LIMITS), 3)
    assert image.size
    header = read_header(data)
    assert header is not None
    assert image.nbytes <= header.work_bytes


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes_give_an_image_or_an_image_error(data: bytes) -> None:
    read_header(data)
    check(data)


@QUICK
@given(st.sampled_from(SEEDS), st.binary(max_size=60))
def test_any_bytes_after_a_known_beginning_give_an_image_or_an_image_error(seed: bytes, rest: bytes) -> None:
    check(seed[:30] + rest)


@QUICK
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    st.floats(0.2, 1.0),
)
def test_a_damaged_image_gives_an_image_or_an_image_error(
    seed: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    check(bytes(data[: int(len(data) * kept)]))


@QUICK
@given(
    st.sampled_from(SEEDS),
    st.integers(0, 400),
    st.sampled_from(
        [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"ispe", b"\xff\xda", b"IHDR"]
    ),
    st.integers(0, 8),
)
def test_numbers_and_marks_put_into_a_header_give_an_image_or_an_image_error(
    seed: bytes, place: int, put: bytes, removed: int
) -> None:
    check(seed[:place] + put + seed[place + removed :])
