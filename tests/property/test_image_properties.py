"""Whatever the bytes, reading a picture gives an array or an ImageError."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from yoloship.errors import ImageError
from yoloship.images import ImageLimits, read_header, read_image

LIMITS = ImageLimits(max_pixels=4_000_000)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((24, 16), 80).convert("RGB").save(out, kind, **options)
    return out.getvalue()


SEEDS = tuple(saved(kind) for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM"))


def check(data: bytes) -> None:
    try:
        picture = read_image(data, limits=LIMITS)
    except ImageError:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.size


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes_give_a_picture_or_an_image_error(data: bytes) -> None:
    read_header(data)
    check(data)


@QUICK
@given(st.sampled_from(SEEDS), st.binary(max_size=60))
def test_any_bytes_after_a_known_beginning_give_a_picture_or_an_image_error(seed: bytes, rest: bytes) -> None:
    check(seed[:30] + rest)


@QUICK
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    st.floats(0.2, 1.0),
)
def test_a_damaged_picture_gives_a_picture_or_an_image_error(
    seed: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    check(bytes(data[: int(len(data) * kept)]))
