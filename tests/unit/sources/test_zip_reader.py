"""Zip archives, read through their table."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import numpy as np
import pytest

from helpers.archives import encrypted, png, streamed_zip_of, zip_of
from yoloship.errors import InputError
from yoloship.sources.member import Member
from yoloship.sources.unpacking import ArchiveLimits
from yoloship.sources.zip_reader import TableMissingError, open_zip, zip_members


def read(data: bytes, limits: ArchiveLimits | None = None) -> list[tuple[str, str, bytes | str]]:
    """Name, kind and content of each entry; of one that cannot be read, why."""
    chosen = limits or ArchiveLimits()
    with open_zip(io.BytesIO(data), chosen) as archive:
        return [(one.name, one.kind, content(one)) for one in zip_members(archive, chosen)]


def content(member: Member) -> bytes | str:
    try:
        return member.read()
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_entries_come_by_name_with_numbers_by_value(method: int) -> None:
    data = zip_of({"b/img10.jpg": b"ten", "b/img2.jpg": b"two", "a.jpg": b"a"}, method)
    assert read(data) == [("a.jpg", "file", b"a"), ("b/img2.jpg", "file", b"two"), ("b/img10.jpg", "file", b"ten")]


def test_an_archive_that_was_streamed_is_read_too() -> None:
    assert read(streamed_zip_of({"a.jpg": b"hello"})) == [("a.jpg", "file", b"hello")]


def test_another_method_is_refused_by_name() -> None:
    ((_, _, problem),) = read(zip_of({"a.jpg": b"x"}, zipfile.ZIP_LZMA))
    assert problem == "is packed by method 14 of zip, which is not read here; unpack the archive"


def test_an_encrypted_entry_says_so() -> None:
    data = encrypted(zip_of({"a.jpg": b"x"}))
    assert read(data) == [("a.jpg", "file", "is encrypted; unpack the archive with its password")]
    with open_zip(io.BytesIO(data), ArchiveLimits()) as archive:
        assert [member.is_encrypted for member in zip_members(archive, ArchiveLimits())] == [True]


def test_links_and_devices_are_not_files() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, mode in (("l.jpg", stat.S_IFLNK), ("d.jpg", stat.S_IFCHR), ("f.jpg", stat.S_IFREG), ("x/", 0)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, b"/etc/passwd" if name != "x/" else b"")
    kinds = {name: kind for name, kind, _ in read(written.getvalue())}
    assert kinds == {"d.jpg": "special file", "f.jpg": "file", "l.jpg": "link", "x": "folder"}


def test_a_wrong_checksum_is_that_entrys_error() -> None:
    data = bytearray(zip_of({"a.jpg": b"first", "b.jpg": b"second"}, zipfile.ZIP_STORED))
    data[data.find(b"first")] ^= 1
    (_, _, problem), (_, _, second) = read(bytes(data))
    assert "is damaged: Bad CRC-32 for file 'a.jpg'" in str(problem)
    assert second == b"second"


def test_limits_of_one_entry_are_its_error() -> None:
    data = zip_of({"a.jpg": bytes(5_000_000), "b.jpg": b"second"})
    (_, _, problem), (_, _, second) = read(data, ArchiveLimits(max_member_bytes=1_000_000))
    assert problem == "is too large: expected at most 1,000,000 bytes, got 5,000,000"
    assert second == b"second"


def test_bombs_are_refused_before_anything_is_unpacked() -> None:
    bomb = zip_of({f"{number}.bmp": bytes(7_000_000) for number in range(10)})
    with pytest.raises(InputError, match=r"is a zip bomb: got 70,000,000 bytes in an archive of"):
        read(bomb)
    noise = np.random.default_rng(0).bytes(100_000)
    mixed = zip_of({"a.bmp": bytes(5_000_000), "b.png": noise})
    problem = read(mixed, ArchiveLimits(free_bytes=1_000_000))[0][2]
    assert "unpacks to much more than an image does" in str(problem)


def test_entries_that_share_their_bytes_are_a_bomb() -> None:
    """Each entry of the table leads to the same packed bytes."""
    one = zip_of({"a.jpg": png()}, zipfile.ZIP_STORED)
    table = one.find(b"PK\x01\x02")
    end = one.find(b"PK\x05\x06")
    entry = one[table:end]
    count = 50
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, table, 0)
    with pytest.raises(InputError, match="is a zip bomb: its entries share their bytes"):
        read(one[:table] + entry * count + tail)


def test_a_table_that_is_too_large_is_not_read() -> None:
    data = bytearray(zip_of({f"{number}.jpg": b"" for number in range(30)}))
    with pytest.raises(InputError, match="has too many entries: expected at most 20, got 30 in a table of"):
        read(bytes(data), ArchiveLimits(max_members=20))
    with pytest.raises(InputError, match="has too many entries"):
        read(bytes(data), ArchiveLimits(max_directory_bytes=100))


@pytest.mark.parametrize("length", [0, 10, 100, 150])
def test_a_missing_table_says_so(length: int) -> None:
    with pytest.raises(TableMissingError, match="its table of entries cannot be read"):
        read(zip_of({"a.jpg": png() * 10}, zipfile.ZIP_STORED)[:length])


def test_what_follows_zip64_is_read() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"hello")
    assert read(written.getvalue()) == [("a.jpg", "file", b"hello")]
