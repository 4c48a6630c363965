"""Files that somebody named: regular ones are read up to their bounds, everything else is refused at once."""

from __future__ import annotations

import os
import socket
import threading
from io import FileIO
from pathlib import Path

import pytest

from yoloship._util import reading
from yoloship._util.reading import (
    Patience,
    open_regular,
    read_bounded,
    read_file_or_pipe,
    read_if_there,
    read_start,
    read_text,
    refuse_address,
)
from yoloship.errors import InputError, visible

pytestmark = pytest.mark.timeout(60)

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def refusal(path: Path | str, limit_bytes: int = 100) -> str:
    with pytest.raises(InputError) as caught:
        read_bounded(path, limit_bytes, error=InputError, wanted="a label file")
    return str(caught.value)


def test_a_file_is_read_whole_and_by_its_start(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_bounded(tmp_path / "a", 10, error=InputError) == b"0123456789"
    assert read_start(tmp_path / "a", 4, error=InputError) == b"0123"
    assert read_start(tmp_path / "a", 40, error=InputError) == b"0123456789"


def test_a_file_over_its_limit_is_refused_by_its_length(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 42)  # sparse: reading it would never end
    assert refusal(tmp_path / "huge").startswith(
        f"{tmp_path / 'huge'}: is too long for a label file: expected at most 100 bytes, got 4,398,046,511,104 bytes"
    )


def test_what_grows_while_it_is_read_is_read_as_it_was_at_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"begin")
    with open_regular(path, error=InputError, limit_bytes=5) as file:
        with path.open("ab") as writer:
            writer.write(b" and more")
        assert file.read(5) == b"begin"
    assert read_bounded(path, 100, error=InputError) == b"begin and more"


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: is a folder, not a label file; name a file in it"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such file"
    assert read_if_there(tmp_path / "none", 1, error=InputError) is None
    with pytest.raises(InputError, match="is a folder"):
        read_if_there(tmp_path, 1, error=InputError)


@pytest.mark.parametrize("name", ["a\0b", "a\udc80\ud800b"])
def test_a_name_that_cannot_be_one_is_shown(name: str) -> None:
    assert refusal(name).startswith(f"{visible(name)}: ")


@needs_pipes
def test_a_pipe_that_nobody_writes_to_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith(f"{tmp_path / 'pipe'}: is a pipe, not a label file; copy its content")
    (tmp_path / "link").symlink_to("pipe")
    assert "is a pipe" in refusal(tmp_path / "link")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_an_endless_device_is_refused() -> None:
    assert refusal("/dev/zero").startswith("/dev/zero: is a device, not a label file")


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="this system has no /proc")
def test_endless_files_without_a_length_count_as_empty() -> None:
    assert read_bounded("/proc/self/pagemap", 100, error=InputError) == b""
    assert read_start("/proc/self/pagemap", 100, error=InputError) == b""


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket, not a label file" in refusal("socket")


def test_text_loses_its_byte_order_mark_and_has_to_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfcar\n")
    assert read_text(tmp_path / "bom", 100, error=InputError) == "car\n"
    (tmp_path / "latin").write_bytes(b"stra\xdfe")
    with pytest.raises(InputError, match="byte 4 is not UTF-8; save it as UTF-8"):
        read_text(tmp_path / "latin", 100, error=InputError)


@needs_pipes
def test_a_pipe_that_the_user_named_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sent = os.urandom(300_000)  # more than a pipe holds at once
    writer = threading.Thread(target=pipe.write_bytes, args=(sent,))
    writer.start()
    try:
        assert read_file_or_pipe(pipe, 400_000, error=InputError) == sent
    finally:
        writer.join()


@needs_pipes
def test_a_pipe_whose_writer_came_and_went_between_two_looks_at_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    looked = reading._has_ended
    turns: list[bool] = []

    def after_a_short_visit(file: FileIO) -> bool:
        if not turns:
            pipe.write_bytes(b"an image")  # the pipe is open for reading, so this does not wait
        turns.append(looked(file))
        return turns[-1]

    monkeypatch.setattr(reading, "_has_ended", after_a_short_visit)
    assert read_file_or_pipe(pipe, 100, error=InputError) == b"an image"
    assert turns == [True]


@needs_pipes
def test_an_anonymous_pipe_is_read_through_its_descriptor() -> None:
    if not Path("/dev/fd").exists():
        pytest.skip("this system has no /dev/fd")
    reader, writer = os.pipe()
    try:
        os.write(writer, b"an image")
        os.close(writer)
        assert read_file_or_pipe(f"/dev/fd/{reader}", 100, error=InputError) == b"an image"
    finally:
        os.close(reader)


@needs_pipes
def test_a_pipe_that_gives_too_much_or_nothing_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"is a pipe, and nobody wrote to it for 0\.1 s"):
        read_file_or_pipe(pipe, 10, error=InputError, patience=Patience(writer_s=0.1))
    both = os.open(pipe, os.O_RDWR)  # a writer that never ends
    try:
        with pytest.raises(InputError, match=r"is a pipe whose writer sent nothing for 0\.1 s"):
            read_file_or_pipe(pipe, 10, error=InputError, patience=Patience(silence_s=0.1))
        os.write(both, b"0123456789ABCDEF")
        with pytest.raises(InputError, match="is too long for a file: expected at most 10 bytes"):
            read_file_or_pipe(pipe, 10, error=InputError)
    finally:
        os.close(both)


@needs_pipes
def test_reading_a_silent_pipe_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both = os.open(pipe, os.O_RDWR)
    stopped = threading.Event()
    refusals: list[str] = []

    def reserve(wanted_bytes: int) -> None:
        assert wanted_bytes == 0
        if stopped.is_set():
            raise InputError("the stream was closed")

    def read() -> None:
        patience = Patience(silence_s=1000, reserve=reserve)
        with pytest.raises(InputError) as caught:
            read_file_or_pipe(pipe, 10, error=InputError, patience=patience)
        refusals.append(str(caught.value))

    reader = threading.Thread(target=read)
    reader.start()
    stopped.set()
    reader.join()
    os.close(both)
    assert refusals == [f"{pipe}: was not read to its end, because nobody waits for it any longer"]


def test_an_ordinary_file_is_taken_where_a_pipe_may_stand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_file_or_pipe(tmp_path / "a", 3, error=InputError) == b"abc"
    with pytest.raises(InputError, match="is too long"):
        read_file_or_pipe(tmp_path / "a", 2, error=InputError)


def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    starts: list[int] = []

    def check(start: bytes) -> None:
        starts.append(len(start))
        raise InputError("is something else")

    with pytest.raises(InputError, match="is something else"):
        read_file_or_pipe(tmp_path / "huge", 1 << 41, error=InputError, check_start=check)
    assert starts == [4096]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open descriptors are counted as Linux lists them")
def test_a_folder_that_is_opened_as_a_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    refusal(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        refusal(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@needs_pipes
def test_a_pipe_is_waited_for_though_many_descriptors_are_open(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    os.mkfifo(tmp_path / "pipe")
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    writing = os.open(tmp_path / "pipe", os.O_RDWR)

    def write() -> None:
        os.write(writing, b"late")
        os.close(writing)

    late = threading.Timer(0.2, write)
    late.start()
    try:
        assert read_file_or_pipe(tmp_path / "pipe", 100, error=InputError) == b"late"
    finally:
        late.join()
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("https://example.org/a.pt", "download it first, and give the file"),
        ("RTSP://10.0.0.1/cam", "save its images as files first, and give those"),
        ("file:///data/a.pt", "give the path itself"),
        ("s3:/bucket/a.pt", "download it first, and give the file"),  # as `pathlib` writes s3://
    ],
)
def test_an_address_is_refused_with_what_to_do(name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse_address(name, error=InputError)
    assert str(caught.value) == f"{name}: is an address, and yoloship reads files; {hint}"


@pytest.mark.parametrize("name", ["best.pt", "C:/best.pt", "a:b", "runs/a://b", "x://"])
def test_other_names_are_not_addresses(name: str) -> None:
    refuse_address(name, error=InputError)


def test_a_file_that_bears_such_a_name_is_not_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a.pt").write_bytes(b"")
    refuse_address("http://a.pt", error=InputError)
