"""The base class of all sources, and `SOURCES`, the table of what `yoloship predict` can read.

A source gives the images of a run one after the other, with their names. A new one is one file and one line here.
Other packages add sources by entry points of the group ``yoloship.sources``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from yoloship._util.closing import Closing
from yoloship._util.tables import Table
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        index: The frame's place, from 0.
        name: The frame's name in results: for a file, its path, starting with what the user gave.
        image: A file's path, the bytes of a file, or (height, width, 3) uint8 BGR, read only.
    """

    index: int
    name: str
    image: Path | bytes | npt.NDArray[np.uint8]


class Source(Closing):
    """Gives frames in order. It is a context manager, which closes it.

    A source is one class in one file, and one line in `yoloship.sources.SOURCES` or an entry point of the group
    ``yoloship.sources``. On the command line, a source of another package is chosen by its name: with the entry point
    ``webcam``, ``yoloship predict best.pt webcam:0`` gives its `open` the text ``0``.

    Attributes:
        help: One sentence that says what it reads.
    """

    help: ClassVar[str]

    @classmethod
    @abstractmethod
    def open(cls, texts: Sequence[str], *, recursive: bool = False) -> Self:
        """Open a source.

        Args:
            texts: One or more texts, as the user wrote them.
            recursive: Whether a folder includes what is in all folders inside it.

        Raises:
            InputError: a text names something that cannot be read.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Give each frame once, in order. The source may be iterated again unless it is live."""

    @property
    def files(self) -> Sequence[Path] | None:
        """The files in order, if every frame is one file and all are known before the run; else None."""
        return None

    @property
    def count(self) -> int | None:
        """How many frames there will be; None if that is not known."""
        return None if self.files is None else len(self.files)

    @property
    def notes(self) -> Sequence[str]:
        """Lines that the user should read before the run, for example about files that were skipped."""
        return ()

    def close(self) -> None:  # most have nothing to give back
        """Release what is open. It may be called twice."""


SOURCES: Table[Source] = Table(
    "yoloship.sources",
    "source",
    MappingProxyType({"images": "yoloship.sources.finding:ImageFiles"}),
    base="yoloship.sources.source:Source",
)
"""Name of a source → its class."""
UNNAMED: Final = "images"
"""The source of a text without the name of a source."""


def open_source(texts: Sequence[str], *, recursive: bool = False) -> Source:
    """Open what the user named on the command line.

    Args:
        texts: Files, folders and patterns; or ``NAME:TEXT``, which gives TEXT to the source of that name, unless a file
            has exactly that name.
        recursive: Whether a folder includes the images in all folders inside it.

    Raises:
        InputError: nothing can be read there, or sources of different kinds are mixed.
        DependencyError: a third party's source cannot be loaded.
    """
    chosen = []
    for text in texts:
        name, colon, rest = str(text).partition(":")
        if not (colon and _is_name(name) and not _exists(text) and name in SOURCES):
            name, rest = UNNAMED, text
        chosen.append((name, rest))
    names = list(dict.fromkeys(name for name, _ in chosen))
    if len(names) > 1:
        raise InputError(
            "sources of different kinds cannot be used in one run", subject=", ".join(names), hint="give one kind"
        )
    return SOURCES.load(names[0]).open([rest for _, rest in chosen], recursive=recursive)


def _is_name(text: str) -> bool:
    """Whether a text can be the name of a source; a single letter is a drive on Windows."""
    return len(text) > 1 and text.replace("-", "_").isidentifier()


def _exists(text: str) -> bool:
    try:
        return os.path.lexists(text)
    except ValueError:  # a name that no system takes
        return False
