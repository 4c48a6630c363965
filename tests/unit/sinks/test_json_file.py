"""A JSON list on disk as its records come, valid however the run ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from yoloship.errors import ImageError, OutputError
from yoloship.results.detections import Detections
from yoloship.sinks import Entry, JsonFile

FOUND = Detections(
    np.array([[1.5, 2.25, 30.1, 40]], np.float32),
    np.array([0.9], np.float32),
    np.array([1], np.int32),
    ("cat", "dog"),
    (48, 64),
)
ENTRIES = (
    Entry("a.jpg", FOUND, annotated=Path("out/a.jpg")),
    Entry("b.jpg", None, ImageError("no such file", subject="b.jpg"), index=1),
    Entry("c.jpg", FOUND, OutputError("cannot be written: Permission denied", subject="out/c.jpg"), index=2),
)
RECORDS = [
    {
        "input": "a.jpg",
        "index": 0,
        "width": 64,
        "height": 48,
        "detections": [{"class_id": 1, "class_name": "dog", "score": 0.9, "box_xyxy": [1.5, 2.25, 30.1, 40.0]}],
        "annotated": str(Path("out/a.jpg")),
    },
    {"input": "b.jpg", "index": 1, "error": "b.jpg: no such file"},
    {
        "input": "c.jpg",
        "index": 2,
        "width": 64,
        "height": 48,
        "detections": [{"class_id": 1, "class_name": "dog", "score": 0.9, "box_xyxy": [1.5, 2.25, 30.1, 40.0]}],
        "error": "out/c.jpg: cannot be written: Permission denied",
    },
]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def test_there_is_a_record_for_every_image_in_their_order(tmp_path: Path) -> None:
    with JsonFile.open(tmp_path / "found.json", overwrite=False) as sink:
        for entry in ENTRIES:
            sink.write(entry)
    text = (tmp_path / "found.json").read_text()
    assert json.loads(text) == RECORDS
    assert len(text.splitlines()) == 3  # one line an image, for people and for line tools
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_is_on_disk_is_a_valid_list_after_every_record(tmp_path: Path) -> None:
    with JsonFile.open(tmp_path / "found.json", overwrite=False) as sink:
        for count, entry in enumerate(ENTRIES, 1):
            sink.write(entry)
            (part,) = parts(tmp_path)
            assert part.name.startswith("found.json.")
            assert json.loads(part.read_bytes()) == RECORDS[:count]


@pytest.mark.parametrize("ends_by", [KeyboardInterrupt, SystemExit, MemoryError, OutputError])
def test_an_interruption_loses_nothing(tmp_path: Path, ends_by: type[BaseException]) -> None:
    (tmp_path / "found.json").write_text("old")
    with pytest.raises(ends_by), JsonFile.open(tmp_path / "found.json", overwrite=True) as sink:
        sink.write(ENTRIES[0])
        raise ends_by("stop")
    assert json.loads((tmp_path / "found.json").read_bytes()) == RECORDS[:1]
    assert parts(tmp_path) == []


def test_an_interruption_before_the_first_record_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), JsonFile.open(tmp_path / "found.json", overwrite=True):
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_no_images_at_all_give_an_empty_list(tmp_path: Path) -> None:
    with JsonFile.open(tmp_path / "found.json", overwrite=False):
        pass
    assert json.loads((tmp_path / "found.json").read_bytes()) == []


def test_a_full_disk_keeps_the_records_that_are_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonFile.open(tmp_path / "found.json", overwrite=False)
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free some space"), sink:
        sink.write(ENTRIES[0])
        growing: Any = sink._target
        monkeypatch.setattr(growing, "_file", Filling(growing._file, 20))
        sink.write(ENTRIES[1])
    assert json.loads((tmp_path / "found.json").read_bytes()) == RECORDS[:1]


class Filling:
    """A file on a disk that has room for a few bytes more."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        if not self._room and len(data) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._file.write(data[: self._room] if len(data) > 2 else data)
        self._room = 0
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_name_taken_meanwhile_does_not_lose_the_results(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    sink = JsonFile.open(target, overwrite=False)
    sink.write(ENTRIES[0])
    target.write_text("theirs")
    with pytest.raises(OutputError, match=r"already exists; the results are in .*\.part") as caught:
        sink.close()
    (part,) = parts(tmp_path)
    assert str(part) in str(caught.value)
    assert json.loads(part.read_bytes()) == RECORDS[:1]
    assert target.read_text() == "theirs"


def test_a_folder_that_takes_nothing_is_said_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        JsonFile.open(tmp_path / "none" / "found.json", overwrite=False)
    (tmp_path / "found.json").touch()
    with pytest.raises(OutputError, match="already exists"):
        JsonFile.open(tmp_path / "found.json", overwrite=False)


def test_the_longest_legal_name_is_written(tmp_path: Path) -> None:
    name = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 83 + ".jsonl"
    with JsonFile.open(tmp_path / name, overwrite=False) as sink:
        sink.write(ENTRIES[0])
    assert [path.name for path in tmp_path.iterdir()] == [name]


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_json_file import ENTRIES
from yoloship.sinks import JsonFile
sink = JsonFile.open(Path(sys.argv[1]), overwrite=False)
for entry in ENTRIES:
    sink.write(entry)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
@pytest.mark.timeout(60)
def test_a_killed_process_leaves_a_valid_list_under_another_name(tmp_path: Path) -> None:
    program = KILLED.format(paths=[str(Path(__file__).parent), str(Path(__file__).parents[2])])
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "found.json"], check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = tmp_path.iterdir()
    assert part.name.startswith("found.json.")
    assert json.loads(part.read_bytes()) == RECORDS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(60)
def test_a_stream_gets_each_record_as_it_comes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with JsonFile.open(tmp_path / "pipe", overwrite=False) as sink:
            sink.write(ENTRIES[0])
            got = os.read(reader, 10_000)
            assert json.loads(got + b"]") == RECORDS[:1]
            sink.write(ENTRIES[1])
        got += os.read(reader, 10_000)
        assert json.loads(got) == RECORDS[:2]
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_stream_that_takes_nothing_is_one_clear_line() -> None:
    message = "/dev/full: cannot be written: No space left on device"
    with pytest.raises(OutputError, match=message), JsonFile.open(Path("/dev/full"), overwrite=False) as sink:
        sink.write(ENTRIES[0])
    with pytest.raises(OutputError, match=message), JsonFile.open(Path("/dev/full"), overwrite=False):
        pass


@pytest.mark.timeout(60)
def test_a_pipe_whose_reader_went_away_is_one_clear_line(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with (
        pytest.raises(OutputError, match="cannot be written: Broken pipe; its reader ended early"),
        JsonFile.open(tmp_path / "pipe", overwrite=False) as sink,
    ):
        os.close(reader)
        sink.write(ENTRIES[0])


def test_what_a_stream_raises_comes_out_and_nothing_is_sent_after_it() -> None:
    sent: list[bytes] = []

    def send(data: bytes) -> None:
        sent.append(data)
        raise SystemExit

    with pytest.raises(SystemExit), JsonFile.to_stream(send) as sink:
        sink.write(ENTRIES[1])
    assert len(sent) == 1
