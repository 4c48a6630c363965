"""Packed bytes, read in pieces: what third parties packed comes out, and limits hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tracemalloc
import zlib
from typing import get_args

import numpy as np
import pytest

from helpers.archives import PACK
from yoloship.errors import InputError
from yoloship.sources.unpacking import ArchiveLimits, Packing, Unpacked

DATA = np.random.default_rng(0).bytes(120_000)
NAMES = dict(zip(get_args(Packing), ("tar", "tar.gz", "tar.bz2", "tar.xz"), strict=True))


def unpacked(data: bytes, packing: Packing, limits: ArchiveLimits | None = None) -> Unpacked:
    return Unpacked(io.BytesIO(data), len(data), packing, limits or ArchiveLimits())


def whole(source: Unpacked, piece: int = 70_001) -> bytes:
    parts = []
    while part := source.read(piece):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("packing", get_args(Packing))
@pytest.mark.parametrize("piece", [1000, 512, 1 << 21])
def test_everything_comes_out_in_pieces_of_any_size(packing: Packing, piece: int) -> None:
    assert whole(unpacked(PACK[NAMES[packing]](DATA), packing), piece) == DATA


@pytest.mark.parametrize(("packing", "pack"), [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("padding", [b"", b"\0" * 1024])
def test_packed_files_one_after_the_other_are_one(packing: Packing, pack: object, padding: bytes) -> None:
    assert callable(pack)
    packed = pack(DATA[:40_000]) + padding + pack(DATA[40_000:]) + padding
    assert whole(unpacked(packed, packing)) == DATA


@pytest.mark.parametrize("packing", get_args(Packing))
def test_bytes_can_be_passed_over(packing: Packing) -> None:
    source = unpacked(PACK[NAMES[packing]](DATA), packing)
    assert source.skip(40_000)
    assert source.read(10) == DATA[40_000:40_010]
    assert not source.skip(len(DATA))


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_a_file_that_is_cut_short_says_so(packing: Packing) -> None:
    packed = PACK[NAMES[packing]](DATA)
    for length in (len(packed) // 2, len(packed) - 1):
        with pytest.raises(InputError, match="is cut short"):
            whole(unpacked(packed[:length], packing))


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_a_damaged_file_says_so(packing: Packing) -> None:
    packed = bytearray(PACK[NAMES[packing]](DATA))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"x" * 40
    with pytest.raises(InputError, match="is damaged"):
        whole(unpacked(bytes(packed), packing))
    with pytest.raises(InputError, match="is damaged"):
        whole(unpacked(PACK[NAMES[packing]](DATA) + b"something else", packing))


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_a_bomb_is_refused_before_it_grows(packing: Packing) -> None:
    bomb = PACK[NAMES[packing]](bytes(30_000_000))
    limits = ArchiveLimits(free_bytes=2 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="unpacks to much more than an archive of images does") as caught:
            source = unpacked(bomb, packing, limits)
            while source.skip(1 << 20):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, "nothing of it was kept"
    assert int(str(caught.value.got).split(" ", maxsplit=1)[0].replace(",", "")) < 16 << 20


def test_an_xz_file_that_asks_for_gigabytes_of_memory_is_refused() -> None:
    """The size of the dictionary is a byte in the header of a block, before the header's checksum."""
    packed = bytearray(lzma.compress(DATA[:1000]))
    end = 12 + (packed[12] + 1) * 4
    assert packed[14:16] == b"\x21\x01"
    packed[16] = 40  # 4 GiB
    packed[end - 4 : end] = zlib.crc32(packed[12 : end - 4]).to_bytes(4, "little")
    with pytest.raises(InputError, match="asks for too much memory: Memory usage limit exceeded"):
        whole(unpacked(bytes(packed), "xz"))


def test_a_gzip_file_with_a_wrong_checksum_is_damaged() -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[-8:-4] = zlib.crc32(b"other").to_bytes(4, "little")
    with pytest.raises(InputError, match="is damaged"):
        whole(unpacked(bytes(packed), "gzip"))
