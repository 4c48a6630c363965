"""What a run with a log has to do beside its work: leave out what is done, and note what was done."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.writing import name_key
from yoloship.errors import InputError, YoloshipError
from yoloship.job.log import digest
from yoloship.sources.source import Frame, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from yoloship.job.log import Facts, Log
    from yoloship.sinks.naming import RunNames
    from yoloship.sinks.sink import Entry, Sink
    from yoloship.sources import Source

COMMIT_S: Final = 1.0
"""Seconds between two lines of the log. A run that is killed loses the work since the last line."""
COMMIT_FRAMES: Final = 1024
"""Most frames of a line."""
_OF_FRAME: Final = re.compile(r"(.*)#([0-9]{1,9})", re.DOTALL)
_NUMBERED: Final = re.compile(r"#[0-9]*\Z")
"""How the id of a frame of a video ends. An image of such a name gets another ``#``."""


class Ledger:
    """Says which frames of a source are left, and notes in the log which are done.

    Args:
        log: The log, open; it is not closed here.
        source: Gives all frames, those that are done included.
        has_folders: Whether an output has a file for each image, named after it.

    Attributes:
        first_index: How many frames the runs before did; the next one has this place in the whole run.
        inputs: The files of the whole run, first those that are done; None if they are not known in advance.
        left: How many frames are left; None if that is not known in advance.
    """

    def __init__(self, log: Log, source: Source, *, has_folders: bool) -> None:
        self._log, self._source, self._has_folders = log, source, has_folders
        self._folder = os.path.abspath(log.path.parent)  # noqa: PTH100 - links stay
        self._folders: dict[str, str] = {}
        done = log.contents.done
        self.first_index = len(done)
        files = source.files
        self.inputs: Sequence[Path] | None = files
        self.left = None if files is None else len(files)
        self._skipped: frozenset[str] = frozenset()
        self._first_left = 0
        if files is not None and self._begins_with(files, done):
            self._first_left = len(done)
            self.left = len(files) - len(done)
        elif done:
            self._skipped = frozenset(done)
            if files is not None:
                self.inputs = self._in_order(files)
                self.left = len(self.inputs) - len(done)
        self._pending: list[str] = []
        self._failed = 0
        self._is_even = True
        self._committed_s = time.monotonic()
        self._names: RunNames | None = None

    @property
    def path(self) -> Path:
        """The log's file."""
        return self._log.path

    @property
    def has_begun(self) -> bool:
        """Whether a run before began the outputs, which may therefore be replaced."""
        return self._log.contents.facts is not None

    @property
    def failed(self) -> int:
        """How many frames failed, in all runs."""
        return self._log.contents.failed + self._failed

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do; False also if that is not known in advance."""
        return self._log.contents.has_ended and self.left == 0

    def begin(self, facts: Facts) -> None:
        """Begin the log, or say that the run goes on.

        Args:
            facts: What the run is; `Log.check` has accepted it.

        Raises:
            InputError: the files are not those of the runs before, and the names of outputs would be mixed up.
            OutputError: the log cannot be written.
        """
        order = "" if self.inputs is None else digest(self._id_of(path) for path in self.inputs)
        if self.inputs and self._log.contents.order not in {"", order} and self._has_folders:
            stems = {name_key(path.stem) for path in self.inputs}
            if len(stems) < len(self.inputs):
                raise InputError(
                    "images were added or removed since the run was started, and several have the same name",
                    subject=str(self._log.path),
                    hint="their outputs would be mixed up: run the new ones into a new folder",
                )
        self._log.begin(facts, order)

    def frames(self) -> Iterator[Frame]:
        """The frames that are left."""
        stream: Stream | None = None
        for place, frame in enumerate(self._source):
            if frame.stream is not stream and frame.stream is not None and self._names is not None:
                stream = frame.stream
                self._names.continue_stream(stream.name, self._id_of_stream(stream))
            if place >= self._first_left and (not self._skipped or self.id_of(frame) not in self._skipped):
                yield frame

    def give_names(self, names: RunNames) -> None:
        """Take the names of the files that the runs before wrote, so that no other image gets one of them."""
        self._names = names
        for name in self._log.contents.done:
            of_frame = _OF_FRAME.fullmatch(name)
            if of_frame is None:
                names.stem(name.removesuffix("#"))
            else:
                names.stem(name, Frame(int(of_frame[2]), name, None, stream=Stream(of_frame[1])))

    def mark(self, sink: str) -> int:
        """The place at which a sink goes on; 0 begins it."""
        return self._log.contents.marks.get(sink, 0)

    @contextmanager
    def noting(self, sinks: Mapping[str, Sink]) -> Iterator[None]:
        """Note what is done when the block ends. If an error ends it, that error is raised, and none of noting."""
        try:
            yield
        except BaseException:
            with suppress(YoloshipError):
                self._commit(sinks)
            raise
        self._commit(sinks)

    def begin_entry(self, index: int) -> int:
        """Begin an entry. Until `write`, the sinks do not all have it, and none of their marks is used.

        Args:
            index: Its place in this run.

        Returns:
            Its place in the whole run.
        """
        self._is_even = False
        return self.first_index + index

    def write(self, entry: Entry, sinks: Mapping[str, Sink]) -> None:
        """Note an entry that all sinks have taken; now and then, write to the log.

        Raises:
            OutputError: an output or the log cannot be made safe on the disk.
        """
        assert entry.frame is not None
        self._is_even = True
        self._pending.append(self.id_of(entry.frame))
        self._failed += entry.error is not None
        if len(self._pending) >= COMMIT_FRAMES or time.monotonic() - self._committed_s >= COMMIT_S:
            self._commit(sinks)

    def end(self) -> None:
        """Note that all outputs are finished."""
        self._log.end()

    def id_of(self, frame: Frame) -> str:
        """The name of a frame in the log: for a file, its path from the log's folder, so that both can be moved."""
        if frame.stream is not None:
            return f"{self._id_of_stream(frame.stream)}#{frame.index}"
        name = self._id_of(frame.image) if isinstance(frame.image, os.PathLike) else frame.name
        return f"{name}#" if _NUMBERED.search(name) else name

    def _id_of_stream(self, stream: Stream) -> str:
        return stream.name if stream.path is None else self._id_of(stream.path)

    def _commit(self, sinks: Mapping[str, Sink]) -> None:
        if self._is_even and self._pending:
            marks = {name: sink.flush() for name, sink in sinks.items()}
            self._log.add(self._pending, self._failed, marks)
            self._pending, self._failed = [], 0
        self._committed_s = time.monotonic()

    def _id_of(self, path: Path) -> str:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            whole = os.path.abspath(folder)  # noqa: PTH100 - links stay
            try:
                self._folders[folder] = os.path.relpath(whole, self._folder)
            except ValueError:  # another drive of Windows
                self._folders[folder] = whole
        return os.path.normpath(os.path.join(self._folders[folder], name))  # noqa: PTH118 - a text

    def _begins_with(self, files: Sequence[Path], done: Sequence[str]) -> bool:
        return len(done) <= len(files) and all(
            self._id_of(path) == one for path, one in zip(files[: len(done)], done, strict=True)
        )

    def _in_order(self, files: Sequence[Path]) -> Sequence[Path]:
        """The files of the runs before in their order, whether they are still there or not, and then the others."""
        of_id = {self._id_of(path): path for path in files}
        done = [of_id.pop(one) if one in of_id else Path(self._folder, one) for one in self._log.contents.done]
        return [*done, *of_id.values()]
