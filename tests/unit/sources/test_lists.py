"""Lists of sources in text files."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from helpers.archives import png, zip_of
from yoloship.errors import InputError
from yoloship.sources import Frame, Source, SourceOptions, Stream, lists, open_source
from yoloship.sources.lists import SourceList
from yoloship.sources.settings import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def saved(name: str, *lines: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join(lines), encoding="utf-8")
    return name


def image(name: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(png())
    return name


def given(*texts: str) -> list[str]:
    """The name of each frame; of one that failed, its error."""
    with open_source(texts) as source:
        assert type(source) is SourceList
        frames = list(source)
    assert [frame.index for frame in frames if frame.stream is None] == list(range(len(frames)))
    return [frame.name if frame.error is None else str(frame.error) for frame in frames]


def test_a_line_is_an_image_and_comments_and_empty_lines_are_none() -> None:
    image("a.png")
    image("#b.png")
    assert given(saved("l.txt", "\ufeffa.png", "", "# c.png", "  ./#b.png  ", "\t")) == ["a.png", "./#b.png"]


def test_lines_may_end_in_any_way() -> None:
    Path("l.list").write_bytes(b"a.png\r\nb.png\nc.png")
    with open_source(["l.list"]) as source:
        assert [str(path) for path in source.files or ()] == ["a.png", "b.png", "c.png"]
        assert source.count == 3


def test_paths_are_looked_for_beside_the_list_first_and_then_here() -> None:
    for name in ("in/a.png", "in/both.png", "both.png", "here.png"):
        image(name)
    whole = str(Path("here.png").absolute())
    text = saved("in/l.txt", "a.png", "both.png", "here.png", "nowhere.png", whole)
    with open_source([text]) as source:
        assert [frame.name for frame in source] == ["in/a.png", "in/both.png", "here.png", "in/nowhere.png", whole]
        assert list(source.notes) == [
            "in/l.txt: 1 path, such as 'both.png', could also be in the current folder; the folder of the list is used"
        ]
        assert isinstance(source, SourceList)


def test_a_missing_image_is_an_image_that_fails_later_and_in_its_place() -> None:
    image("b.png")
    with open_source([saved("l.txt", "a.png", "b.png")]) as source:
        assert [frame.image for frame in source] == [Path("a.png"), Path("b.png")]


def test_a_line_may_be_a_pattern_a_folder_or_an_archive() -> None:
    for name in ("in/1.png", "in/2.png", "more/3.png"):
        image(name)
    Path("a.zip").write_bytes(zip_of({"4.png": png()}))
    text = saved("l.txt", "in/*.png", "more", "a.zip", "no/*.png", "nothing.zip")
    assert given(text) == [
        "in/1.png", "in/2.png", "more/3.png", "a.zip/4.png",
        "no/*.png: matches no images; quote the pattern, and check its folder", "nothing.zip",
    ]  # fmt: skip
    with open_source([text]) as source:
        assert source.files is None
        assert source.count is None


def test_a_video_keeps_its_own_places() -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    image("a.png")
    with open_source([saved("l.txt", "a.png", "clip.avi", "b.png")]) as source:
        places = [(frame.name, frame.index) for frame in source]
    assert places == [("a.png", 0), ("clip.avi#0", 0), ("clip.avi#1", 1), ("clip.avi#2", 2), ("b.png", 1)]


def test_repeated_lines_are_read_once_and_counted() -> None:
    first, second = saved("l.txt", "a.png", "b.png", "a.png"), saved("m.txt", "b.png", "c.png")
    with open_source([first, second]) as source:
        assert [str(path) for path in source.files or ()] == ["a.png", "b.png", "c.png"]
        assert list(source.notes) == [
            "l.txt: left out 1 line that repeat the source of another line",
            "m.txt: left out 1 line that repeat the source of another line",
        ]


def test_a_list_inside_a_list_is_refused_with_its_line() -> None:
    saved("inner.txt", "a.png")
    saved("inner.csv", "source", "a.png")
    for inner in ("inner.txt", "inner.csv"):
        with pytest.raises(InputError, match=rf"^l.txt, line 2: another list cannot be in a list: got {inner}"):
            open_source([saved("l.txt", "a.png", inner)])
    with pytest.raises(InputError, match=r"^l.txt, line 1: standard input cannot be in a list"):
        open_source([saved("l.txt", "-")])
    with pytest.raises(InputError, match=r"^l.txt, line 1: another list cannot be in a list: got l.txt"):
        open_source([saved("l.txt", "l.txt")])


@pytest.mark.parametrize("data", [b"\xff\xfea\x00.\x00p\x00", b"a.png\0b.png\n", b"\xfe\xff\0a"])
def test_other_encodings_are_refused_with_a_way_out(data: bytes) -> None:
    Path("l.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"l.txt, line 1: is not a list in UTF-8; save it as UTF-8"):
        SourceList.open(["l.txt"])


def test_names_of_files_may_be_any_bytes() -> None:
    Path("l.txt").write_bytes(b"caf\xe9.png\n")
    (name,) = given("l.txt")
    assert name.encode("utf-8", "surrogateescape") == b"caf\xe9.png"


@pytest.mark.parametrize("lines", [("# nothing",), ("", " ")])
def test_a_list_of_nothing_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"l.txt: names no images: expected one image, pattern or address per line"):
        SourceList.open([saved("l.txt", *lines)])


def test_what_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"l.txt, line 2: is too long: expected at most 65536 bytes"):
        SourceList.open([saved("l.txt", "a.png", "x" * 70_000)])
    monkeypatch.setattr(lists, "MAX_LINES", 3)
    with pytest.raises(InputError, match=r"l.txt: is too long: expected at most 3 lines"):
        SourceList.open([saved("l.txt", *(f"{number}.png" for number in range(5)))])


def test_a_long_list_keeps_only_names() -> None:
    count = 30_000
    saved("l.txt", *(f"{number:07}.jpg" for number in range(count)))
    tracemalloc.start()
    try:
        with SourceList.open(["l.txt"]) as source:
            kept = tracemalloc.get_traced_memory()[0]
            assert source.count == sum(1 for _ in source) == count
            # The paths of Python 3.10 intern names: the interpreter's table of them may be copied as it grows.
            spare_bytes = 4_000_000 if sys.version_info >= (3, 11) else 13_000_000
            assert tracemalloc.get_traced_memory()[1] < kept + spare_bytes
    finally:
        tracemalloc.stop()
    assert kept < count * 110, "a name, and its place in the list"


def test_the_files_are_a_sequence() -> None:
    with open_source([saved("l.txt", "a.png", "b.png", "c.png")]) as source:
        files = source.files
    assert files is not None
    assert files[1] == Path("b.png")
    assert list(files[1:]) == [Path("b.png"), Path("c.png")]
    assert files[-1] == Path("c.png")


def test_cameras_come_last_and_say_when_their_next_frame_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[list[str]] = []

    class Cameras(Source):
        help = "Cameras."
        is_live = True

        @classmethod
        def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Cameras:
            opened.append(list(texts))
            return cls()

        def __iter__(self) -> Iterator[Frame]:
            yield Frame(0, "cam#0", None, stream=Stream("cam", is_live=True))

        def is_ready(self) -> bool:
            return False

    usual = open_source
    monkeypatch.setattr(
        lists, "open_source",
        lambda texts, options: Cameras.open(texts) if texts[0].startswith("rtsp") else usual(texts, options),
    )  # fmt: skip
    image("a.png")
    with SourceList.open([saved("l.streams", "rtsp://one/1", "a.png", "rtsp://two/2")]) as source:
        assert source.is_live
        assert source.live_streams == 2
        frames = iter(source)
        assert next(frames).name == "a.png"
        assert source.is_ready()
        assert next(frames).name == "cam#0"
        assert not source.is_ready()
        assert list(frames) == []
    assert opened == [["rtsp://one/1", "rtsp://two/2"]]


def test_all_files_that_the_lines_stand_for_are_inputs_and_so_is_the_list() -> None:
    for name in ("a.png", "sub/b.png", "c1.png"):
        image(name)
    Path("d.zip").write_bytes(zip_of({"e.png": png()}))
    here = saved(
        "list.txt", "a.png", "gone.png", "sub", "c*.png", "d.zip", "no/*.png", "https://example.com/f.png", "0"
    )
    assert sorted(map(str, open_source([here]).inputs)) == [
        "a.png", "c1.png", "d.zip", "gone.png", "list.txt", str(Path("sub/b.png")),
    ]  # fmt: skip
    plain = saved("plain.txt", "a.png")
    assert list(map(str, open_source([plain]).inputs)) == ["plain.txt", "a.png"]
