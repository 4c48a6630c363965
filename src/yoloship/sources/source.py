"""The base class of all sources. A source gives the images of a run one after the other, with their names."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from yoloship._util.closing import Closing

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
    ``webcam``, ``yoloship detect best.pt webcam:0`` gives its `open` the text ``0``.

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
