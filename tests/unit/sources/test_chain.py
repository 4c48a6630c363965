from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.archives import png, zip_of
from yoloship.errors import InputError
from yoloship.sources.chain import Chain, each_once
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source, Stream, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yoloship.sources.reader import VideoDecoding


class Named(Source):
    help = "Names."

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.closed = list(texts), 0

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Named:
        if "bad" in texts:
            raise InputError("cannot be read", subject="bad")
        return cls(texts)

    def __iter__(self) -> Iterator[Frame]:
        for index, text in enumerate(self.texts):
            yield Frame(index, text, b"")

    @property
    def count(self) -> int | None:
        return len(self.texts)

    @property
    def notes(self) -> Sequence[str]:
        return [f"{len(self.texts)} names"]

    def close(self) -> None:
        self.closed += 1


class Files(Named):
    @property
    def files(self) -> Sequence[Path]:
        return [Path(text) for text in self.texts]


class Live(Named):
    is_live = True
    streams: int | None = None

    @property
    def live_streams(self) -> int | None:
        return self.streams

    @property
    def count(self) -> int | None:
        return None


def names(source: Source) -> list[str]:
    return [frame.name for frame in source]


def test_parts_follow_each_other_and_are_closed_together() -> None:
    parts = [Files(["a", "b"]), Named(["c"])]
    with Chain(parts) as chain:
        assert names(chain) == ["a", "b", "c"]
        assert (chain.count, chain.files, chain.notes) == (3, None, ["2 names", "1 names"])
        assert chain.inputs == [Path("a"), Path("b")]
    assert [part.closed for part in parts] == [1, 1]


def test_files_are_known_if_every_part_knows_its_own() -> None:
    assert Chain([Files(["a"]), Files(["b"])]).files == [Path("a"), Path("b")]


def test_live_streams_come_last_and_are_opened_together() -> None:
    chain = Chain.of([(Live, ["cam1"]), (Named, ["a"]), (Live, ["cam2"])], DEFAULT_OPTIONS)
    assert names(chain) == ["a", "cam1", "cam2"]
    assert chain.is_live
    assert chain.count is None
    assert chain.live_streams is None  # these do not know


def test_one_part_after_the_other_reads_its_live_streams() -> None:
    def live(streams: int | None) -> Source:
        part = Live(["any"])
        part.streams = streams
        return part

    assert Chain([live(2), live(3), Named(["a"])]).live_streams == 3
    assert Chain([live(2), live(None)]).live_streams is None


def test_what_was_opened_is_closed_if_another_part_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Source] = []

    def note(source: Source) -> None:
        closed.append(source)

    monkeypatch.setattr(Named, "close", note)
    with pytest.raises(InputError, match="bad: cannot be read"):
        Chain.of([(Files, ["a"]), (Named, ["bad"])], DEFAULT_OPTIONS)
    assert [type(source) for source in closed] == [Files]


def test_each_text_may_be_a_source_of_its_own(tmp_path: Path) -> None:
    texts = [str(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    assert names(Chain.open(texts)) == texts


def test_what_comes_from_two_sources_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(png())
    Path("z.zip").write_bytes(zip_of({"c.png": png()}))
    Path("l.txt").write_text("a.png\nz.zip\n./b.png\n*.png\n", encoding="utf-8")
    with open_source(["b.png", "l.txt", "z.zip"]) as source:
        assert names(source) == ["b.png", "a.png", "z.zip/c.png"]
    Path("l.txt").write_text("a.png\n./b.png\n", encoding="utf-8")
    with open_source(["b.png", "l.txt"]) as source:
        assert source.files == [Path("b.png"), Path("a.png")]
        assert source.count == 2
        assert [frame.image for frame in source] == source.files, "files and frames have the same places"


def test_a_video_that_comes_twice_is_given_once_and_a_camera_goes_on() -> None:
    def frames(stream: Stream) -> list[Frame]:
        return [Frame(index, f"{stream.name}#{index}", None, stream=stream) for index in range(2)]

    twice = [*frames(Stream("a.mp4")), *frames(Stream("b.mp4")), *frames(Stream("a.mp4"))]
    assert [frame.name for frame in each_once(twice)] == ["a.mp4#0", "a.mp4#1", "b.mp4#0", "b.mp4#1"]
    again = [*frames(Stream("0", is_live=True)), *frames(Stream("0", is_live=True))]
    assert list(each_once(again)) == again, "it was connected anew"


class Silent(Live):
    """A camera that never has a frame."""

    def is_ready(self) -> bool:
        return False


def test_the_last_image_before_a_camera_is_given_while_it_is_known_that_the_camera_has_none() -> None:
    with Chain([Silent(["x"]), Named(["a", "b"])]) as chain:
        frames = iter(chain)
        assert (next(frames).name, chain.is_ready()) == ("a", True)
        assert (next(frames).name, chain.is_ready()) == ("b", False)
        assert next(frames).name == "x"
        assert next(frames, None) is None
        assert chain.is_ready()


def test_a_camera_is_not_held_back_by_another() -> None:
    with Chain([Live(["x", "y"]), Silent(["z"])]) as chain:
        frames = iter(chain)
        assert (next(frames).name, chain.is_ready()) == ("x", True)
        assert (next(frames).name, chain.is_ready()) == ("y", True)
        assert (next(frames).name, chain.is_ready()) == ("z", False)


def test_a_chain_lends_a_decoder_to_all_its_parts() -> None:
    class Lent(Named):
        def decode_with(self, decoding: VideoDecoding) -> None:
            lent.append(decoding)

    lent: list[VideoDecoding] = []
    decoding: Any = object()
    with Chain([Lent([]), Named([]), Lent([])]) as chain:
        chain.decode_with(decoding)
    assert lent == [decoding, decoding]
