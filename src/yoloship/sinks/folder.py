"""The folder of a sink that writes files of their own for each image: `OutputFolder`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._util.folder_lock import FolderLock
from yoloship._util.outputs import identities
from yoloship._util.writing import made_folder, sync_folder
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
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
        self._inputs: Sequence[Path] = ()
        self._identities: Container[tuple[int, int]] | None = None

    def protect(self, inputs: Sequence[Path]) -> None:
        """Name files that `checked` refuses."""
        self._inputs, self._identities = inputs, None

    def checked(self, path: Path) -> Path:
        """A path that is going to be written, unless it leads to one of the protected files.

        Raises:
            OutputError: it does.
        """
        try:
            status = path.stat()
        except (OSError, ValueError):  # nothing is there, or whoever writes it says what is wrong
            return path
        if self._identities is None:
            self._identities = identities(self._inputs).keys()
        if (status.st_dev, status.st_ino) in self._identities:
            raise OutputError("would replace an input", subject=str(path), hint="give another folder")
        return path

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
            OutputError: see `ready` and `checked`.
        """
        name = f"{stem_for(entry)}{suffix}" if self._names is None else self._names[entry.index]
        return self.checked(self.ready() / name)

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
