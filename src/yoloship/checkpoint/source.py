"""The checkpoint's bytes: mapped, not read, and named by their SHA-256."""

from __future__ import annotations

import hashlib
import mmap
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from yoloship.errors import CheckpointError

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """A file's bytes.

    The file is mapped, and stays so until the last record or array that refers to it has gone: a checkpoint costs
    address space, and memory only for what is read. While it is mapped, Windows does not let the file be deleted, and
    a program that shortens the file in place takes its readers down with it; writing a new file and renaming it, as
    torch and this project do, is safe. The mapping is read only, so threads and forked processes may share it.

    Attributes:
        name: For messages: the file's name, or ``checkpoint`` for bytes.
        data: The bytes.
        sha256: Of them, lower-case hex.
    """

    name: str
    data: bytes | mmap.mmap
    sha256: str


def open_source(source: str | Path | bytes) -> Source:
    """Map a file, or take bytes as they are.

    Raises:
        CheckpointError: the file is not there, or cannot be read.
    """
    if isinstance(source, bytes):
        return Source("checkpoint", source, hashlib.sha256(source).hexdigest())
    path = Path(source)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError("is a folder, not a checkpoint", subject=path.name, hint="give the .pt inside")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError("is no regular file", subject=path.name, hint="copy it to one")
        with path.open("rb", buffering=0) as file:
            digest = _digest(file)
            return Source(path.name, _mapped(file), digest)
    except FileNotFoundError as error:
        raise CheckpointError("no such file", subject=str(path), hint="check the path") from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}", subject=str(path)) from error
    except ValueError as error:  # a path with a null character
        raise CheckpointError("is no usable path", subject=repr(str(path))[:80]) from error


def _digest(file: BinaryIO) -> str:
    """By chunks rather than over the mapping, so that hashing a large file takes no memory that counts as ours."""
    digest = hashlib.sha256()
    chunk = bytearray(_CHUNK_BYTES)
    view = memoryview(chunk)
    while count := file.readinto(chunk):  # type: ignore[attr-defined]  # BinaryIO lacks it, raw files have it
        digest.update(view[:count])
    return digest.hexdigest()


def _mapped(file: BinaryIO) -> bytes | mmap.mmap:
    if file.seek(0, 2) == 0:
        return b""  # an empty file cannot be mapped
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:  # some network file systems map nothing
        file.seek(0)
        return file.read()
