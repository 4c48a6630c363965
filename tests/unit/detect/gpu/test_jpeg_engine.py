"""Which files the JPEG engine gets, and in which batches. Decoding itself is tested in `tests/gpu`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers import jpegs
from yoloship.detect.gpu import jpeg_engine
from yoloship.detect.gpu.jpeg_engine import MAX_FILES, JpegFile, jpeg_file, one_batch
from yoloship.images import open_image


def made(data: bytes) -> JpegFile:
    found = jpeg_file(open_image(data))
    assert found is not None
    return found


@pytest.mark.parametrize("name", jpegs.for_the_engine())
def test_an_ordinary_file_is_taken_with_its_size(name: str) -> None:
    data = jpegs.for_the_engine()[name]
    found = made(data)
    assert found.nbytes == len(data)
    assert found.decoded_bytes == 3 * found.scan.width * found.scan.height
    assert (found.file.header.width, found.file.header.height) == (found.scan.width, found.scan.height)


@pytest.mark.parametrize("name", [name for name in jpegs.for_the_host() if name != "PNG"])
def test_a_file_in_another_form_is_left_to_the_host(name: str) -> None:
    assert jpeg_file(open_image(jpegs.for_the_host()[name])) is None


def test_a_file_whose_two_readers_disagree_about_its_size_is_left_to_the_host() -> None:
    """The memory for its pixels would be too small for what the engine writes."""
    file = open_image(jpegs.encoded(jpegs.picture(64, 96)))
    assert jpeg_file(file) is not None
    for header in (file.header._replace(width=95), file.header._replace(height=65)):
        assert jpeg_file(replace(file, header=header)) is None


def test_a_batch_takes_so_many_files_and_no_more_bytes_than_the_check_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(jpegs.encoded(jpegs.picture(64, 96)))
    assert len(one_batch([file] * 100)) == MAX_FILES
    assert len(one_batch([file] * 3)) == 3
    monkeypatch.setattr(jpeg_engine, "_MOST_BYTES", 2 * file.nbytes)
    assert len(one_batch([file] * 100)) == 2
    monkeypatch.setattr(jpeg_engine, "_MOST_BYTES", 1)
    assert len(one_batch([file] * 100)) == 1
