from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from helpers.archives import png, zip_of
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Countdown(Source):
    """A source with no more than it must have."""

    help: ClassVar[str] = "Counts down."

    def __init__(self, first: int) -> None:
        self.first = first

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Countdown:
        return cls(int(texts[0]))

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.first):
            yield Frame(index, str(self.first - index), b"")


class Files(Countdown):
    closed = False

    @property
    def files(self) -> Sequence[Path]:
        return [Path(str(index)) for index in range(self.first)]

    def close(self) -> None:
        self.closed = True


def test_a_source_that_knows_no_more_says_so() -> None:
    with Countdown.open(["3"]) as source:
        assert [frame.name for frame in source] == ["3", "2", "1"]
        assert (source.files, source.count, tuple(source.notes)) == (None, None, ())


def test_a_source_of_files_counts_them_and_is_closed_at_the_end() -> None:
    with Files(2) as source:
        assert source.count == 2
    assert source.closed


def test_a_source_has_to_give_its_frames() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Source,), {})()


def test_a_text_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    image, archive = str(tmp_path / "a.png"), str(tmp_path / "a.zip")
    Path(image).write_bytes(png())
    Path(archive).write_bytes(zip_of({"b.png": png()}))
    with open_source([image, archive, image, archive]) as source:
        assert [frame.name for frame in source] == [image, f"{archive}/b.png"]
