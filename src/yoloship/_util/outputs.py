"""The names of all files that one command will write, settled before it does any work.

Every output path of every command goes through `Outputs.claim`, which is told all inputs. So one place decides what
``--overwrite`` may replace: a regular file that is neither an input nor a training's checkpoint, and nothing else.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from yoloship._util.writing import Place, find_place, name_key, name_taken, remove_stale, write_error
from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_Identity: TypeAlias = tuple[int, int]
"""Device and inode: the same file through links, hard links and names in other letters."""


class Outputs:
    """What a command may write.

    Args:
        inputs: Files that the command reads.
        overwrite: Whether files that exist may be replaced, if they are not inputs.
        more_inputs: Given an output that exists, finds further inputs that it could be: those that take time to find.
        is_checkpoint: Whether a file that exists is one. No command writes any, so none ever has to be replaced.
    """

    def __init__(
        self,
        inputs: Iterable[Path],
        *,
        overwrite: bool,
        more_inputs: Callable[[Place], Iterable[Path]] | None = None,
        is_checkpoint: Callable[[Path], bool] | None = None,
    ) -> None:
        self.overwrite = overwrite
        self._inputs = inputs
        self._more_inputs = more_inputs
        self._is_checkpoint = is_checkpoint
        self._identities: dict[_Identity, Path] | None = None
        self._claimed: set[str] = set()
        self._swept: set[str] = set()

    def claim(self, path: Path, *, streams: bool = True, replaces: bool = False) -> None:
        """Settle that a file will be written.

        Args:
            path: Its name. What a link leads to counts.
            streams: Whether it may be a pipe, a terminal or an open descriptor. They are written to, not replaced.
            replaces: Whether this output updates the file that is there, whatever `overwrite` says.

        Raises:
            OutputError: it is an input, a checkpoint, a folder, a device, an output of the same command, or exists and
                may not be overwritten; or its folder does not exist or cannot be written.
        """
        place = find_place(path)
        if place.status is not None:
            identity = (place.status.st_dev, place.status.st_ino)
            if self._identities is None:
                self._identities = identities(self._inputs)
            source = self._identities.get(identity)
            if source is None and self._more_inputs is not None:
                source = identities(self._more_inputs(place)).get(identity)
            if source is not None:
                got = None if source == path else str(source)
                raise OutputError("would replace an input", subject=str(path), got=got, hint="give another name")
        if place.is_stream:
            if not streams:
                raise OutputError("is not a regular file, which this output needs", subject=str(path))
        elif place.status is not None and not (self.overwrite or replaces):
            raise name_taken(path)
        else:
            if place.status is not None and self._is_checkpoint is not None and self._is_checkpoint(place.path):
                raise OutputError(
                    "would replace a checkpoint or another zip archive", subject=str(path), hint="give another name"
                )
            folder = place.path.parent
            if not os.path.isdir(folder):  # noqa: PTH112 - never raises
                raise OutputError("folder does not exist", subject=str(folder), hint="make it first")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise OutputError("cannot be written: no permission to write in its folder", subject=str(path))
            self._sweep(folder)
        self._refuse_twice(path, place)

    def claim_inside(self, folder: Path, names: Iterable[str]) -> None:
        """`claim` many files of one folder, which need not exist yet; fast if they are new.

        Raises:
            OutputError: see `claim`; or the folder is a file.
        """
        try:
            existing = {name_key(name) for name in os.listdir(folder)}  # noqa: PTH208 - names alone
        except FileNotFoundError:
            existing = set()
        except NotADirectoryError as error:
            raise OutputError("is a file, not a folder", subject=str(folder), hint="give another folder") from error
        except (OSError, ValueError) as error:
            raise write_error(error, folder) from error
        if existing:
            self._sweep(folder)
        for name in names:
            if name_key(name) in existing:
                self.claim(folder / name, streams=False)
            else:
                self._refuse_twice(folder / name, Place(folder / name, None))

    def _refuse_twice(self, path: Path, place: Place) -> None:
        if place.status is not None and stat.S_ISCHR(place.status.st_mode):  # a terminal or /dev/null takes anything
            return
        folder = os.path.realpath(place.path.parent)
        key = f"{name_key(folder)}{os.sep}{name_key(place.path.name)}"
        if key in self._claimed:
            raise OutputError("is used for two outputs", subject=str(path), hint="give each its own name")
        self._claimed.add(key)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed processes left in a folder, once."""
        if (key := os.fspath(folder)) not in self._swept:
            self._swept.add(key)
            remove_stale(folder)


def identities(files: Iterable[Path]) -> dict[tuple[int, int], Path]:
    """Which files are behind some names: device and inode → the first name. Names of nothing are left out."""
    found: dict[_Identity, Path] = {}
    for file in files:
        with suppress(OSError, ValueError):  # whoever reads it says what is wrong with it
            status = file.stat()
            found.setdefault((status.st_dev, status.st_ino), file)
    return found
