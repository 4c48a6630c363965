"""Lists of sources in a CSV file, in the column ``source``: `CsvList`."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError
from yoloship.sources.lists import Line, SourceList, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMN: Final = "source"
_DELIMITERS: Final = (",", ";", "\t")


class CsvList(SourceList):
    """The sources in the column ``source`` of some CSV files. Other columns are not read."""

    help = "CSV files with a column 'source'; other columns are not read."

    @staticmethod
    def lines(path: str) -> Iterable[Line]:
        """The cells of the column that are not empty.

        Raises:
            InputError: there is no such column, or a row cannot be read.
        """
        texts = text_lines(path)
        _, heading = next(texts, (1, ""))
        for delimiter in _DELIMITERS:
            names = next(csv.reader([heading], delimiter=delimiter), [])
            if COLUMN in (cleaned := [name.strip().lower() for name in names]):
                break
        else:
            raise InputError(
                f"has no column {COLUMN!r}", subject=path, got=heading.strip()[:80] or "an empty first line",
                hint=f"write {COLUMN} into the first line; or name the file .txt, and give one image per line",
            )  # fmt: skip
        column = cleaned.index(COLUMN)
        reader = csv.reader((text for _, text in texts), delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if len(row) > column and (text := row[column].strip()):
                    yield Line(reader.line_num + 1, text)
        except csv.Error as error:
            raise InputError(
                f"cannot be read as CSV: {error}", subject=f"{path}, line {reader.line_num + 1}"
            ) from error
