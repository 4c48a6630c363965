from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from yoloship.detect.stream import Outcome
from yoloship.errors import ImageError, OutputError
from yoloship.sinks.sink import Entry, TextSink

if TYPE_CHECKING:
    from collections.abc import Callable


class Lines(TextSink):
    option = ("--lines",)
    help = "Names, a line each."
    suffix = ".txt"
    opening, separator, closing = b"(", b",", b")"

    def record(self, entry: Entry) -> bytes:
        return entry.name.encode()


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/b.jpg", "a/b.jpg"), (Path("a/b.jpg"), "a/b.jpg"), (b"\xff\xd8", "image 7"), (None, "image 7")],
)
def test_an_entry_is_named_after_its_file_or_numbered(source: Any, name: str) -> None:
    error = ImageError("no")
    entry = Entry.of(Outcome(7, source, None, error))
    assert (entry.name, entry.index, entry.error, entry.result) == (name, 7, error, None)
    assert Entry.of(Outcome(7, source, None, error), "other").name == "other"


def test_a_file_is_valid_after_every_record_and_gets_its_name_at_the_end(tmp_path: Path) -> None:
    with Lines.open(tmp_path / "x.txt") as sink:
        for name, content in (("a", b"(a)"), ("", b"(a)"), ("b", b"(a,b)")):
            sink.write(Entry(name, None))
            (part,) = tmp_path.iterdir()
            assert part.name != "x.txt"
            assert part.read_bytes() == content
    assert sink.count == 3
    assert sink.is_finished
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    sink.close()


@pytest.mark.parametrize(("names", "left"), [([], b"before"), (["a"], b"(a)")])
def test_a_run_that_fails_keeps_what_there_is_and_replaces_nothing_with_nothing(
    names: list[str], left: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"before")

    def fail() -> None:
        with Lines.open(path, overwrite=True) as sink:
            for name in names:
                sink.write(Entry(name, None))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == left
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_a_file_that_cannot_be_finished_is_closed_and_its_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Lines.open(tmp_path / "x.txt")
    file = sink._target._file  # type: ignore[attr-defined]  # of a file, not of a stream
    sink.write(Entry("a", None))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the results are in"):
        sink.close()
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == b"(a)"
    assert file.closed


def test_a_name_that_is_taken_is_refused_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists"):
        Lines.open(tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_bytes() == b"mine"


def test_a_stream_gets_the_same_bytes_piece_by_piece() -> None:
    sent: list[bytes] = []
    send: Callable[[bytes], None] = sent.append
    with Lines.to_stream(send) as sink:
        sink.write(Entry("a", None))
        assert b"".join(sent) == b"(a"
        sink.write(Entry("b", None))
    assert b"".join(sent) == b"(a,b)"
