"""What is left of zip archives that were cut short."""

from __future__ import annotations

import io
import zipfile

import pytest

from helpers.archives import encrypted, png, streamed_zip_of, zip_of
from yoloship.errors import InputError
from yoloship.sources.torn_zip import torn_members
from yoloship.sources.unpacking import ArchiveLimits

MEMBERS = {f"{number}.png": png(number) * (number + 1) for number in range(4)}


def left(data: bytes, limits: ArchiveLimits | None = None) -> tuple[dict[str, bytes], str]:
    """The entries that could be read, and why it ended."""
    found: dict[str, bytes] = {}
    with pytest.raises(InputError) as caught:
        for member in torn_members(io.BytesIO(data), limits or ArchiveLimits()):
            found[member.name] = member.read()
    return found, str(caught.value)


@pytest.mark.parametrize(
    "whole",
    [zip_of(MEMBERS), zip_of(MEMBERS, zipfile.ZIP_STORED), streamed_zip_of(MEMBERS)],
    ids=["deflated", "stored", "streamed"],
)
def test_what_is_whole_is_given_wherever_it_is_cut(whole: bytes) -> None:
    table = whole.find(b"PK\x01\x02")
    for length in range(0, table, 7):
        found, why = left(whole[:length])
        assert found == {name: data for name, data in MEMBERS.items() if name in found}
        assert why == "is cut short or damaged: the rest of it cannot be read"
    assert left(whole[:table])[0] == MEMBERS


def test_a_wrong_checksum_is_an_error() -> None:
    data = bytearray(zip_of({"a.png": b"first"}, zipfile.ZIP_STORED))
    data[data.find(b"first")] ^= 1
    assert left(bytes(data)) == ({}, "is damaged: its checksum is wrong")


def test_what_cannot_be_read_ends_it() -> None:
    assert left(encrypted(zip_of(MEMBERS)))[0] == {}
    assert left(zip_of(MEMBERS, zipfile.ZIP_LZMA))[0] == {}


def test_bombs_end_it() -> None:
    bomb = zip_of({f"{number}.bmp": bytes(3_000_000) for number in range(10)})
    found, why = left(bomb, ArchiveLimits(free_bytes=5_000_000))
    assert len(found) == 1
    assert "is a zip bomb" in why
    assert left(bomb, ArchiveLimits(max_member_bytes=1_000_000))[0] == {}
    assert left(streamed_zip_of({"a.bmp": bytes(3_000_000)}), ArchiveLimits(max_member_bytes=1_000_000))[0] == {}
