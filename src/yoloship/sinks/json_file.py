"""Results as one JSON list that is on disk as they come, and valid however the run ends.

A file grows under another name beside its own: each record is written over the bracket that closes the list, together
with a new bracket. Its own name is given to it when it is closed, also by an interruption. If the process is killed,
the file of the other name stays, and is valid too.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from yoloship._util.writing import (
    create_part,
    find_place,
    open_stream,
    publish,
    shortened,
    taken,
    write_error,
    writing_errors,
)
from yoloship.errors import OutputError, visible_json
from yoloship.sinks.base import Entry, Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from yoloship.results.detections import Detections


def json_bytes(results: Iterable[tuple[str, Detections]]) -> bytes:
    """The JSON document for some images that are in memory; `open_json` writes any number.

    Args:
        results: The path as the user gave it, and what was found there.

    Returns:
        UTF-8: a list of records, see `json_record`, one on each line.
    """
    lines = (json_record(Entry(image, found)) for image, found in results)
    return b"[" + b",\n ".join(lines) + b"]\n"


def json_record(entry: Entry) -> bytes:
    """The JSON of one image, on one line without its end.

    Returns:
        UTF-8: ``{"image", "width", "height", "detections": [{"class_id", "class_name", "score", "box_xyxy"}]}``, and
        ``annotated`` if there is such an image, and ``error`` if something failed. Without detections, because the
        image itself failed: ``{"image", "error"}``. Scores and boxes are the float32 values in their shortest decimal
        form. Characters that could steer a terminal are escaped.
    """
    record: dict[str, Any] = {"image": entry.image}
    if entry.found is not None:
        record |= _found(entry.found)
    if entry.annotated is not None:
        record["annotated"] = str(entry.annotated)
    if entry.error is not None:
        record["error"] = str(entry.error)
    return visible_json(json.dumps(record, ensure_ascii=False)).encode()


def _found(found: Detections) -> dict[str, Any]:
    data = found.to_dict()
    for detection in data["detections"]:
        detection["score"] = _shortest(detection["score"])
        detection["box_xyxy"] = [_shortest(value) for value in detection["box_xyxy"]]
    return data


def _shortest(value: float) -> float | None:
    """The shortest decimal that reads back as the same float32: 0.9 rather than 0.8999999761581421.

    JSON has no infinity and no NaN; they become null.
    """
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else None


_CLOSING = b"]\n"


def open_json(path: Path, *, overwrite: bool) -> JsonFile | JsonStream:
    """The sink for a JSON file, a pipe, a terminal or an open descriptor.

    Raises:
        OutputError: the name is taken and may not be overwritten, or cannot be written.
    """
    place = find_place(path)
    if not place.is_stream:
        return JsonFile(path, overwrite=overwrite)
    with writing_errors(path):
        stream = open_stream(place)

    def send(data: bytes) -> None:
        with writing_errors(path):
            stream.write(data)
            stream.flush()

    def end() -> None:
        with suppress(OSError):  # what could not be written cannot be flushed either
            stream.close()

    return JsonStream(send, end)


class JsonFile(Sink):
    """A JSON file; see the module.

    Args:
        path: Its name. Its folder must exist.
        overwrite: Whether a file of that name may be replaced.

    Raises:
        OutputError: the name is taken and may not be overwritten, or the folder cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        place = find_place(path)
        if place.status is not None and not overwrite:
            raise taken(path)
        self.count = 0
        self.is_finished = False
        self._path, self._place, self._overwrite = path, place, overwrite
        unique = f".{os.urandom(4).hex()}.part"
        self._part = place.path.with_name(shortened(place.path.name, unique))
        with writing_errors(path):
            self._file = os.fdopen(create_part(self._part, place.status), "wb", buffering=0)
            self._end = 1
            try:
                _write(self._file, b"[" + _CLOSING)
            except BaseException:
                self.discard()
                raise

    def write(self, entry: Entry) -> None:
        """See `Sink.write`."""
        record = (b",\n " if self.count else b"") + json_record(entry)
        try:
            self._file.seek(self._end)
            _write(self._file, record + _CLOSING)
        except OSError as error:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            _write(self._file, _CLOSING)  # there was room for it a moment ago
            raise write_error(error, self._path) from error
        self._end += len(record)
        self.count += 1

    def close(self) -> None:
        """See `Sink.close`; closing twice is no error."""
        if self._file.closed:
            return
        try:
            with writing_errors(self._path):
                os.fsync(self._file.fileno())
                self._file.close()
                publish(self._part, self._path, self._place, overwrite=self._overwrite)
            self.is_finished = True
        except OutputError as error:
            if not self.count or not self._part.exists():
                self.discard()
                raise
            raise OutputError(
                error.problem, subject=error.subject, hint=f"the results are in {self._part}"
            ) from error.__cause__

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.count:  # nothing came of it: what was there before stays
            self.discard()
        else:
            self.close()


class JsonStream(Sink):
    """The same list in a stream, each record as it comes.

    Args:
        send: Takes bytes and passes them on at once; what it raises comes out of the methods.
        end: Called when it is closed.
    """

    def __init__(self, send: Callable[[bytes], None], end: Callable[[], None] | None = None) -> None:
        self.count = 0
        self.is_finished = False
        self._send, self._end = send, end
        self._broken = self._closed = False

    def write(self, entry: Entry) -> None:
        """See `Sink.write`."""
        self._pass_on((b",\n " if self.count else b"[") + json_record(entry))
        self.count += 1

    def close(self) -> None:
        """See `Sink.close`; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._broken:
                self._pass_on(_CLOSING if self.count else b"[" + _CLOSING)
                self.is_finished = True
        finally:
            if self._end is not None:
                self._end()

    def _pass_on(self, data: bytes) -> None:
        try:
            self._send(data)
        except BaseException:
            self._broken = True
            raise


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: a file without a buffer may take less at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
