"""Tar archives, read from start to end."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from helpers.archives import padded, tar_header, tar_of
from yoloship.errors import InputError
from yoloship.sources.member import Member
from yoloship.sources.tar_reader import tar_members
from yoloship.sources.unpacking import ArchiveLimits, Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

END = bytes(1024)
LONG = "d/" * 150 + "é.jpg"


def members(data: bytes, limits: ArchiveLimits | None = None) -> list[tuple[str, str, bytes | str]]:
    """Name, kind and content of each entry; of one that cannot be read, why."""
    return [(one.name, one.kind, content(one)) for one in reader(data, limits)]


def reader(data: bytes, limits: ArchiveLimits | None = None) -> Iterator[Member]:
    chosen = limits or ArchiveLimits()
    return tar_members(Unpacked(io.BytesIO(data), len(data), "tar", chosen), chosen)


def content(member: Member) -> bytes | str:
    try:
        return member.read() if member.kind == "file" else b""
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_gives_names_and_bytes(form: int) -> None:
    given = {"a.jpg": b"first", "b/" * 40 + "c.jpg": b"", "d.jpg": b"x" * 1000, "e": b"y" * 512}
    if form != tarfile.USTAR_FORMAT:
        given |= {LONG: b"long", "汽车.jpg": b"z"}
    assert members(tar_of(given, form)) == [(name, "file", data) for name, data in given.items()]


def test_what_is_not_read_is_passed_over() -> None:
    data = tar_of({"a.jpg": b"x" * 5000, "b.jpg": b"second"})
    assert [member.name for member in reader(data)] == ["a.jpg", "b.jpg"]


def test_links_devices_and_folders_are_named_and_not_followed() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE)
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    kinds_found = [kind for _, kind, _ in members(written.getvalue())]
    assert kinds_found == ["link", "link", "folder", "special file", "special file", "special file"]


def test_a_large_size_may_be_in_binary() -> None:
    data = tar_header(b"a.jpg", b"\x80" + (5).to_bytes(11, "big")) + padded(b"hello") + END
    assert members(data) == [("a.jpg", "file", b"hello")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not a tar archive, or is cut short"),
        (tar_of({"a.jpg": b"x" * 2000})[:1500], "is cut short"),
        (tar_header(b"a.jpg", 5) + padded(b"hello"), "the mark at its end is missing"),
        (tar_header(b"a.jpg", 5) + padded(b"hello") + bytes(100), "the mark at its end is missing"),
        (tar_header(b"a.jpg", 5)[:300], "is cut short"),
        (b"not a tar archive".ljust(1024), "is not a tar archive, or is damaged"),
        (tar_header(b"a.jpg", b"zzzzzzzzzzzz"), "a number in a header is not a number"),
        (tar_header(b"a.jpg", b"\xff" * 12), "a number in a header is not a number"),
        (tar_header(b"x", 2 << 20, b"x"), "a name or a header is too long"),
        (tar_header(b"x", 1 << 17, b"L"), "a name or a header is too long"),
        (tar_header(b"x", 9, b"x") + padded(b"9 path\n  \n"), "a pax header cannot be read"),
        (tar_header(b"x", 9, b"x") + padded(b"99 path=\n"), "a pax header cannot be read"),
        (tar_header(b"x", 9, b"x") + padded(b"path=abc\n"), "a pax header cannot be read"),
        (tar_header(b"x", 10, b"x") + padded(b"10 size=x\n") + tar_header(b"a", 1), "is not a number"),
        (tar_header(b"x", 10, b"x") + padded(b"10 path=x\n") + END, "the mark at its end is missing"),
        (tar_header(b"a.jpg", b"\x80" + b"\xff" * 11) + END, "is cut short"),
    ],
)
def test_what_is_damaged_or_cut_short_says_so(data: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        members(data)


def test_what_comes_before_the_damage_is_given() -> None:
    data = tar_of({"a.jpg": b"first", "b.jpg": b"x" * 5000})[:3000]
    entries = reader(data)
    assert next(entries).read() == b"first"
    second = next(entries)
    with pytest.raises(InputError, match="is cut short"):
        second.read()


def test_an_entry_that_is_too_large_fails_by_itself() -> None:
    data = tar_of({"a.jpg": b"x" * 5000, "b.jpg": b"second"})
    (_, _, problem), (_, _, second) = members(data, ArchiveLimits(max_member_bytes=1000))
    assert problem == "is too large: expected at most 1,000 bytes, got 5,000"
    assert second == b"second"


def test_a_file_with_holes_is_not_read() -> None:
    records = b"22 GNU.sparse.major=1\n"
    data = tar_header(b"x", 22, b"x") + padded(records) + tar_header(b"a.jpg", 5) + padded(b"hello") + END
    assert members(data) == [("a.jpg", "special file", b"")]
    assert members(tar_header(b"a.jpg", 0, b"S") + END) == [("a.jpg", "special file", b"")]


def test_headers_without_end_are_refused() -> None:
    data = tar_header(b"g", 0, b"g") * 50
    with pytest.raises(InputError, match="has too many entries"):
        members(data, ArchiveLimits(max_members=20))
