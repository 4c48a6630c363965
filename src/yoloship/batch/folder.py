"""The folder of a batch, on this machine or in an object store: whole files by their names."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.folder_lock import FolderLock
from yoloship._util.writing import PART_PATTERN, made_folder, remove_stale, write_bytes, write_error
from yoloship.batch import buckets
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

LOCK: Final = "batch"
_OURS: Final = re.compile(rf"{PART_PATTERN}|\.yoloship-{LOCK}\.lock")


class Folder(ABC):
    """A folder of files that are whole or absent.

    Attributes:
        location: Its absolute path, or its address: every process of the run finds it by this.
        subject: What messages call it.
    """

    location: str
    subject: str

    @abstractmethod
    def make(self) -> None:
        """Make it, if it does not exist.

        Raises:
            OutputError: it cannot be made.
        """

    @abstractmethod
    def lock(self) -> AbstractContextManager[object]:
        """Keep other runs on this machine out until the block ends; an object store has no locks.

        Raises:
            OutputError: another run is in it.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """The names in it; empty if it does not exist.

        Raises:
            OutputError: it cannot be listed.
        """

    @abstractmethod
    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """The bytes of a file; None if there is none.

        Raises:
            OutputError: it cannot be read, or is longer than the limit.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it, as a whole.

        Raises:
            OutputError: it cannot be written. The file is as it was before.
        """

    def name_of(self, name: str) -> str:
        """What messages call a file in it."""
        return f"{self.subject.rstrip('/')}/{name}"


class LocalFolder(Folder):
    """A folder in the file system.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.location, self.subject = os.fspath(self._path), os.fspath(path)

    def make(self) -> None:
        """Make it, with the folders above it."""
        made_folder(self._path)

    def lock(self) -> FolderLock:
        """Lock it, and remove what killed processes left in it."""
        lock = FolderLock(self._path, LOCK)
        remove_stale(self._path)
        return lock

    def names(self) -> list[str]:
        """The names in it, but for locks and parts of files."""
        try:
            return [name for name in os.listdir(self._path) if not _OURS.fullmatch(name)]  # noqa: PTH208 - names alone
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise OutputError("is a file, not a folder", subject=self.subject, hint="give another folder") from error
        except OSError as error:
            raise write_error(error, Path(self.subject)) from error

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """Read a file."""
        try:
            with (self._path / name).open("rb") as file:
                data = file.read(limit_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot be read: {error.strerror or error}", subject=self.name_of(name)) from error
        if len(data) > limit_bytes:
            raise OutputError("is too large", subject=self.name_of(name), expected=f"at most {limit_bytes:,} bytes")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write beside the name, make it safe on the disk, and rename."""
        write_bytes(self._path / name, data)


class BucketFolder(Folder):
    """A folder in an object store.

    Args:
        text: Its address.
    """

    def __init__(self, text: str) -> None:
        address = buckets.parse(text)
        self.location, self.subject = address.name + address.query, address.name
        self._bucket, self._place = buckets.Bucket(address, writes=True), address.place

    def make(self) -> None:
        """See that the bucket exists: a store has no folders to make."""
        self._bucket.infos(self._place, recursive=False)

    def lock(self) -> AbstractContextManager[object]:
        """Do nothing."""
        from contextlib import nullcontext

        return nullcontext()

    def names(self) -> list[str]:
        """The names in it."""
        return [info.base_name for info in self._bucket.infos(self._place, recursive=False)]

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """Read a file."""
        return self._bucket.read(f"{self._place}/{name}", limit_bytes)

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one request, or in one upload that counts when it is complete."""
        self._bucket.write(f"{self._place}/{name}", data)


def open_folder(text: str) -> Folder:
    """The folder of a path or an address.

    Raises:
        InputError: the address is not valid.
        OutputError: the store cannot be used.
        DependencyError: a package for the store is missing.
    """
    if "://" in text and not os.path.lexists(text):
        return BucketFolder(text)
    return LocalFolder(Path(text))
