"""What is left of a source, in which order, and when an entry counts as done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from yoloship.errors import InputError, OutputError
from yoloship.job.ledger import Ledger
from yoloship.job.log import Facts, Log
from yoloship.sinks import Entry, JsonFile
from yoloship.sinks.naming import RunNames
from yoloship.sources import Frame, ImageFiles, Source, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FACTS = Facts("ab" * 32, {}, {})


class Clips(Source):
    """Frames of two videos."""

    help = "Two videos."

    @classmethod
    def open(cls, texts: Sequence[str], options: object = None) -> Clips:
        return cls()

    def __iter__(self) -> Iterator[Frame]:
        for name in ("a.mp4", "b.mp4"):
            stream = Stream(name, Path(name))
            for index in range(3):
                yield Frame(index, f"{name}#{index}", b"", time_s=index / 10, stream=stream)


def images(*names: str) -> ImageFiles:
    return ImageFiles(tuple(map(Path, names)), len(names))


def did(log: Path, source: Source, count: int, *, folders: bool = True) -> list[str]:
    """Do some frames of what is left, and return their names."""
    with Log.open(log) as opened:
        ledger = Ledger(opened, source, has_folders=folders)
        ledger.begin(FACTS)
        names = []
        with ledger.noting({}):
            for place, frame in zip(range(count), ledger.frames(), strict=False):
                index = ledger.begin_entry(place)
                assert index == ledger.first_index + place
                ledger.write(Entry(frame.name, None, index=index, frame=frame), {})
                names.append(frame.name)
        if ledger.left is not None and len(names) == ledger.left:
            ledger.end()
    return names


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("folder", ["", "logs/"])
def test_frames_that_are_done_are_left_out(folder: str) -> None:
    Path("logs").mkdir()
    log = Path(f"{folder}x.resume")
    assert did(log, images("p/a.jpg", "p/b.jpg", "p/c.jpg"), 2) == ["p/a.jpg", "p/b.jpg"]
    assert did(log, images("./p/a.jpg", "p/../p/b.jpg", "p/c.jpg"), 9) == ["p/c.jpg"]
    with Log.open(log) as opened:
        assert Ledger(opened, images("p/a.jpg", "p/b.jpg", "p/c.jpg"), has_folders=True).is_finished


def test_a_video_goes_on_after_its_last_frame() -> None:
    assert did(Path("x"), Clips(), 4) == ["a.mp4#0", "a.mp4#1", "a.mp4#2", "b.mp4#0"]
    assert did(Path("x"), Clips(), 9) == ["b.mp4#1", "b.mp4#2"]
    assert did(Path("x"), Clips(), 9) == []


@pytest.mark.parametrize("folder", ["", "logs/"])
def test_files_for_the_frames_of_a_video_keep_their_names_in_the_next_run(folder: str) -> None:
    Path("logs").mkdir()
    log = Path(f"{folder}x")
    did(log, Clips(), 4)
    with Log.open(log) as opened:
        ledger, names = Ledger(opened, Clips(), has_folders=True), RunNames()
        ledger.give_names(names)
        assert [names.stem(frame.name, frame) for frame in ledger.frames()] == ["b_1", "b_2"]
        assert names.stem("elsewhere/a.jpg") == "a-2"


def test_an_image_whose_name_ends_as_that_of_a_frame_is_no_frame() -> None:
    members = [Frame(index, name, b"") for index, name in enumerate(("z/a#1", "z/a#", "z/a"))]
    with Log.open(Path("x")) as log:
        ledger = Ledger(log, Clips(), has_folders=True)
        assert [ledger.id_of(frame) for frame in members] == ["z/a#1#", "z/a##", "z/a"]


def test_new_images_come_after_those_that_are_done_wherever_they_sort() -> None:
    did(Path("x"), images("b.jpg", "d.jpg"), 9)
    with Log.open(Path("x")) as log:
        ledger = Ledger(log, images("a.jpg", "b.jpg", "c.jpg", "d.jpg"), has_folders=True)
        assert not ledger.is_finished
        assert list(map(str, ledger.inputs or ())) == ["b.jpg", "d.jpg", "a.jpg", "c.jpg"]
        assert (ledger.first_index, ledger.left) == (2, 2)
    assert did(Path("x"), images("a.jpg", "b.jpg", "c.jpg", "d.jpg"), 9) == ["a.jpg", "c.jpg"]


def test_images_that_are_gone_keep_their_place() -> None:
    did(Path("x"), images("a.jpg", "b.jpg", "c.jpg"), 2)
    with Log.open(Path("x")) as log:
        ledger = Ledger(log, images("b.jpg", "c.jpg"), has_folders=True)
        assert [path.name for path in ledger.inputs or ()] == ["a.jpg", "b.jpg", "c.jpg"]
        assert [frame.name for frame in ledger.frames()] == ["c.jpg"]


def test_outputs_of_equal_names_are_not_mixed_up_by_new_images() -> None:
    did(Path("x"), images("p/a.jpg", "q/a.jpg"), 1)
    with pytest.raises(
        InputError, match="images were added or removed since the run was started, and several have the same name"
    ):
        did(Path("x"), images("p/a.jpg", "o/a.jpg", "q/a.jpg"), 9)
    assert did(Path("x"), images("p/a.jpg", "o/a.jpg", "q/a.jpg"), 9, folders=False) == ["o/a.jpg", "q/a.jpg"]


def test_an_entry_counts_only_if_every_sink_has_it(tmp_path: Path) -> None:
    frames = [Frame(index, f"{index}.jpg", Path(f"{index}.jpg")) for index in range(3)]
    source = images(*(frame.name for frame in frames))
    with Log.open(Path("x")) as log:
        sink = JsonFile.resume(tmp_path / "found.json", 0)
        ledger = Ledger(log, source, has_folders=False)
        ledger.begin(FACTS)
        with pytest.raises(OutputError, match="full"), ledger.noting({"json": sink}):
            for index, frame in enumerate(frames):
                entry = Entry(frame.name, None, index=ledger.begin_entry(index), frame=frame)
                sink.write(entry)
                if index == 1:
                    raise OutputError("full")  # another sink has failed
                ledger.write(entry, {"json": sink})
        sink.abort()
        assert log.contents.done == []  # the mark of the first entry is not known any more
    assert did(Path("x"), source, 9) == ["0.jpg", "1.jpg", "2.jpg"]
