"""A source for yoloship: the images in a table of an SQLite database.

yoloship detect best.pt sqlite:photos.db
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship import InputError
from yoloship.sources import Frame, Source, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self


class DatabaseImages(Source):
    """The column ``image`` of the table ``photos``, in the order of the column ``name``."""

    help = "The images in the table 'photos' of an SQLite database."

    def __init__(self, database: sqlite3.Connection, count: int) -> None:
        self._database, self._count = database, count

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions) -> Self:
        """Open the database that stands behind ``sqlite:``."""
        del options  # a table has no folders that could be left out
        if len(texts) != 1:
            raise InputError("give one database", subject="sqlite", got=", ".join(texts))
        try:
            database = sqlite3.connect(f"{Path(texts[0]).absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise InputError(f"cannot be opened: {error}", subject=texts[0]) from error
        try:
            ((count,),) = database.execute("SELECT count(*) FROM photos")
        except sqlite3.Error as error:
            database.close()
            raise InputError(f"has no images: {error}", subject=texts[0]) from error
        return cls(database, count)

    @property
    def count(self) -> int:
        """How many images there are."""
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        """Give the bytes of one image after the other: the detector decodes them, within its limits."""
        rows = self._database.execute("SELECT name, image FROM photos ORDER BY name")
        for index, (name, image) in enumerate(rows):
            yield Frame(index, str(name), bytes(image))

    def close(self) -> None:
        """Close the database."""
        self._database.close()
