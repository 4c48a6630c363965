"""The base classes of all sinks. A sink takes the results of one image after the other, and is closed at the end.

A `TextSink` appends to one file or stream. The file grows under a temporary name: each record overwrites the format's
closing text and adds a new one. The file gets its own name when the sink is closed, also after an interruption. If the
process is killed, the temporary file stays, and it is valid too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, ClassVar

from yoloship._util.writing import find_place, open_stream, writing_errors
from yoloship.errors import OutputError
from yoloship.sinks.text_target import GrowingFile, ResumedFile, TextStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.detect.stream import Outcome
    from yoloship.errors import YoloshipError
    from yoloship.results import Result
    from yoloship.results.detections import Detections
    from yoloship.sinks.text_target import TextTarget
    from yoloship.sources import Frame
    from yoloship.tracking.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """The outcome of one image, for sinks.

    Attributes:
        name: The image's name: for a file, its path as the user gave it.
        result: The model's result; None if the image could not be read or run.
        error: The error of the image, or of writing its annotated image; None if there is none.
        annotated: The annotated image that was written; None if none was written.
        index: The image's place in the run, from 0.
        image: (height, width, 3) uint8 BGR, read only; None unless a sink of the run needs it.
        frame: The frame of its source, with its time and its video; None for images that came without one.
        stem: The name of its files without folder and suffix, different for each image of the run; None numbers them.
        scene: What zones and lines have counted up to this image; None unless objects are counted.
    """

    name: str
    result: Result | None
    error: YoloshipError | None = None
    annotated: Path | None = None
    index: int = 0
    image: npt.NDArray[np.uint8] | None = None
    frame: Frame | None = None
    stem: str | None = None
    scene: Scene | None = None

    @classmethod
    def of(cls, outcome: Outcome, name: str | None = None) -> Entry:
        """Make an entry from an outcome of `Detector.stream`.

        Args:
            outcome: The outcome.
            name: The image's name; None takes that of its frame or the path that was streamed, or ``image 0`` and so
                on.
        """
        if name is None and outcome.frame is not None:
            name = outcome.frame.name
        if name is None:
            source = outcome.source
            name = str(fspath(source)) if isinstance(source, str | PathLike) else f"image {outcome.index}"
        scene = getattr(outcome, "scene", None)  # a `TrackedOutcome` has it, whose module others do not load
        given = outcome.result, outcome.error, None, outcome.index, outcome.image, outcome.frame
        return cls(name, *given, scene=scene)


def boxes_of(entry: Entry) -> Detections | None:
    """The detections of an entry, for sinks whose format has boxes; None if the image failed.

    Raises:
        OutputError: the result has no boxes.
    """
    from yoloship.results.detections import Detections

    if entry.result is None or isinstance(entry.result, Detections):
        return entry.result
    raise OutputError(
        "has no boxes, which this format needs",
        subject=entry.name,
        got=f"a result of the task {entry.result.task!r}",
        hint="write another format, such as JSON (--json)",
    )


class Sink(ABC):
    """Takes entries in the order of the images. A context manager: it closes when the block ends, aborts if that fails.

    A sink is one class in one file, and one line in `yoloship.sinks.SINKS` or an entry point of the group
    ``yoloship.sinks``. `yoloship predict` then has its option. Subclass `TextSink` for anything that is appended to one
    file.

    Attributes:
        option: Its option on the command line, the long name last: ``("--csv",)``.
        metavar: The name of the option's value in the help: ``FILE``.
        help: One sentence for the help that says what it writes.
        suffix: Suffix of the files that it writes, with the dot; empty if it varies.
        target: ``file``: all entries go to one file, which appears under its name when the sink is closed. ``folder``:
            each image has a file of its own in a folder, which appears when it is whole.
        needs_images: Whether entries must contain their image.
        needs_boxes: Whether the format consists of boxes, so that a classification cannot be written in it.
        resumes: Whether a run that was stopped can be continued (`--resume`): the sink then has `flush` and `resume`.
        count: How many entries were written.
        is_finished: Whether it was closed or aborted with its results on disk.
    """

    option: ClassVar[tuple[str, ...]]
    metavar: ClassVar[str] = "FILE"
    help: ClassVar[str]
    suffix: ClassVar[str] = ""
    target: ClassVar[str] = "file"
    needs_images: ClassVar[bool] = False
    needs_boxes: ClassVar[bool] = False
    resumes: ClassVar[bool] = False
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
            OutputError: the file exists and may not be replaced, or cannot be written.
        """

    @classmethod
    def resume(cls, path: Path, mark: int, *, inputs: Sequence[Path] | None = None) -> Self:
        """Make a sink for a run that keeps a log: it continues an output, or begins one that can be continued.

        What was written after the mark is not in the log. The sink must remove it or write it again: the run gives
        these entries once more, with the same index and name. If such a sink is aborted, it leaves what the next run
        needs; its output is not finished then.

        This method opens the output again, and lets it replace files. That is right for sinks that write whole files
        for each image, under a name that depends on the entry only.

        Args:
            path: The file or the folder.
            mark: What `flush` returned last, according to the log; 0 begins the output.
            inputs: As for `open`, first those of the runs before, in their order.

        Raises:
            OutputError: the output is not as the runs before left it, or cannot be written.
        """
        del mark
        return cls.open(path, overwrite=True, inputs=inputs)

    def flush(self) -> int:
        """Make all that was written safe on the disk, so that the log may say so.

        Returns:
            The mark for `resume`, such as the length of the file; 0 if no mark is necessary.

        Raises:
            OutputError: the disk refuses.
        """
        return 0

    @classmethod
    def to_stream(cls, send: Callable[[bytes], None]) -> Self | None:
        """Make a sink that passes its bytes on as they come, for example to stdout; None if this kind of sink cannot.

        Args:
            send: Writes bytes at once. `write`, `close` and `abort` raise what it raises.
        """
        del send
        return None

    @classmethod
    def file_names(cls, inputs: Sequence[Path]) -> Sequence[str]:
        """Names of the files that a ``folder`` sink writes for these images, so that none is replaced by mistake."""
        del inputs
        return ()

    def protect(self, inputs: Sequence[Path]) -> None:
        """Name files that are not replaced, whatever was said of overwriting: those that the run reads.

        A sink whose file names are not all known before the run keeps them, and refuses to write there.

        Args:
            inputs: The files.
        """
        del inputs

    @abstractmethod
    def write(self, entry: Entry) -> None:
        """Write the outcome of the next image.

        Raises:
            OutputError: it cannot be written; what was written before stays.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish; afterwards the output is complete and valid. It may be called twice.

        Raises:
            OutputError: it cannot be finished.
        """

    def abort(self) -> None:
        """Finish early. What was written stays and is valid; if nothing was written, no file is left."""
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


class TextSink(Sink):
    """A sink whose format is an opening text, a record for each image, and a closing text.

    Attributes:
        opening: Text at the start of the file.
        separator: Text between two records.
        closing: Text at the end of the file.
    """

    resumes = True
    opening: ClassVar[bytes] = b""
    separator: ClassVar[bytes] = b""
    closing: ClassVar[bytes] = b""

    def __init__(self, target: TextTarget) -> None:
        self._target = target
        self._has_records = self._closed = False

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:  # noqa: ARG003
        """Write to a file, a named pipe or a device. `Sink.open` explains the arguments."""
        place = find_place(path)
        if not place.is_stream:
            return cls(GrowingFile.begin(path, place, cls.opening, cls.closing, overwrite=overwrite))
        with writing_errors(path):
            stream = open_stream(place)

        def send(data: bytes) -> None:
            with writing_errors(path):
                stream.write(data)
                stream.flush()

        def end() -> None:
            with suppress(OSError):  # what could not be written cannot be flushed either
                stream.close()

        return cls(TextStream(send, cls.opening, end))

    @classmethod
    def resume(cls, path: Path, mark: int, *, inputs: Sequence[Path] | None = None) -> Self:  # noqa: ARG003
        """Continue a file after its first bytes. `Sink.resume` explains the arguments."""
        sink = cls(ResumedFile.at(path, mark, cls.opening, cls.closing))
        sink._has_records = mark > len(cls.opening)
        return sink

    def flush(self) -> int:
        """Make all records safe on the disk; the mark is the length of the file without its closing text."""
        return self._target.flush()

    @classmethod
    def to_stream(cls, send: Callable[[bytes], None]) -> Self:
        """Pass each record to `send` as it comes."""
        return cls(TextStream(send, cls.opening))

    @abstractmethod
    def record(self, entry: Entry) -> bytes:
        """Make the text of one image; empty if the format has nothing to write for it."""

    def write(self, entry: Entry) -> None:
        """Append the record of the next image; it is on disk when this returns.

        Raises:
            OutputError: it cannot be written; what was written before stays.
        """
        record = self.record(entry)
        if record:
            self._target.append(self.separator + record if self._has_records else record, self.closing)
            self._has_records = True
        self.count += 1

    def close(self) -> None:
        """Give the file its name. Closing twice is not an error.

        Raises:
            OutputError: the file cannot be finished; the message says where the results are.
        """
        if not self._closed:
            self._closed = True
            self.is_finished = self._target.finish(self.closing, keep=self.count > 0 or self._has_records)

    def abort(self) -> None:
        """Finish with the records written so far. If there are none, an existing file stays unchanged."""
        if not self._closed:
            self._closed = True
            self.is_finished = self._target.abort(self.closing, keep=self.count > 0)
