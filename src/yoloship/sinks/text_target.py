"""Where a `TextSink` writes: into a file that grows, into one that another run continues, or into a stream."""

from __future__ import annotations

import os
import shutil
from typing import IO, TYPE_CHECKING, Protocol

from yoloship._util.writing import (
    create_part,
    find_place,
    held,
    name_taken,
    part_of,
    publish,
    shortened,
    write_error,
    writing_errors,
)
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from yoloship._util.writing import Place


class TextTarget(Protocol):
    """The file or the stream that gets the text."""

    def append(self, record: bytes, closing: bytes) -> None:
        """Write a record; the closing text may be written after it already."""

    def flush(self) -> int:
        """Make all records safe on the disk, and return where the next one begins."""

    def finish(self, closing: bytes, *, keep: bool) -> bool:
        """Finish, and return whether everything was written. On failure, keep the records or remove everything."""

    def abort(self, closing: bytes, *, keep: bool) -> bool:
        """Finish early; without `keep` there is no record. Return whether the output is finished."""


class GrowingFile:
    """A file that is valid after every record, and gets its name at the end.

    Args:
        path: The name that it gets.
        place: Where that leads.
        part: Its name until then.
        file: The part, open for writing, and locked.
        overwrite: Whether a file of its name may be replaced.
    """

    def __init__(self, path: Path, place: Place, part: Path, file: IO[bytes], *, overwrite: bool) -> None:
        self._path, self._place, self._part, self._file = path, place, part, file
        self._overwrite = overwrite
        self._end = 0

    @classmethod
    def begin(cls, path: Path, place: Place, opening: bytes, closing: bytes, *, overwrite: bool) -> Self:
        """Make a new file.

        Raises:
            OutputError: the name is taken and may not be overwritten, or cannot be written.
        """
        if place.status is not None and not overwrite:
            raise name_taken(path)
        part = part_of(place)
        with writing_errors(path):
            file = os.fdopen(create_part(part, place.status), "wb", buffering=0)
            made = cls(path, place, part, file, overwrite=overwrite)
            try:
                made._start(opening, closing)
            except BaseException:
                made._discard()
                raise
        return made

    def _start(self, opening: bytes, closing: bytes) -> None:
        self._file.truncate(0)
        self._file.seek(0)
        _write(self._file, opening + closing)
        self._end = len(opening)

    def append(self, record: bytes, closing: bytes) -> None:
        """Write a record over the closing text, and that text after it.

        Raises:
            OutputError: it cannot be written; the file is then as it was before.
        """
        try:
            self._file.seek(self._end)
            _write(self._file, record + closing)
        except OSError as error:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            _write(self._file, closing)  # there was room for it a moment ago
            raise write_error(error, self._path) from error
        self._end += len(record)

    def flush(self) -> int:
        """Make all records safe on the disk, and return where the next one begins.

        Raises:
            OutputError: the disk refuses.
        """
        with writing_errors(self._path):
            os.fsync(self._file.fileno())
        return self._end

    def finish(self, closing: bytes, *, keep: bool) -> bool:  # noqa: ARG002 - it is in the file already
        """Give the file its name.

        Raises:
            OutputError: that fails. The part stays if it has records to keep, and the message names it.
        """
        try:
            with writing_errors(self._path):
                try:
                    os.fsync(self._file.fileno())
                finally:
                    self._file.close()
                publish(self._part, self._path, self._place, overwrite=self._overwrite)
        except OutputError as error:
            if not keep or not self._part.exists():
                self._discard()
                raise
            raise OutputError(
                error.problem, subject=error.subject, hint=f"the results are in {self._part}"
            ) from error.__cause__
        return True

    def abort(self, closing: bytes, *, keep: bool) -> bool:
        """Give the file its name if it has a record; else remove it."""
        if keep:
            return self.finish(closing, keep=True)
        self._discard()
        return False

    def _discard(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


class ResumedFile(GrowingFile):
    """A growing file whose part has a known name, stays if the run is stopped, and is continued by another run.

    The part of ``found.json`` is ``found.json.part``.
    """

    @classmethod
    def at(cls, path: Path, mark: int, opening: bytes, closing: bytes) -> Self:
        """Continue a file after its first bytes, or begin it.

        Args:
            path: The name that it gets.
            mark: How many bytes to keep, as `flush` returned them; 0 begins the file.
            opening: Text at the start of the file.
            closing: Text at the end of the file.

        Raises:
            OutputError: there are fewer bytes, another run is writing them, or the name is taken by another file.
        """
        place = find_place(path)
        if place.is_stream:
            raise OutputError("cannot be continued: it is a pipe or a device", subject=str(path), hint="name a file")
        if place.status is not None and not mark:
            raise name_taken(path)
        part = place.path.with_name(shortened(place.path.name, ".part"))
        file = held(part)
        made = cls(path, place, part, file, overwrite=mark > 0)
        try:
            with writing_errors(path):
                if mark:
                    made._cut(mark, closing)
                else:
                    made._start(opening, closing)
        except BaseException:
            file.close()
            raise
        return made

    def _cut(self, mark: int, closing: bytes) -> None:
        """Remove what follows the mark. If the file has its name already, work on a copy until it is whole again."""
        if os.fstat(self._file.fileno()).st_size < mark:  # no part, or a copy that was not finished
            there = self._place.status.st_size if self._place.status is not None else 0
            if there < mark:
                raise OutputError(
                    "was changed or removed since the run was stopped",
                    subject=str(self._path),
                    expected=f"at least {mark} bytes",
                    got=f"{there}",
                    hint="start over: remove the log and the outputs",
                )
            self._file.truncate(0)
            self._file.seek(0)
            with self._place.path.open("rb") as finished:
                shutil.copyfileobj(finished, self._file, 1 << 20)
            os.fsync(self._file.fileno())
        self._file.truncate(mark)
        self._file.seek(mark)
        _write(self._file, closing)
        self._end = mark

    def abort(self, closing: bytes, *, keep: bool) -> bool:  # noqa: ARG002 - it stays for the next run
        """Leave the part to the run that continues."""
        self._file.close()
        return False


class TextStream:
    """A stream that gets each record as it comes, and nothing more after it failed."""

    def __init__(self, send: Callable[[bytes], None], opening: bytes, end: Callable[[], None] | None = None) -> None:
        self._send, self._opening, self._end = send, opening, end
        self._broken = False

    def append(self, record: bytes, closing: bytes) -> None:  # noqa: ARG002 - it comes at the end
        """Pass a record on."""
        self._pass_on(record)

    def flush(self) -> int:
        """Do nothing: what was passed on is gone."""
        return 0

    def finish(self, closing: bytes, *, keep: bool) -> bool:  # noqa: ARG002 - nothing can be taken back
        """Pass on the closing text, and end."""
        try:
            if not self._broken:
                self._pass_on(closing)
        finally:
            if self._end is not None:
                self._end()
        return not self._broken

    def abort(self, closing: bytes, *, keep: bool) -> bool:
        """Finish, as what was passed on cannot be taken back; without a record, that is not a finished output."""
        return self.finish(closing, keep=keep) and keep

    def _pass_on(self, data: bytes) -> None:
        data, self._opening = self._opening + data, b""
        try:
            if data:
                self._send(data)
        except BaseException:
            self._broken = True
            raise


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all bytes, because an unbuffered file may take fewer at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
