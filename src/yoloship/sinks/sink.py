"""What every sink is: it takes one image's results after the other, and is closed at the end.

A `TextSink` appends to one file or stream. The file grows under another name beside its own: each record is written
over the format's closing text, together with a new one. It takes its own name when the sink is closed, also by an
interruption. If the process is killed, the file of the other name stays, and is valid too.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, ClassVar, Protocol

from yoloship._util.writing import (
    create_part,
    find_place,
    name_taken,
    open_stream,
    publish,
    shortened,
    write_error,
    writing_errors,
)
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship._util.writing import Place
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


class TextSink(Sink):
    """A sink whose format is an opening text, a record for each image, and a closing text.

    Attributes:
        opening: What the file begins with.
        separator: What stands between two records.
        closing: What the file ends with.
    """

    opening: ClassVar[bytes] = b""
    separator: ClassVar[bytes] = b""
    closing: ClassVar[bytes] = b""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._has_records = self._closed = False

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:  # noqa: ARG003
        """Write to a file, a named pipe or a device; see `Sink.open`."""
        place = find_place(path)
        if not place.is_stream:
            return cls(_GrowingFile(path, place, cls.opening, cls.closing, overwrite=overwrite))
        with writing_errors(path):
            stream = open_stream(place)

        def send(data: bytes) -> None:
            with writing_errors(path):
                stream.write(data)
                stream.flush()

        def end() -> None:
            with suppress(OSError):  # what could not be written cannot be flushed either
                stream.close()

        return cls(_Stream(send, cls.opening, end))

    @classmethod
    def to_stream(cls, send: Callable[[bytes], None]) -> Self:
        """Pass each record on as it comes; see `Sink.to_stream`."""
        return cls(_Stream(send, cls.opening))

    @abstractmethod
    def record(self, entry: Entry) -> bytes:
        """Write the text of one image; empty if this format has nothing to say about it."""

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
        if self._closed:
            return
        self._closed = True
        self.is_finished = self._target.finish(self.closing, keep=self.count > 0)

    def abort(self) -> None:
        """Finish with what there is. If that is nothing, what was there before stays."""
        if not self.count and not self._closed:
            self._closed = True
            self._target.discard(self.closing)
        else:
            self.close()


class _Target(Protocol):
    """Where the text goes."""

    def append(self, record: bytes, closing: bytes) -> None:
        """Write a record, behind which the closing text may stand already."""

    def finish(self, closing: bytes, *, keep: bool) -> bool:
        """Finish, and say whether everything arrived. If that fails, keep what there is or leave nothing."""

    def discard(self, closing: bytes) -> None:
        """End without any record."""


class _GrowingFile:
    """A file that is valid after every record, and has its name at the end."""

    def __init__(self, path: Path, place: Place, opening: bytes, closing: bytes, *, overwrite: bool) -> None:
        if place.status is not None and not overwrite:
            raise name_taken(path)
        self._path, self._place, self._overwrite = path, place, overwrite
        unique = f".{os.urandom(4).hex()}.part"
        self._part = place.path.with_name(shortened(place.path.name, unique))
        with writing_errors(path):
            self._file = os.fdopen(create_part(self._part, place.status), "wb", buffering=0)
            self._end = len(opening)
            try:
                _write(self._file, opening + closing)
            except BaseException:
                self.discard()
                raise

    def append(self, record: bytes, closing: bytes) -> None:
        try:
            self._file.seek(self._end)
            _write(self._file, record + closing)
        except OSError as error:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            _write(self._file, closing)  # there was room for it a moment ago
            raise write_error(error, self._path) from error
        self._end += len(record)

    def finish(self, closing: bytes, *, keep: bool) -> bool:  # noqa: ARG002 - it is in the file already
        try:
            with writing_errors(self._path):
                try:
                    os.fsync(self._file.fileno())
                finally:
                    self._file.close()
                publish(self._part, self._path, self._place, overwrite=self._overwrite)
        except OutputError as error:
            if not keep or not self._part.exists():
                self.discard()
                raise
            raise OutputError(
                error.problem, subject=error.subject, hint=f"the results are in {self._part}"
            ) from error.__cause__
        return True

    def discard(self, closing: bytes = b"") -> None:  # noqa: ARG002 - nothing stays
        self._file.close()
        self._part.unlink(missing_ok=True)


class _Stream:
    """A stream, which gets each record as it comes, and nothing more once it failed."""

    def __init__(self, send: Callable[[bytes], None], opening: bytes, end: Callable[[], None] | None = None) -> None:
        self._send, self._opening, self._end = send, opening, end
        self._broken = False

    def append(self, record: bytes, closing: bytes) -> None:  # noqa: ARG002 - it comes at the end
        self._pass_on(record)

    def finish(self, closing: bytes, *, keep: bool) -> bool:  # noqa: ARG002 - nothing can be taken back
        try:
            if not self._broken:
                self._pass_on(closing)
        finally:
            if self._end is not None:
                self._end()
        return not self._broken

    def discard(self, closing: bytes) -> None:
        self.finish(closing, keep=False)

    def _pass_on(self, data: bytes) -> None:
        data, self._opening = self._opening + data, b""
        try:
            if data:
                self._send(data)
        except BaseException:
            self._broken = True
            raise


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all of it: a file without a buffer may take less at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
