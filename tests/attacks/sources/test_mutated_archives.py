"""Archives with random damage: each gives images that are whole, and errors of ours, and nothing else."""

from __future__ import annotations

import random
import tarfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.archives import PACK, png, streamed_zip_of, tar_of, zip_of
from yoloship.errors import InputError
from yoloship.sources.archive import Archives
from yoloship.sources.unpacking import ArchiveLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS = {"a.png": png(1) * 3, "b/" * 60 + "b.png": png(2), "é.png": png(3), "r.txt": b"text", "c.zip": zip_of({})}
SEEDS = {
    "zip": zip_of(MEMBERS), "streamed.zip": streamed_zip_of(MEMBERS), "stored.zip": zip_of(MEMBERS, 0),
    "pax.tar": tar_of(MEMBERS), "gnu.tar": tar_of(MEMBERS, tarfile.GNU_FORMAT),
    **{f"packed.{suffix}": pack(tar_of(MEMBERS)) for suffix, pack in PACK.items()},
}  # fmt: skip
ROUNDS = 90
LIMITS = ArchiveLimits(max_member_bytes=1 << 20, free_bytes=1 << 20, max_members=1000, max_directory_bytes=1 << 20)
MOST_BYTES = {"xz": 140 << 20}
"""Suffix → what reading may take: xz may have a large dictionary. For all others, 24 MiB."""


def mutants(seed: bytes, count: int, name: str) -> Iterator[bytes]:
    """The same bytes with some changed, cut out, repeated, swapped, or made extreme."""
    chance = random.Random(name)
    for _ in range(count):
        data = bytearray(seed)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at, length = chance.randrange(max(len(data), 1)), chance.choice((1, 2, 4, 8, 64, 600))
            match chance.randrange(6):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del data[at : at + length]
                case 2:
                    data[at:at] = data[at : at + length] * chance.choice((1, 3))
                case 3:
                    data[at : at + length] = chance.choice((b"\xff", b"\0", b"7")) * length
                case 4:
                    del data[at:]
                case 5:
                    other = chance.randrange(max(len(data), 1))
                    data[at : at + length] = data[other : other + length]
        yield bytes(data)


@pytest.mark.parametrize("name", SEEDS)
def test_damage_gives_whole_images_and_our_errors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = set(MEMBERS.values())
    read = failed = 0
    tracemalloc.start()
    try:
        for data in mutants(SEEDS[name], ROUNDS, name):
            path.write_bytes(data)
            try:
                with Archives.open([str(path)], limits=LIMITS) as source:
                    frames = list(source)
            except InputError:
                failed += 1
                continue
            assert len({frame.name for frame in frames}) == len(frames)
            for frame in frames:
                failed += frame.error is not None
                read += isinstance(frame.image, bytes)
                if isinstance(frame.image, bytes) and "zip" in name:
                    assert frame.image in whole or not frame.image, "its checksum says that it is whole"
                assert ".." not in Path(frame.name).parts
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES.get(name.rpartition(".")[2], 24 << 20)
    assert read > 5, "some of them can still be read"
    assert failed > 10
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
