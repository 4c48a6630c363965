"""Cutting a stream into JPEG images, whatever pieces it comes in, and whatever is wrong with it."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

from helpers.videos import scene
from yoloship.errors import ImageError
from yoloship.sources import jpeg_stream
from yoloship.sources.jpeg_stream import split_jpegs


def jpeg(index: int, *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", scene(index, (64, 48)), list(options))[1].tobytes())


def with_thumbnail(image: bytes, thumbnail: bytes) -> bytes:
    """The image with another one in a segment of its header, as cameras write it."""
    segment = b"Exif\0\0" + thumbnail
    return image[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + image[2:]


IMAGES = [
    jpeg(0),
    jpeg(1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    jpeg(2, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    with_thumbnail(jpeg(3), jpeg(4)),
    jpeg(5, cv2.IMWRITE_JPEG_QUALITY, 100),
]


def split(data: bytes, piece: int = 1 << 16) -> list[bytes]:
    file = io.BytesIO(data)
    return list(split_jpegs(lambda count: file.read(min(count, piece))))


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, 1 << 16])
def test_images_come_out_as_they_went_in(piece: int) -> None:
    assert split(b"".join(IMAGES), piece) == IMAGES


@pytest.mark.parametrize("piece", [1, 64, 1 << 16])
def test_what_lies_between_images_is_skipped(piece: int) -> None:
    data = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + b"\r\n--frame\r\n\r\n".join(IMAGES) + b"\r\n--frame--"
    assert split(data, piece) == IMAGES
    assert split(b"\xff\x00\xff" + b"\xff".join(IMAGES) + b"\xff\xd8", piece) == IMAGES


def test_fill_bytes_before_a_marker_belong_to_the_image() -> None:
    image = IMAGES[0]
    filled = image[:2] + b"\xff\xff" + image[2:]
    assert split(filled + image) == [filled, image]


@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_an_image_that_is_cut_ends_where_the_next_begins(piece: int) -> None:
    for cut in (5, 30, len(IMAGES[0]) // 2, len(IMAGES[0]) - 1):
        found = split(IMAGES[0][:cut] + IMAGES[1] + IMAGES[2], piece)
        assert found[-1] == IMAGES[2]
        assert b"".join(found) == IMAGES[0][:cut] + IMAGES[1] + IMAGES[2]
    assert split(IMAGES[1] + IMAGES[0][:-10], piece) == [IMAGES[1], IMAGES[0][:-10]]


def test_every_mutation_ends_and_loses_no_other_image() -> None:
    rng = np.random.default_rng(7)
    whole = b"".join(IMAGES)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        found = split(bytes(data))
        assert sum(map(len, found)) <= len(data)
        assert found


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"no image"])
def test_nothing_gives_nothing(data: bytes) -> None:
    assert split(data) == []


def test_what_never_ends_is_refused_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_stream, "MAX_IMAGE_BYTES", 200_000)
    monkeypatch.setattr(jpeg_stream, "MAX_BETWEEN_BYTES", 200_000)
    taken = 0

    def endless(head: bytes, rest: bytes) -> bytes:
        nonlocal taken
        taken += 1
        return head if taken == 1 else rest

    with pytest.raises(ImageError, match="image is too long: expected at most 200,000 bytes"):
        list(split_jpegs(lambda count: endless(IMAGES[0][:-2], bytes(count))))
    assert taken < 10
    taken = 0
    with pytest.raises(ImageError, match="too many bytes that are not JPEG"):
        list(split_jpegs(lambda count: endless(b"x", bytes(count))))
    assert taken < 10
