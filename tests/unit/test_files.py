from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from yoloship.errors import OutputError
from yoloship.files import replacing, write_bytes


def test_a_whole_file_takes_the_name_and_nothing_else_stays(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"one")
    write_bytes(tmp_path / "a.bin", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.bin", b"two")]


def test_an_interruption_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_name_that_is_taken_is_refused_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a\.bin: exists already; give another name, or --overwrite"):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"


def test_a_name_taken_while_writing_is_refused_too(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="exists already"), replacing(target, overwrite=False) as file:
        file.write(b"new")
        target.write_bytes(b"theirs")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free some space"):
        write_bytes(tmp_path / "a.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_as_name_are_clear(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory; check the folder"):
        write_bytes(tmp_path / "no" / "a.bin", b"")
    with pytest.raises(OutputError, match="is a folder, not a file"):
        write_bytes(tmp_path, b"")
