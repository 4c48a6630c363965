"""Lets one process at a time write files of one kind into a folder: `FolderLock`."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship._util.writing import held

if TYPE_CHECKING:
    from pathlib import Path


class FolderLock(Closing):
    """Holds a hidden, empty file in a folder as long as it is open; the lock ends with the process, even a killed one.

    Args:
        folder: It must exist.
        kind: What is written, in letters that a file name may have. Locks of different kinds do not hinder each other.

    Raises:
        OutputError: another run holds it, or the file cannot be made.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._path = folder / f".yoloship-{kind}.lock"
        self._file: IO[bytes] | None = held(self._path, folder)

    def close(self) -> None:
        """Let others write."""
        if self._file is not None:
            with suppress(OSError):  # Windows removes no open file; it may stay
                self._path.unlink()
            self._file.close()
            self._file = None
