"""Lists of sources in a text file, one per line: `SourceList`.

A line is what the command line takes: an image, a pattern, a folder, a video, an archive, an address, a camera. Empty
lines and lines that begin with ``#`` are left out. Only names are kept in memory, so a list may have millions of lines.

A relative path is looked for in the folder of the list first, and then in the current folder. An image that is missing
is an image that fails, in its place; the others go on. A list inside a list is refused.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, overload

from yoloship._util.reading import open_regular
from yoloship._util.text import counted
from yoloship.errors import InputError, YoloshipError
from yoloship.sources.chain import each_once
from yoloship.sources.finding import has_magic
from yoloship.sources.recognise import IMAGE_SUFFIXES, IMAGES, recognise
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

MAX_LINE_BYTES: Final = 1 << 16
MAX_LINES: Final = 10_000_000
_CHECKED_TWICE: Final = 1000
"""Relative paths of a list that are looked for in both folders, to say which of two files is taken."""
_LISTS: Final = frozenset({"list", "csv"})
_NO_FILES: Final = frozenset({"url", "live", IMAGES})
"""Kinds of lines that are not the names of files: addresses, cameras, folders and patterns."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a list.

    Attributes:
        number: From 1.
        text: What it names.
    """

    number: int
    text: str


class _Paths(Sequence[Path]):
    """Names as paths, of which each is made when it is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        names = self._names[index]
        return Path(names) if isinstance(names, str) else _Paths(names)


class SourceList(Source):
    """The sources that some text files name, in their order.

    Args:
        names: For each source its text; a plain image file as a path that can be opened.
        others: Texts of `names` that are not plain image files, with the name of the source that reads each.
        options: How they are read.
        notes: What the user should know before the run.
        lists: The text files.
    """

    help = "Text files with one image, pattern, folder, video or address per line (.txt, .list, .streams)."

    def __init__(
        self,
        names: Sequence[str],
        others: dict[str, str],
        options: SourceOptions,
        notes: Sequence[str],
        lists: Sequence[str],
    ) -> None:
        self._lists = lists
        self._names, self._others, self._options, self._notes = names, others, options, notes
        self._live = [name for name in names if others.get(name) == "live"]
        self.is_live = bool(self._live)
        self._current: Source | None = None

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Read the lists; what they name is opened later.

        Raises:
            InputError: a list cannot be read, is empty, or names another list.
        """
        names: dict[str, None] = {}
        others: dict[str, str] = {}
        notes: list[str] = []
        for path in texts:
            before, total = len(names), 0
            finder = _Finder(path)
            for line in cls.lines(path):
                total += 1
                if total > MAX_LINES:
                    raise InputError("is too long", subject=path, expected=f"at most {MAX_LINES:,} lines")
                name, kind = finder.find(line)
                names.setdefault(name)
                if kind:
                    others[name] = kind
            if not total:
                raise InputError("names no images", subject=path, expected="one image, pattern or address per line")
            notes += finder.notes
            if repeated := before + total - len(names):
                notes.append(f"{path}: left out {counted(repeated, 'line')} that repeat the source of another line")
        return cls(tuple(names), others, options, notes, tuple(texts))

    @staticmethod
    def lines(path: str) -> Iterable[Line]:
        """The lines of a file that name something.

        Raises:
            InputError: it cannot be read as lines of text.
        """
        for number, whole in text_lines(path):
            text = whole.strip()
            if text and not text.startswith("#"):
                yield Line(number, text)

    @property
    def names(self) -> Sequence[str]:
        """The sources that its lines name, each once, with paths that can be opened."""
        return self._names

    @property
    def files(self) -> Sequence[Path] | None:
        """The files, if all lines name image files."""
        return None if self._others else _Paths(self._names)

    @property
    def inputs(self) -> Sequence[Path]:
        """The lists, and the files that their lines stand for, including those in folders and patterns."""
        found = [Path(name) for name in (*self._lists, *self._names) if self._others.get(name) not in _NO_FILES]
        for name in (name for name, kind in self._others.items() if kind == IMAGES):
            with suppress(YoloshipError), open_source([name], self._options) as source:  # the run says what is wrong
                found += source.inputs
        return found

    @property
    def notes(self) -> Sequence[str]:
        """Which of two files with the same name is used, and how many lines are left out."""
        return self._notes

    @property
    def live_streams(self) -> int:
        """How many lines name a camera or a stream; they are read together."""
        return len(self._live)

    def is_ready(self) -> bool:
        """Whether the source of the line that is read now has its next frame."""
        return self._current is None or self._current.is_ready()

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames of all lines in order, each once, but those of live sources last and together."""
        if not self._others:
            yield from (Frame(index, name, Path(name)) for index, name in enumerate(self._names))
            return
        index = 0
        for frame in each_once(self._frames()):
            yield frame if frame.stream is not None else replace(frame, index=index)
            index += frame.stream is None

    def _frames(self) -> Iterator[Frame]:
        stills = (name for name in self._names if self._others.get(name) != "live")
        for kind, group in groupby(stills, lambda name: self._others.get(name, "")):
            # Addresses of images are fetched ahead together; a line of any other kind fails by itself.
            for names in [list(group)] if kind == "url" else ([name] for name in group):
                yield from self._opened(names) if kind else (Frame(0, name, Path(name)) for name in names)
        if self._live:
            yield from self._opened(self._live)

    def _opened(self, names: Sequence[str]) -> Iterator[Frame]:
        """The frames of some sources; one that fails if they cannot be opened."""
        try:
            source = open_source(names, self._options)
        except YoloshipError as error:
            yield Frame(0, names[0], None, error=error)
            return
        with source, closing(iter(source)) as frames:  # type: ignore[type-var]  # they are generators
            self._current = source
            yield from frames
            self._current = None


class _Finder:
    """Finds what the lines of one list stand for.

    Attributes:
        notes: Which of two files of one name is taken.
    """

    def __init__(self, path: str) -> None:
        self.notes: list[str] = []
        self._path, self._folder = path, os.path.dirname(path)
        self._is_here = not self._folder or os.path.realpath(self._folder) == os.path.realpath(os.curdir)
        self._checked = self._doubtful = 0

    def find(self, line: Line) -> tuple[str, str]:
        """The text to open for a line, and the name of the source that reads it; empty for a plain image file.

        Raises:
            InputError: it is another list, or standard input.
        """
        text = line.text if self._is_here else self._placed(line.text)
        if _is_plain(text):
            return text, ""
        kind = recognise(text)
        if kind in _LISTS or text == "-":
            what = "standard input" if text == "-" else "another list"
            raise InputError(
                f"{what} cannot be in a list", subject=f"{self._path}, line {line.number}", got=line.text,
                hint="give it by itself",
            )  # fmt: skip
        return text, kind

    def _placed(self, text: str) -> str:
        """A relative path in the folder of the list, unless only the current folder has something of that name."""
        if os.path.isabs(text) or "://" in text or text.isdecimal() or text == "-":
            return text
        beside = os.path.join(self._folder, text)
        try:
            if has_magic(text) and not os.path.lexists(beside):
                return beside
            found = os.path.lexists(beside)
            if not found:
                return text if os.path.lexists(text) else beside
            self._checked += 1
            if self._checked <= _CHECKED_TWICE and os.path.lexists(text) and not os.path.samefile(text, beside):
                self._doubtful += 1
                paths = counted(self._doubtful, "path") + f", such as {text!r},"
                self.notes[:] = [
                    f"{self._path}: {paths} could also be in the current folder; the folder of the list is used"
                ]
        except (OSError, ValueError):  # a loop of links, or a name that no system takes: reading it says so
            return beside
        return beside


def _is_plain(name: str) -> bool:
    """Whether a text is a file with the suffix of an image, which needs no further look before it is read."""
    if os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES or "://" in name:
        return False
    return not has_magic(name) or os.path.lexists(name)


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, read piece by piece.

    Bytes that are not UTF-8 stand for themselves, because file names may have any.

    Raises:
        InputError: it cannot be read, has a line that is too long, or is text in UTF-16.
    """
    with open_regular(path, error=InputError, wanted="a list") as raw, io.BufferedReader(raw) as file:
        number = 0
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            if len(data) > MAX_LINE_BYTES:
                raise InputError(
                    "is too long", subject=f"{path}, line {number}", expected=f"at most {MAX_LINE_BYTES} bytes"
                )
            if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError("is not a list in UTF-8", subject=f"{path}, line {number}", hint="save it as UTF-8")
            yield number, data.decode("utf-8", "surrogateescape")
