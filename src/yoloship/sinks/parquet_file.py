"""Results as a Parquet table with one row for each detection, for pandas, DuckDB, Spark and the like.

An image without detections, and one that failed, has a row too, whose class is null: no image is missing. The columns
are always the same. What a model does not give is null.

The file is written in groups of rows, so that memory does not grow with the run. Its index comes last, so a run whose
process is killed or whose disk is full leaves no file; JSON Lines loses nothing then.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.writing import (
    create_part,
    find_place,
    name_taken,
    part_of,
    publish,
    writing_errors,
)
from yoloship.errors import DependencyError, OutputError, visible
from yoloship.sinks.records import origin_of
from yoloship.sinks.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from yoloship._util.writing import Place
    from yoloship.sinks.sink import Entry

GROUP_ROWS: Final = 10_000
"""Rows that are kept in memory before they are written as one group."""
HINT: Final = "pip install 'yoloship[parquet]'"


class ParquetFile(Sink):
    """A Parquet file that gets its name when it is whole.

    Args:
        path: The file.
        place: Where its name leads.
        overwrite: Whether a file of that name may be replaced.
    """

    option = ("--parquet",)
    help = "Write a Parquet table with a row for each object; needs the extra parquet."
    suffix = ".parquet"

    def __init__(self, path: Path, place: Place, *, overwrite: bool) -> None:
        arrow = parquet_library()
        self._path, self._place, self._overwrite = path, place, overwrite
        self._schema = row_schema(arrow)
        self._rows: list[dict[str, Any]] = []
        self._closed = False
        self._part = part_of(place)
        with writing_errors(path):
            self._file = os.fdopen(create_part(self._part, place.status), "wb")
        self._writer = arrow.parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False, inputs: Sequence[Path] | None = None) -> Self:  # noqa: ARG003
        """Write a file. `Sink.open` explains the arguments.

        Raises:
            DependencyError: pyarrow is not installed.
            OutputError: the file exists and may not be replaced, cannot be written, or is a pipe.
        """
        place = find_place(path)
        if place.is_stream:
            raise OutputError("is not a regular file, which Parquet needs", subject=str(path), hint="give a file name")
        if place.status is not None and not overwrite:
            raise name_taken(path)
        return cls(path, place, overwrite=overwrite)

    def write(self, entry: Entry) -> None:
        """Add the rows of an image; they are on disk when the file is closed.

        Raises:
            OutputError: a group of rows cannot be written; the file is then given up.
        """
        self._rows += rows_of(entry)
        self.count += 1
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Write the rest, and give the file its name. It may be called twice.

        Raises:
            OutputError: it cannot be written. No file is left then.
        """
        if self._closed:
            return
        self._write_group()
        self._closed = True
        try:
            with writing_errors(self._path):
                self._writer.close()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                publish(self._part, self._path, self._place, overwrite=self._overwrite)
        except BaseException:
            self._give_up()
            raise
        self.is_finished = True

    def abort(self) -> None:
        """Finish with the rows so far. If there are none, an existing file stays unchanged."""
        if self.count or self._closed:
            self.close()
        else:
            self._give_up()

    def _write_group(self) -> None:
        if not self._rows or self._closed:
            return
        table = parquet_library().Table.from_pylist(self._rows, schema=self._schema)
        self._rows = []
        try:
            with writing_errors(self._path):
                self._writer.write_table(table, row_group_size=GROUP_ROWS)
                self._file.flush()
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        from pyarrow import ArrowException

        self._closed = True
        for end in (self._writer.close, self._file.close):  # what could not be written cannot be finished either
            with suppress(OSError, ValueError, ArrowException):
                end()
        self._part.unlink(missing_ok=True)


def rows_of(entry: Entry) -> list[dict[str, Any]]:
    """The rows of an image: one for each object or class, or one with the size and the error alone."""
    height, width = (None, None) if entry.result is None else entry.result.image_hw
    error = None if entry.error is None else str(entry.error)
    place = _visible({**asdict(origin_of(entry)), "width": width, "height": height, "error": error})
    answers = [] if entry.result is None else entry.result.answers()
    return [{**place, **_columns(answer.to_dict())} for answer in answers] or [place]


def _columns(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer with a column for each side of its box."""
    corners = zip(("x1", "y1", "x2", "y2"), answer.pop("box_xyxy", ()), strict=False)
    return {**_visible(answer), **dict(corners)}


def _visible(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with texts that are valid UTF-8 and steer no terminal."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in row.items()}


def parquet_library() -> Any:
    """The package pyarrow, with its module for Parquet.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyError("pyarrow is not installed", subject="--parquet", hint=HINT) from error
    return pa


def row_schema(arrow: Any) -> Any:
    """The columns of every table; `arrow` is the package."""
    number, text = arrow.float32(), arrow.string()
    return arrow.schema(
        [
            ("input", text), ("index", arrow.int64()), ("time_s", arrow.float64()), ("stream", text),
            ("width", arrow.int32()), ("height", arrow.int32()),
            ("class_id", arrow.int32()), ("class_name", text), ("score", number),
            *((corner, number) for corner in ("x1", "y1", "x2", "y2")),
            ("track_id", arrow.int32()),
            ("polygons", arrow.list_(arrow.list_(number))), ("keypoints", arrow.list_(arrow.list_(number))),
            ("box_xywhr", arrow.list_(number)), ("corners_xy", arrow.list_(arrow.list_(number))),
            ("error", text),
        ]
    )  # fmt: skip
