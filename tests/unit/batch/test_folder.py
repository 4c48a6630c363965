"""Folders on this machine; those in object stores are tested with `buckets`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from yoloship.batch.folder import LocalFolder, open_folder
from yoloship.errors import InputError, OutputError


def test_files_are_written_as_a_whole_and_parts_of_files_are_not_seen(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "a" / "b")
    assert folder.names() == []
    folder.make()
    with folder.lock():
        folder.write("x", b"1")
        folder.write("x", b"22")
        (tmp_path / "a" / "b" / ".0123456789ab.part").write_bytes(b"half")
        assert folder.names() == ["x"]
        assert folder.read("x", 10) == b"22"
        assert folder.read("y", 10) is None
        with pytest.raises(OutputError, match="is too large: expected at most 1 bytes"):
            folder.read("x", 1)
        with pytest.raises(OutputError, match="another"), folder.lock():
            pass


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = LocalFolder(tmp_path)
    folder.write("x", b"1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        folder.write("x", b"2")
    assert folder.read("x", 1) == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        LocalFolder(tmp_path / "x").names()


def test_its_location_is_absolute_and_its_name_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = open_folder("out")
    assert (folder.location, folder.subject, folder.name_of("x")) == (str(tmp_path / "out"), "out", "out/x")
    with pytest.raises(InputError, match="is not an address of an object store"):
        open_folder("ftp://host/out")
