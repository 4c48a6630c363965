"""Answers the images of parts, and writes the parts: `Worker`, in this process or in one of a cluster."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import Closing
from yoloship._util.threads import in_threads
from yoloship.batch import buckets
from yoloship.batch.folder import open_folder
from yoloship.batch.parts import Counts, Parts, part_bytes
from yoloship.errors import CudaError, DependencyError, InputError, YoloshipError
from yoloship.sinks.sink import Entry
from yoloship.sources.source import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Outcome

MAX_FILE_BYTES: Final = 1 << 30
_READERS: Final = 8
"""Files of an object store that are read at the same time: a request takes tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a batch must know; it travels to each of them.

    Attributes:
        folder: Where the parts go: an absolute path or an address.
        parts: How the images are divided.
        model: The model's name, for messages.
        base: The folder that relative paths of images begin at.
        queries: By bucket, how it is reached.
        load: Arguments of `yoloship.load`.
        changes: Options that differ from the model's own: attributes of `DetectOptions`.
        class_words: Values of ``--classes``; they are split when the class names are known.
    """

    folder: str
    parts: Parts
    model: str
    base: str
    queries: Mapping[str, str] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    class_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is to be done.

    Attributes:
        number: Which one.
        names: Its images, in order.
    """

    number: int
    names: Sequence[str]


class Worker(Closing):
    """A model that is loaded, and writes parts.

    Args:
        job: What the batch is.
        model: The model's file, or its bytes.
        workers: Cores to keep busy; None for the default.

    Raises:
        YoloshipError: the model cannot be loaded, or the folder cannot be opened.
    """

    def __init__(self, job: Job, model: str | Path | bytes, *, workers: int | None = None) -> None:
        from yoloship.detect.preprocess import FILE_CHANNELS, no_files
        from yoloship.models.loading import load

        self._job = job
        self._folder = open_folder(job.folder)
        self._buckets: dict[str, buckets.Bucket] = {}
        try:
            self._detector = load(model, tuned_for="throughput", workers=workers, **job.load)
        except YoloshipError as error:
            if error.subject == "model in memory":
                error.subject = job.model
            raise
        try:
            if self._detector.info.channels not in FILE_CHANNELS:
                raise no_files(self._detector.info.channels, job.model)
            self._options = self._chosen()
        except BaseException:
            self._detector.close()
            raise

    def _chosen(self) -> DetectOptions | None:
        from yoloship.detect.options import class_words
        from yoloship.tasks import task_of

        changes = dict(self._job.changes)
        if self._job.class_words:
            changes["classes"] = class_words(self._job.class_words, self._detector.class_names)
        task = task_of(self._detector.info, self._job.model)
        if changes and not task.has_boxes:
            raise InputError(f"is a {task.title}, which has no boxes to choose", subject=self._job.model,
                             hint="leave out --classes and --agnostic-nms")  # fmt: skip
        if not changes:
            return None
        options = replace(self._detector.options, **changes)
        if options.classes is not None:
            options.class_ids(self._detector.class_names)  # refuses names that the model does not have
        return options

    def write(self, parts: Iterable[Part]) -> Iterator[tuple[int, Counts]]:
        """Answer the images of parts, and write each part when its last image is answered.

        An image that cannot be read is a row with its error. What is not about one image ends the work.

        Yields:
            The number of each part that is written, and what is in it.

        Raises:
            YoloshipError: the store cannot be read, a package or the GPU is missing, or a part cannot be written.
        """
        waiting: deque[Part] = deque()
        entries: list[Entry] = []
        counts = Counts()
        outcomes = self._detector.stream(self._frames(parts, waiting), options=self._options)
        for outcome in outcomes:
            entry = _entry(outcome)
            entries.append(entry)
            counts.add(entry)
            part = waiting[0]
            if len(entries) == len(part.names):
                form = self._job.parts.form
                self._folder.write(self._job.parts.name(part.number), part_bytes(entries, counts, form))
                waiting.popleft()
                yield part.number, counts
                entries, counts = [], Counts()

    def close(self) -> None:
        """Release the model."""
        self._detector.close()

    def _frames(self, parts: Iterable[Part], waiting: deque[Part]) -> Iterator[Frame]:
        """The frames of all parts, one after the other; each part is waiting from its first frame on."""

        def named() -> Iterator[tuple[int, str]]:
            for part in parts:
                waiting.append(part)
                yield from enumerate(part.names, self._job.parts.first(part.number))

        def read(item: tuple[int, str]) -> Frame:
            return self._read(*item)

        if self._job.queries:  # images of object stores are read ahead; a local file is read with its decoding
            yield from in_threads(named(), read, threads=_READERS, ahead=2 * _READERS)
        else:
            yield from map(read, named())

    def _read(self, index: int, name: str) -> Frame:
        from pathlib import Path

        if not buckets.is_address(name):
            return Frame(index, name, Path(os.path.join(self._job.base, name)))  # noqa: PTH118 - a text
        address = buckets.parse(name)
        if address.bucket not in self._buckets:
            with_query = replace(address, query=self._job.queries.get(address.bucket, ""))
            self._buckets[address.bucket] = buckets.Bucket(with_query)
        data = self._buckets[address.bucket].read(address.place, MAX_FILE_BYTES)
        if data is None:
            return Frame(index, name, None, error=InputError("does not exist", subject=name))
        return Frame(index, name, data)


def _entry(outcome: Outcome) -> Entry:
    """The entry of an image, whose error is about its name.

    Raises:
        YoloshipError: the error is not about the image, so that all others would fail too.
    """
    frame, error = outcome.frame, outcome.error
    assert frame is not None
    if error is not None:
        if isinstance(error, CudaError | DependencyError):
            raise error
        error.subject = frame.name
    return Entry(frame.name, outcome.result, error, None, frame.index, None, frame)
