from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from yoloship._util import writing
from yoloship._util.writing import find_place, remove_stale, replacing, shortened, write_bytes
from yoloship.errors import OutputError


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
    with pytest.raises(OutputError, match=r"a\.bin: already exists; give another name, or --overwrite"):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"


def test_a_name_taken_while_writing_is_refused_too(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="already exists"), replacing(target, overwrite=False) as file:
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


LONG = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 80 + ".png"  # 244 bytes: legal, and too long to be made any longer


def test_the_longest_legal_name_is_written(tmp_path: Path) -> None:
    try:
        (tmp_path / LONG).touch()
    except OSError:
        pytest.skip("this file system has shorter names")
    write_bytes(tmp_path / LONG, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(LONG, b"new")]
    with pytest.raises(OutputError, match="cannot be written: File name too long; give a shorter name"):
        write_bytes(tmp_path / ("x" * 256), b"")
    with pytest.raises(OutputError, match="cannot be written: not a valid file name; give another name"):
        write_bytes(tmp_path / "a\0b", b"")


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "real.json").write_bytes(b"old")
    link = tmp_path / "a.json"
    link.symlink_to(Path("other", "link.json"))
    (other / "link.json").symlink_to("real.json")
    with pytest.raises(OutputError, match="already exists"):
        write_bytes(link, b"new", overwrite=False)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert (other / "link.json").is_symlink()
    assert (other / "real.json").read_bytes() == b"new"
    assert sorted(path.name for path in other.iterdir()) == ["link.json", "real.json"]


def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("b.json")
    write_bytes(tmp_path / "a.json", b"new", overwrite=False)
    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "b.json").read_bytes() == b"new"


def test_a_loop_of_links_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot be written: Too many levels of symbolic links"):
        write_bytes(tmp_path / "a", b"")


def test_permissions_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"secret")
    (tmp_path / "a").chmod(0o600)
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@needs_pipes
@pytest.mark.timeout(60)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path, overwrite: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"x" * 200_000, overwrite=overwrite)
    reader.join()
    assert got == [b"x" * 200_000]
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


@needs_pipes
@pytest.mark.timeout(60)
def test_a_pipe_that_nobody_reads_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(writing, "READER_TIMEOUT_S", 0.1)
    with pytest.raises(OutputError, match=r"nobody read from this pipe for 0\.1 s; start its reader first"):
        write_bytes(tmp_path / "pipe", b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_devices_that_are_streams_are_written_to(tmp_path: Path) -> None:
    write_bytes(Path("/dev/null"), b"x", overwrite=False)
    (tmp_path / "null").symlink_to("/dev/null")
    write_bytes(tmp_path / "null", b"x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device; free some space"):
        write_bytes(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
def test_a_descriptor_is_written_to_even_where_it_is_a_file(tmp_path: Path) -> None:
    with (tmp_path / "redirected").open("wb", buffering=0) as file:
        file.write(b"before ")
        inode = (tmp_path / "redirected").stat().st_ino
        write_bytes(Path(f"/dev/fd/{file.fileno()}"), b"after")
        (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        write_bytes(tmp_path / "link", b", and more", overwrite=False)
    assert (tmp_path / "redirected").read_bytes() == b"before after, and more"
    assert (tmp_path / "redirected").stat().st_ino == inode


def test_a_folder_and_a_socket_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="is a folder, not a file"):
        find_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OutputError, match="is a socket, not a file"):
            write_bytes(Path("socket"), b"")


def test_what_became_a_folder_or_a_link_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with (
        pytest.raises(OutputError, match="was replaced by something else while it was being written"),
        replacing(target),
    ):
        target.mkdir()
    target.rmdir()
    (tmp_path / "victim").write_bytes(b"theirs")
    with (
        pytest.raises(OutputError, match="was replaced by something else while it was being written"),
        replacing(target),
    ):
        target.symlink_to("victim")
    assert (tmp_path / "victim").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "victim"]


@pytest.mark.skipif(os.name != "posix", reason="this system locks files in another way")
def test_parts_of_killed_processes_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    old = 1_000_000_000
    for name in (".0123456789ab.part", "mine.part", ".mine.part"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    with replacing(tmp_path / "a") as file:
        for path in tmp_path.iterdir():
            os.utime(path, (old, old))
        assert remove_stale(tmp_path) == 1
        file.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "a", "mine.part"]
    assert remove_stale(tmp_path / "none") == 0


def test_a_name_is_shortened_by_bytes() -> None:
    assert shortened("a", ".onnx") == "a.onnx"
    assert shortened("\N{CJK UNIFIED IDEOGRAPH-5199}" * 100, ".onnx") == "\N{CJK UNIFIED IDEOGRAPH-5199}" * 83 + ".onnx"


@pytest.mark.parametrize("number", ["9" * 20, "\uff10"])
def test_what_is_not_the_number_of_a_descriptor_is_not_taken_for_one(number: str) -> None:
    assert find_place(Path("/dev/fd") / number).descriptor is None
