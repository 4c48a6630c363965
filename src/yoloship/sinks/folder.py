"""The folder of a sink that writes files of their own for each image: `OutputFolder`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._util.folder_lock import FolderLock
from yoloship._util.writing import made_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yoloship.sinks.sink import Entry


class OutputFolder:
    """A folder that is made for the first image, and that one run at a time writes into.

    Args:
        path: The folder.
        kind: What is written into it, for `FolderLock`.
        names: The file name for each image, by its index; None takes the stem of the entry, or numbers the files.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, kind: str, names: Sequence[str] | None = None) -> None:
        self.path = path
        self._kind, self._names = kind, names
        self._lock: FolderLock | None = None

    def ready(self) -> Path:
        """The folder, made and claimed for this run.

        Raises:
            OutputError: it cannot be made, or another run writes into it.
        """
        if self._lock is None:
            self._lock = FolderLock(made_folder(self.path), self._kind)
        return self.path

    def file(self, entry: Entry, suffix: str) -> Path:
        """The path for an image's file, in the folder, which is `ready` now.

        Raises:
            OutputError: see `ready`.
        """
        if self._names is not None:
            return self.ready() / self._names[entry.index]
        return self.ready() / f"{stem_for(entry)}{suffix}"

    def sync(self) -> None:
        """Make the names of its files safe on the disk, as their content is."""
        if self._lock is not None:
            sync_folder(self.path)

    def close(self) -> None:
        """Let other runs write into it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def stem_for(entry: Entry) -> str:
    """The stem for an image's files: that of the entry, or its place in the run, from 000001."""
    return entry.stem or f"{entry.index + 1:06}"
