"""Writing files so that nothing half-written is ever left under the final name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a sibling of `path` for writing; on success it takes the name, on any failure it is gone.

    Args:
        path: The final name. Its folder must exist.
        overwrite: Whether a file that bears the name already may be replaced.

    Yields:
        A binary file, open for writing.

    Raises:
        OutputError: the name is taken and may not be overwritten, the folder is missing or not writable, or the
            disk is full.
    """
    if path.is_dir():
        raise OutputError("is a folder, not a file", subject=str(path), hint="give a file name")
    if not overwrite and path.exists():
        raise taken(path)
    sibling = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}.part")
    try:
        with sibling.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            sibling.replace(path)
        else:
            _publish_new(sibling, path)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            subject=str(path),
            hint="free some space" if error.errno == 28 else "check the folder and its permissions",
        ) from error
    finally:
        sibling.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write a whole file; see `replacing` for what is promised and raised."""
    with replacing(path, overwrite=overwrite) as file:
        file.write(data)


def taken(path: Path) -> OutputError:
    """The error for an output name that exists and may not be overwritten."""
    return OutputError("exists already", subject=str(path), hint="give another name, or --overwrite")


def _publish_new(sibling: Path, path: Path) -> None:
    """Give the finished sibling its name unless someone took it meanwhile."""
    try:
        os.link(sibling, path)
    except FileExistsError as error:
        raise taken(path) from error
    except OSError:  # a file system without hard links: the check before the write is all there is
        if path.exists():
            raise taken(path) from None
        sibling.replace(path)
