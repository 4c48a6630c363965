"""Folders that appear whole or not at all: `building` makes one aside, and `publish` gives it its name."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from yoloship._util.writing import sync_folder, write_error
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

CONFIG: Final = "config.pbtxt"
STALE_AFTER_S: Final = 24 * 3600.0


def check_places(repository: Path, names: Sequence[str], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse a repository whose models cannot be written, before any work.

    Args:
        repository: The folder of all models; it need not exist.
        names: Of the models to be written.
        inputs: Files that are read; none of them may lie in a folder that is replaced.
        overwrite: Whether a model that is there may be replaced. Only a folder with a ``config.pbtxt`` is a model.

    Raises:
        OutputError: a name is taken, or the folder cannot be written.
    """
    parent = repository.absolute().parent
    if not parent.is_dir():
        raise OutputError("folder does not exist", subject=str(parent), hint="make it first")
    if os.path.lexists(repository) and not repository.is_dir():
        raise OutputError("is a file, not a folder", subject=str(repository), hint="give another name")
    for name in names:
        folder = repository / name
        if not os.path.lexists(folder):
            continue
        if not overwrite:
            raise OutputError("already exists", subject=str(folder), hint="--overwrite replaces this model")
        if folder.is_symlink() or not (folder / CONFIG).is_file():
            raise OutputError(
                "is not the folder of a model, so it is not replaced", subject=str(folder),
                expected=f"a folder with {CONFIG}", hint="give another name: NAME=MODEL",
            )  # fmt: skip
        real = folder.resolve()
        if inside := next((path for path in inputs if path.resolve().is_relative_to(real)), None):
            raise OutputError("would replace an input", subject=str(folder), got=str(inside), hint="give another name")


@contextmanager
def building(repository: Path) -> Iterator[Path]:
    """An empty folder beside a repository, on the same file system, which is removed at the end.

    Raises:
        OutputError: it cannot be made or written.
    """
    parent = repository.absolute().parent
    _sweep(parent, repository.name)
    part = parent / f".{repository.name}.{os.urandom(6).hex()}.part"
    try:
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise write_error(error, repository) from error


def publish(part: Path, repository: Path, names: Sequence[str]) -> None:
    """Give finished models their names. A model that is replaced goes only when its successor is complete.

    Args:
        part: From `building`; it has a folder for each name.
        repository: The folder of all models; it is made if it does not exist.
        names: Of the models.

    Raises:
        OutputError: a folder cannot be renamed, or appeared meanwhile.
    """
    try:
        repository.mkdir(exist_ok=True)
        for name in names:
            folder, old = repository / name, part / f".{name}.old"
            with suppress(FileNotFoundError):
                folder.rename(old)
            try:
                (part / name).rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
        sync_folder(repository)
    except OSError as error:
        raise write_error(error, repository) from error


def _sweep(parent: Path, name: str) -> None:
    """Remove what runs left that were killed a day ago or earlier."""
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\.part")
    with suppress(OSError):
        for entry in parent.iterdir():
            if pattern.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(entry, ignore_errors=True)
