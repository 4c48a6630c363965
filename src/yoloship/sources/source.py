"""What every source is: it gives the images of a run one after the other, each with its name."""

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
        index: Its place, from 0.
        name: What results call it: for a file, its path as the user reaches it.
        image: A file that the detector reads, the bytes of one, or (height, width, 3) uint8 BGR, read only.
    """

    index: int
    name: str
    image: Path | bytes | npt.NDArray[np.uint8]


class Source(Closing):
    """Gives frames in order; a context manager, which closes it.

    A source is one class in one file, and one line in `yoloship.sources.SOURCES` or an entry point of the group
    ``yoloship.sources``. On the command line, a third party's source is chosen by its name: with the entry point
    ``webcam``, ``yoloship detect best.pt webcam:0`` gives its `open` the text ``0``.

    Attributes:
        help: One sentence: what it reads.
    """

    help: ClassVar[str]

    @classmethod
    def accepts(cls, text: str) -> bool:
        """Whether a text on the command line that names no source is for this one. Nothing is opened."""
        del text
        return False

    @classmethod
    @abstractmethod
    def open(cls, texts: Sequence[str], *, recursive: bool = False) -> Self:
        """Make a source of what the user named.

        Args:
            texts: At least one, as the user wrote them.
            recursive: Whether a folder also stands for what is in all folders below it.

        Raises:
            InputError: a text names nothing that can be read.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Give each frame once, in order. The source may be iterated again unless it is live."""

    @property
    def files(self) -> Sequence[Path] | None:
        """The files that the frames are, in order, if they are one each and known before the run; else None."""
        return None

    @property
    def count(self) -> int | None:
        """How many frames there will be; None if that is not known."""
        return None if self.files is None else len(self.files)

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know before the run, a line each, such as files that were left out."""
        return ()

    def close(self) -> None:  # most have nothing to give back
        """Give back what is open. Closing twice is not an error."""
