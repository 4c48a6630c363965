"""What every sink is: it takes one image's results after the other, and is closed at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.detect.stream import Outcome
    from yoloship.errors import YoloshipError
    from yoloship.results.detections import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What became of one image, for sinks.

    Attributes:
        name: What the image is called: for a file, its path as the user gave it.
        detections: None if the image could not be read or run.
        error: What went wrong with it, or with writing it with its boxes; None if nothing did.
        annotated: Where the image was written with its boxes; None if it was not.
        index: Its place among the images of the run, from 0.
        image: (height, width, 3) uint8 BGR, read only; None unless a sink of the run needs it.
    """

    name: str
    detections: Detections | None
    error: YoloshipError | None = None
    annotated: Path | None = None
    index: int = 0
    image: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, outcome: Outcome, name: str | None = None) -> Entry:
        """Make the entry of what `Detector.stream` yields.

        Args:
            outcome: One of them.
            name: What the image is called; None takes the path that was streamed, or ``image 0`` and so on.
        """
        if name is None:
            source = outcome.source
            name = str(fspath(source)) if isinstance(source, str | PathLike) else f"image {outcome.index}"
        return cls(name, outcome.detections, outcome.error, None, outcome.index, outcome.image)


class Sink(ABC):
    """Takes entries in the order of the images. A context manager: it closes when the block ends, aborts if that fails.

    A sink is one class in one file, and one line in `yoloship.sinks.SINKS` or an entry point of the group
    ``yoloship.sinks``. `yoloship detect` then has its option. Subclass `TextSink` for anything that is appended to one
    file.

    Attributes:
        option: How the command line offers it, the long name last: ``("--csv",)``.
        metavar: What stands behind the option in the help: ``FILE``.
        help: One sentence for the help: what it writes.
        suffix: Of the files that it writes, with the dot; empty if it varies.
        target: ``file``: all entries go to one file, which appears under its name when the sink is closed. ``folder``:
            each image has a file of its own in a folder, which appears when it is whole.
        needs_images: Whether entries must carry their image.
        count: How many entries were written.
        is_finished: Whether it was closed or aborted with its results on disk.
    """

    option: ClassVar[tuple[str, ...]]
    metavar: ClassVar[str] = "FILE"
    help: ClassVar[str]
    suffix: ClassVar[str] = ""
    target: ClassVar[str] = "file"
    needs_images: ClassVar[bool] = False
    count: int = 0
    is_finished: bool = False

    @classmethod
    @abstractmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:
        """Make a sink that writes to a file, or into a folder.

        Args:
            path: The file, whose folder must exist, or the folder.
            overwrite: Whether files that exist may be replaced.
            inputs: The image files of the run, for sinks that name files after them; None if they are not known.

        Raises:
            OutputError: the name is taken and may not be overwritten, or cannot be written.
        """

    @classmethod
    def to_stream(cls, send: Callable[[bytes], None]) -> Self | None:
        """Make a sink that passes its bytes on as they come, to stdout for one; None if this kind of sink cannot.

        Args:
            send: Takes bytes and passes them on at once; what it raises comes out of `write`, `close` and `abort`.
        """
        del send
        return None

    @classmethod
    def file_names(cls, inputs: Sequence[Path]) -> Sequence[str]:
        """Say which files a ``folder`` sink will write for these images, so that none is replaced by mistake."""
        del inputs
        return ()

    @abstractmethod
    def write(self, entry: Entry) -> None:
        """Take what became of the next image.

        Raises:
            OutputError: it cannot be written; what was written before stays.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish: what was written is complete and valid from then on. Closing twice is not an error.

        Raises:
            OutputError: it cannot be finished.
        """

    def abort(self) -> None:
        """Finish early: what was written stays and is valid, and nothing is left behind if nothing was written."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()
