"""One process at a time: a file that the operating system locks.

The lock ends with its holder, even one that was killed, so it never goes stale. Where a file system knows no locks,
everybody gets in.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from yoloship.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_S = 0.02


def lock_path(path: Path) -> Path:
    """The lock of whoever writes a file: hidden beside it, under a name that is short however long the file's is."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}.lock")


@contextmanager
def locked(path: Path, *, subject: str | None = None, waiting: Callable[[float], None] | None = None) -> Iterator[None]:
    """Hold the lock of that name; wait for whoever holds it.

    Args:
        path: The lock file: made, and removed when the lock is given back.
        subject: What is locked, for messages; None takes the lock file.
        waiting: Told some times a second for how long, in seconds, another holder has been waited for. What it
            raises ends the waiting and comes out of here.

    Raises:
        OutputError: the file cannot be made.
    """
    started_s = time.monotonic()
    while True:
        try:
            file = path.open("a+b")
        except OSError as error:
            raise OutputError(
                f"cannot be locked: {error.strerror or error}",
                subject=subject or str(path),
                hint="check the folder and its permissions",
            ) from error
        with file:
            while not _try_lock(file):
                if waiting is not None:
                    waiting(time.monotonic() - started_s)
                time.sleep(_POLL_S)
            if not _bears(path, file):  # its holder removed it while we waited; others lock the next file of that name
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file; it may stay
                    path.unlink()
                _unlock(file)
            return


def _bears(path: Path, file: IO[bytes]) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return True  # no locks on this file system: see above
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # no locks on this file system: see above
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
