"""The kernels of the check, emulated; tests/gpu/test_jpeg_check.py tests the class, here on the stand-in driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helpers.cuda_emulator import EmulatedRig
from helpers.cuda_jpeg_contract import JpegCheckContract
from helpers.damaged_jpegs import Jpegs
from yoloship.cuda.compiler import source_text
from yoloship.cuda.jpeg_check import (
    CHUNK_BYTES,
    CHUNK_RESULT_BYTES,
    SCAN_DTYPE,
    TAIL,
    JpegCheck,
    _Batch,
    _pieces,
    pack_scans,
)
from yoloship.cuda.jpeg_scan import scan_header
from yoloship.errors import InputError

if TYPE_CHECKING:
    import ctypes

NOBODY: Any = None
"""In place of kernels or a device, which must not be touched."""


class TestJpegCheckOnTheEmulator(JpegCheckContract):
    @pytest.fixture
    def rig(self, emulator: ctypes.CDLL) -> EmulatedRig:
        return EmulatedRig(emulator)


def test_tables_and_sizes_are_those_of_the_kernels() -> None:
    text = source_text("jpeg_check.cu")
    assert SCAN_DTYPE.itemsize == 48 + 4 * 272
    assert f"CHUNK_BYTES = {CHUNK_BYTES}," in text
    assert f"static_assert(sizeof(Chunk) == {CHUNK_RESULT_BYTES}," in text


def test_the_data_of_a_batch_lies_behind_each_other_aligned() -> None:
    headers = [header for _ in range(3) if (header := scan_header(Jpegs(1).sound())) is not None]
    scans, size, chunks = pack_scans(headers)
    ends = [int(at) + header.data_bytes + len(TAIL) for at, header in zip(scans["data_at"], headers, strict=True)]
    assert len(scans) == 3
    assert not (scans["data_at"] % 16).any()
    assert all(end <= begin for end, begin in zip(ends, [*scans["data_at"][1:].tolist(), size], strict=True))
    assert chunks == sum(scans["chunks"].tolist())


def test_whole_files_are_joined_so_that_the_data_of_each_lies_where_the_table_says() -> None:
    files: list[bytes | memoryview] = [Jpegs(1).sound(), memoryview(Jpegs(2).large(300, 400)), Jpegs(3).grey(90, 70)]
    headers = [header for data in files if (header := scan_header(data)) is not None]
    scans, size, _ = pack_scans(headers)
    pieces = _pieces(_Batch(files, headers, scans, scans.nbytes + size))
    assert any(piece is files[0] for piece in pieces)  # a copy would take Python's lock for as long
    whole = b"".join(pieces)
    assert len(whole) == size
    for data, header, at in zip(files, headers, scans["data_at"].tolist(), strict=True):
        assert whole[at:].startswith(bytes(data)[header.data_at :] + TAIL)


def test_a_batch_must_have_room() -> None:
    with pytest.raises(InputError, match=r"JpegCheck\.max_batch: must be positive, got 0|got 0"):
        JpegCheck(NOBODY, NOBODY, 0)
