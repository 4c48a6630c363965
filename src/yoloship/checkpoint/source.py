"""The checkpoint's bytes: mapped, not read, and named by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yoloship._util.reading import open_regular
from yoloship.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from yoloship.checkpoint.limits import Limits

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """A file's bytes.

    The file is mapped, and stays so until the last record or array that refers to it has gone: a checkpoint costs
    address space, and memory only for what is read. While it is mapped, Windows does not let the file be deleted, and
    a program that shortens the file in place takes its readers down with it; writing a new file and renaming it, as
    this project does, is safe. The mapping is read only, so threads and forked processes may share it.

    Attributes:
        name: For messages: the file's name, or ``checkpoint`` for bytes.
        data: The bytes.
    """

    name: str
    data: bytes | mmap.mmap
    _file: FileIO | None

    def sha256(self) -> str:
        """Of the bytes, lower-case hex.

        Files are read by chunks rather than over the mapping, so that hashing takes no memory that counts as ours.
        """
        if self._file is None:
            return hashlib.sha256(self.data).hexdigest()
        digest = hashlib.sha256()
        chunk = bytearray(_CHUNK_BYTES)
        view = memoryview(chunk)
        self._file.seek(0)
        while count := self._file.readinto(chunk):
            digest.update(view[:count])
        return digest.hexdigest()


@contextmanager
def open_source(source: str | Path | bytes, limits: Limits) -> Iterator[Source]:
    """Map a file, or take bytes as they are. The file is closed afterwards, the mapping is not.

    Raises:
        CheckpointError: the file is not there, is too large, or cannot be read.
    """
    if isinstance(source, bytes):
        yield Source("checkpoint", source, None)
        return
    path = Path(source)
    with open_regular(path, error=CheckpointError, wanted="a checkpoint", limit_bytes=limits.file_bytes) as file:
        yield Source(path.name, _mapped(file), file)


def _mapped(file: FileIO) -> bytes | mmap.mmap:
    if file.seek(0, 2) == 0:
        return b""  # an empty file cannot be mapped
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno != errno.ENODEV:  # some network file systems map nothing
            raise
        file.seek(0)
        return file.readall()
