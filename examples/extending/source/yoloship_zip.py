"""A source for yoloship: the images in a zip archive, without unpacking it.

yoloship detect best.pt zip:photos.zip
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from yoloship import InputError
from yoloship.sources import IMAGE_SUFFIXES, Frame, Source, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self


class ZipImages(Source):
    """The images of one archive, in the order of their names."""

    help = "The images in a zip archive."

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        names = (name for name in archive.namelist() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)
        self._names = sorted(names)

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions) -> Self:
        """Open the archive that stands behind ``zip:``."""
        del options  # an archive has no folders that could be left out
        if len(texts) != 1:
            raise InputError("give one archive", subject="zip", got=", ".join(texts))
        try:
            return cls(ZipFile(texts[0]))
        except (OSError, BadZipFile) as error:
            raise InputError("is not a zip archive that can be read", subject=texts[0]) from error

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self._names)

    def __iter__(self) -> Iterator[Frame]:
        """Give the bytes of one image after the other: the detector decodes them, within its limits."""
        for index, name in enumerate(self._names):
            yield Frame(index, name, self._archive.read(name))

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()
