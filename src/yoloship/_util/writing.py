"""Writes a file completely or not at all, one process at a time. Links and streams are followed.

A regular file is written under a short random name beside its final place, and renamed when it is complete. If the name
is a link, the link stays and its target is replaced. A pipe, a terminal, ``/dev/null`` and the ``/dev/fd/N`` of a shell
are streams. They are written to, and nothing is ever renamed onto them.

A lock ends with the process that holds it, even if that was killed, so it never goes stale. If a file system has no
locks, no process waits for another.

Names and folders of several files are here too: `free_name`, `fresh_folder` and `made_folder`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import sys
import time
import unicodedata
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Final

from yoloship.errors import OutputError, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloship._util.text import OnProgress


_logger = logging.getLogger("yoloship.files")
READER_TIMEOUT_S: Final = 10.0
"""How long a named pipe may have no reader."""
STALE_AFTER_S: Final = 60.0
MAX_LINKS: Final = 40
MAX_NAME_BYTES: Final = 255

_POLL_S: Final = 0.05
PART_PATTERN: Final = r"\.[0-9a-f]{12}\.part"
"""Names of files that are not whole yet."""

_PART: Final = re.compile(PART_PATTERN)
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_DESCRIPTORS: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd|/dev/fd")
_FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG})
_HINTS: Final[Mapping[int | None, str]] = MappingProxyType(
    {
        None: "give another name",
        errno.ENAMETOOLONG: "give a shorter name",
        errno.EBADF: "it is not open",
        errno.ENOTEMPTY: "something else was put there meanwhile",
        errno.EPIPE: "its reader ended early",
        errno.ENXIO: "start its reader first",
        errno.EBUSY: "if it is mounted by itself, mount its folder instead",
    }
)
_WRITABLE: Final = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR})
WAITING = "waiting for another process"
_LOCK_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Place:
    """The place to which a name really leads.

    Attributes:
        path: The path after following all links. It need not exist.
        status: The status of the file there; None if there is none.
        descriptor: The number of an open descriptor of this process that the name stands for, as ``/dev/stdout`` does.
        is_stream: Whether it is written to directly, because it cannot be replaced: a pipe, a device, or an open
            descriptor, which may be one of another process.
    """

    path: Path
    status: os.stat_result | None
    descriptor: int | None = None
    is_stream: bool = False


def find_place(path: Path) -> Place:
    """Follow a name to where it leads.

    Raises:
        OutputError: nothing can be written there: it is a folder, a block device or a socket, a loop of links, or not a
            valid name.
    """
    real, match, status = os.fspath(path), None, None
    try:
        for _ in range(MAX_LINKS):
            folder, name = os.path.split(real)
            if _NUMBER.fullmatch(name) and (match := _DESCRIPTORS.fullmatch(os.path.realpath(folder))):
                break
            try:
                link = os.readlink(real)  # noqa: PTH115 - it may not be normalised
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.ENOENT}:
                    raise
                break  # not a link, or nothing
            real = os.path.join(folder, link)  # noqa: PTH118 - as above
        else:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with suppress(FileNotFoundError):
            status = os.stat(real)  # noqa: PTH116 - as above
    except (OSError, ValueError) as error:
        raise write_error(error, path) from error
    descriptor, mode = None, 0 if status is None else status.st_mode
    if match is not None:
        own = match[1] is None or int(match[1]) == os.getpid()
        descriptor = int(os.path.basename(real)) if own else None  # noqa: PTH119 - as above
    elif mode and stat.S_IFMT(mode) not in _WRITABLE:
        kind = "folder" if stat.S_ISDIR(mode) else "device" if stat.S_ISBLK(mode) else "socket"
        raise OutputError(f"is a {kind}, not a file", subject=str(path), hint="give a file name")
    return Place(Path(real), status, descriptor, match is not None or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file that becomes the file of that name on success, and is removed on any failure.

    Args:
        path: The final name. Its folder must exist.
        overwrite: Whether an existing file of that name may be replaced. Streams are written to in any case.

    Yields:
        A binary file, open for writing.

    Raises:
        OutputError: the name is taken and may not be overwritten, is one that cannot be written, the folder is missing
            or not writable, or the disk is full.
    """
    place = find_place(path)
    if not place.is_stream and not overwrite and place.status is not None:
        raise name_taken(path)
    sibling = place.path.with_name(f".{os.urandom(6).hex()}.part")  # as `PART_PATTERN` says
    try:
        if place.is_stream:
            with open_stream(place) as file:
                yield file
            return
        try:
            with os.fdopen(create_part(sibling, place.status), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            publish(sibling, path, place, overwrite=overwrite)
        finally:
            sibling.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, path) from error


def write_bytes(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write a file completely or not at all, with the promises and errors of `replacing`."""
    with replacing(path, overwrite=overwrite) as file:
        file.write(data)


def name_taken(path: Path) -> OutputError:
    """The error for an output name that exists and may not be overwritten."""
    return OutputError("already exists", subject=str(path), hint="give another name, or --overwrite")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of writing will also occur for every other file there."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    return isinstance(cause, OSError) and (cause.errno in _FULL or cause.errno == errno.EROFS)


def write_error(error: OSError | ValueError, path: Path) -> OutputError:
    """The error for a file that cannot be written: the system's reason and the next step. The caller chains it."""
    number = error.errno if isinstance(error, OSError) else None
    hint = "free some space" if number in _FULL else _HINTS.get(number, "check the folder and its permissions")
    said = error.strerror if isinstance(error, OSError) else "not a valid file name"
    return OutputError(f"cannot be written: {said or error}", subject=str(path), hint=hint)


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into an `OutputError` about this file."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def part_of(place: Place) -> Path:
    """A new name for the incomplete file of a place, in its folder: ``found.json.1a2b3c4d.part``."""
    return place.path.with_name(shortened(place.path.name, f".{os.urandom(4).hex()}.part"))


def create_part(path: Path, replaced: os.stat_result | None) -> int:
    """Create and lock an incomplete file.

    Args:
        path: Its name, which must be new.
        replaced: The status of the file that it will replace, for its permissions.

    Returns:
        An open descriptor. It holds the lock, which tells other processes that somebody writes.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        _try_lock(descriptor)
        if replaced is not None and hasattr(os, "fchmod"):
            with suppress(OSError):  # some file systems have no permissions
                os.fchmod(descriptor, stat.S_IMODE(replaced.st_mode) & 0o777)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor


def publish(part: Path, path: Path, place: Place, *, overwrite: bool) -> None:
    """Give a finished part its name.

    Raises:
        OutputError: meanwhile another process took the name, or put something there that may not be replaced.
    """
    if overwrite:
        with suppress(FileNotFoundError):  # nothing may be there either, behind all links as they were followed before
            if not stat.S_ISREG(place.path.lstat().st_mode):
                raise OutputError("was replaced by something else while it was being written", subject=str(path))
        part.replace(place.path)
        return
    try:
        os.link(part, place.path)
    except FileExistsError as error:
        raise name_taken(path) from error
    except OSError:  # a file system without hard links: the check before the write is all there is
        if place.path.exists():
            raise name_taken(path) from None
        part.replace(place.path)
    else:
        part.unlink()


def open_stream(place: Place) -> IO[bytes]:
    """Open a stream for writing: a descriptor of this process, a pipe with a reader, or a device like a terminal.

    Raises:
        OSError: it cannot be opened, or nobody reads from the pipe.
    """
    if place.descriptor is not None:
        for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        descriptor = os.dup(place.descriptor)
    else:
        descriptor = _stream_descriptor(place.path)
    return os.fdopen(descriptor, "wb")


def remove_stale(folder: Path, after_s: float = STALE_AFTER_S) -> int:
    """Remove parts that killed processes left in a folder. Parts that are still being written are locked, and stay.

    Args:
        folder: The folder.
        after_s: The age of a part from which it counts as left. One that was just made is not locked yet.

    Returns:
        How many were removed; 0 if the folder cannot be listed, or the system has no locks.
    """
    count = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and _is_stale(entry, after_s):
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - a name of `os.scandir`
                    count += 1
    return count


def shortened(stem: str, suffix: str, limit_bytes: int = MAX_NAME_BYTES) -> str:
    """``stem + suffix``, with a shorter stem if the whole name is too long for the file system."""
    room = limit_bytes - len(os.fsencode(suffix))
    while len(os.fsencode(stem)) > room and stem:
        stem = stem[:-1]
    return stem + suffix


def free_name(stem: str, suffix: str, taken: dict[str, int]) -> str:
    """Take the next free name: ``stem.txt``, or ``stem-2.txt``, ``stem-3.txt``, … if others have those names.

    Args:
        stem: The name without its suffix; a long one is shortened.
        suffix: The suffix with its dot.
        taken: By the `name_key` of each name that is taken, the last number that was added to it, 1 at first. The name
            that is taken now is added.
    """
    name = shortened(stem, suffix)
    base = name_key(name)
    while (key := name_key(name)) in taken:
        taken[base] += 1
        name = shortened(stem, f"-{taken[base]}{suffix}")
    taken[key] = 1
    return name


def fresh_folder(parent: Path, stem: str) -> Path:
    """Make a new folder: ``parent/stem``, or ``parent/stem-2``, … if others have those names.

    Raises:
        OutputError: it cannot be made.
    """
    folder = parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / (stem if number == 1 else f"{stem}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise _no_folder(error, folder) from error
    raise AssertionError("numbers do not end")


def made_folder(folder: Path) -> Path:
    """Make a folder if it does not exist, and return it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _no_folder(error, folder) from error
    return folder


def _no_folder(error: OSError | ValueError, folder: Path) -> OutputError:
    said = write_error(error, folder)
    problem = said.problem.replace("cannot be written", "folder cannot be created")
    return OutputError(problem, subject=str(folder), hint="give another folder")


def name_key(name: str) -> str:
    """Equal for names that some file systems take for one: those that ignore case, or how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _stream_descriptor(path: Path) -> int:
    """A descriptor for writing to a pipe or a device. It waits a while for a pipe to have a reader."""
    flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)
    started_s = time.monotonic()
    while True:
        try:
            descriptor = os.open(path, flags)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() - started_s >= READER_TIMEOUT_S:
                raise OSError(errno.ENXIO, f"nobody read from this pipe for {READER_TIMEOUT_S:g} s") from error
        time.sleep(_POLL_S)
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    return descriptor


def _is_stale(entry: os.DirEntry[str], after_s: float) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    if time.time() - entry.stat(follow_symlinks=False).st_mtime < after_s:  # may be locked only in a moment
        return False
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(entry.path, flags)
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:  # noqa: ARG001 - Windows removes no open file anyway
        return False

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """Whether this process holds the lock now; False too if the file system has none."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def lock_path(path: Path) -> Path:
    """The lock file for writing a file: hidden beside it, with a short name even if the file's name is long."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}.lock")


@contextmanager
def locked(path: Path, *, subject: str | None = None, on_progress: OnProgress | None = None) -> Iterator[None]:
    """Hold a lock, after waiting for the process that holds it now.

    Args:
        path: The lock file. It is made, and removed when the lock is released.
        subject: What is locked, for messages; None takes the lock file.
        on_progress: Called several times a second during waiting, with the seconds waited so far. An exception that it
            raises ends the waiting and is raised again from here.

    Raises:
        OutputError: the file cannot be made.
    """
    started_s, waits = time.monotonic(), False
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
            while not _try_lock_file(file):
                if not waits:
                    waits = True
                    _logger.info("waiting for the process that holds %s", visible(str(path)))
                if on_progress is not None:
                    on_progress(WAITING, time.monotonic() - started_s, 0)
                time.sleep(_LOCK_POLL_S)
            if not _bears(path, file):  # its holder removed it while we waited; others lock the next file of that name
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file; it may stay
                    path.unlink()
                _unlock(file)
            return


def held(path: Path, subject: Path | None = None) -> IO[bytes]:
    """Open a file to read and write it, and lock it until it is closed; it is made if it does not exist.

    Args:
        path: The file.
        subject: What it stands for, for messages; None takes the file.

    Returns:
        The file, unbuffered, at its start.

    Raises:
        OutputError: another process holds it, or it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with writing_errors(path):
        while True:
            file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
            if not _try_lock_file(file):
                file.close()
                raise OutputError("is in use by another run", subject=str(subject or path), hint="wait for its end")
            if _bears(path, file):  # else its holder renamed it before we got the lock
                return file
            file.close()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe on the disk; systems that cannot do this do it by themselves."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _bears(path: Path, file: IO[bytes]) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock_file(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return True  # this file system has no locks
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock_file(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # this file system has no locks
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
