"""The one way to open a file that somebody named: without waiting, judged by its descriptor, and bounded.

A path is untrusted. It may lead to a pipe that nobody writes to, to a device without an end, or to a file that grows
or is exchanged while it is read. So nothing is asked about a path before it is opened: it is opened without blocking,
and the open descriptor says what it is and how long. No more is read than that length, nor than the limit.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from io import FileIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yoloship.errors import InputError, YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BytesIO
    from pathlib import Path

CHUNK_BYTES: Final = 1 << 20
START_BYTES: Final = 1 << 12
"""How much of a file is enough to say what it is."""

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer would block in open()
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_HASH_BYTES: Final = 1 << 18
_POLL_S: Final = 0.05
_KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
)
_COPY_IT: Final = "copy its content into a file"


_ADDRESS_HINTS: Final = MappingProxyType(
    {
        "file": "give the path itself",
        **dict.fromkeys(("rtsp", "rtsps", "rtmp", "udp", "tcp"), "save its images as files first, and give those"),
    }
)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:/{1,3}(?=[^/])")


class Patience(NamedTuple):
    """How long to wait for a file or a pipe.

    Attributes:
        writer_s: For the first writer of a pipe.
        silence_s: For more from a writer.
        reserve: Called with the length of a file before it is read, and with 0 now and then while a pipe is silent. It
            may wait for room, and raises a `YoloshipError` if nobody waits any longer.
    """

    writer_s: float = 5.0
    silence_s: float = 60.0
    reserve: Callable[[int], object] | None = None


PATIENCE: Final = Patience()


def refuse_address(name: object, *, error: type[YoloshipError]) -> None:
    """Refuse ``https://…`` and the like, which `pathlib` would turn into the name of a file that does not exist.

    Raises:
        YoloshipError: of the class `error`: the name is an address. A file that bears that very name is none.
    """
    text = str(name)
    if _ADDRESS.match(text) is None or os.path.lexists(text):
        return
    scheme = text.partition(":")[0].lower()
    hint = _ADDRESS_HINTS.get(scheme, "download it first, and give the file")
    raise error("is an address, and yoloship reads files", subject=text, hint=hint)


@contextmanager
def open_regular(
    path: Path | str,
    *,
    error: type[YoloshipError],
    wanted: str = "a file",
    limit_bytes: int | None = None,
) -> Iterator[FileIO]:
    """Open a regular file for reading; whatever else the path leads to is refused at once.

    Args:
        path: The file; links are followed.
        error: The class of the error for what is in the file.
        wanted: What the file should be, for messages: ``a checkpoint``.
        limit_bytes: The longest file to accept; None accepts any.

    Yields:
        The unbuffered file, at its beginning. An `OSError` of reading it inside the block becomes an `InputError`.

    Raises:
        InputError: the file does not exist, is not a regular file, or cannot be read.
        YoloshipError: of the class `error`: it is too long.
    """
    try:
        descriptor = _opened(path)
        try:
            file = FileIO(descriptor)
        except OSError:  # it is a folder; Python does not close a descriptor that it did not open itself
            os.close(descriptor)
            raise
        with file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_regular(status.st_mode, error, wanted, path)
            if limit_bytes is not None and status.st_size > limit_bytes:
                raise _too_long(limit_bytes, status.st_size, error, wanted, path)
            yield file
    except OSError as failure:
        raise _unreadable(failure, error, wanted, path) from failure


def read_bounded(path: Path | str, limit_bytes: int, *, error: type[YoloshipError], wanted: str = "a file") -> bytes:
    """Read a regular file that is no longer than a limit; see `open_regular`.

    Returns:
        The bytes that the file had when it was opened; what is added meanwhile is left out. Files without a length,
        as those under /proc, count as empty.
    """
    with open_regular(path, error=error, wanted=wanted, limit_bytes=limit_bytes) as file:
        return read_up_to(file.read, os.fstat(file.fileno()).st_size)


def read_if_there(
    path: Path | str, limit_bytes: int, *, error: type[YoloshipError], wanted: str = "a file"
) -> bytes | None:
    """`read_bounded`, with None for a file that does not exist."""
    try:
        return read_bounded(path, limit_bytes, error=error, wanted=wanted)
    except InputError as refusal:
        if isinstance(refusal.__cause__, FileNotFoundError):
            return None
        raise


def read_start(path: Path | str, count: int, *, error: type[YoloshipError], wanted: str = "a file") -> bytes:
    """The first bytes of a regular file of any length; fewer if it is shorter."""
    with open_regular(path, error=error, wanted=wanted) as file:
        return read_up_to(file.read, min(count, os.fstat(file.fileno()).st_size))


def read_text(path: Path | str, limit_bytes: int, *, error: type[YoloshipError], wanted: str = "a text file") -> str:
    """`read_bounded`, decoded as UTF-8; a byte order mark at its beginning is left out."""
    data = read_bounded(path, limit_bytes, error=error, wanted=wanted)
    return decoded(data, error=error, subject=_named(path))


def decoded(data: bytes, *, error: type[YoloshipError], subject: str) -> str:
    """Bytes of a text file as text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise error(
            f"cannot be read as text: byte {failure.start} is not UTF-8", subject=subject, hint="save it as UTF-8"
        ) from failure


def read_file_or_pipe(
    path: Path | str,
    limit_bytes: int,
    *,
    error: type[YoloshipError],
    wanted: str = "a file",
    check_start: Callable[[bytes], None] | None = None,
    patience: Patience = PATIENCE,
) -> bytes:
    """Read a regular file or a pipe: what a user names as ``<(curl …)``, ``/dev/stdin`` or a named pipe.

    A file takes four calls of the system and no more: each lets another thread run Python, which may take its time.

    Args:
        path: See `open_regular`.
        limit_bytes: The most to accept.
        error: See `open_regular`.
        wanted: See `open_regular`.
        check_start: Given the first bytes of a file of more than 1 MiB, raises if the rest need not be read. Pipes are
            read in any case.
        patience: How long to wait.

    Returns:
        A file's bytes as `read_bounded` gives them; a pipe's up to the end that its last writer makes.

    Raises:
        YoloshipError: as `open_regular`; or nobody writes to the pipe, or its writer falls silent.
    """
    try:
        descriptor = _opened(path)
        try:
            status = os.fstat(descriptor)
            size = status.st_size
            if not stat.S_ISREG(status.st_mode):
                if not stat.S_ISFIFO(status.st_mode):
                    raise _not_regular(status.st_mode, error, wanted, path)
                waiting = _Waiting(patience, functools.partial(error, subject=_named(path)))
                with FileIO(descriptor, closefd=False) as pipe:
                    data = _read_pipe(pipe, limit_bytes + 1, waiting)
                if len(data) > limit_bytes:
                    raise _too_long(limit_bytes, None, error, wanted, path)
                return data
            if size > limit_bytes:
                raise _too_long(limit_bytes, size, error, wanted, path)
            if patience.reserve is not None:
                patience.reserve(size)
            read = functools.partial(os.read, descriptor)
            if check_start is not None and size > CHUNK_BYTES:  # the caller checks what is read at once
                check_start(read_up_to(read, min(START_BYTES, size)))
                os.lseek(descriptor, 0, os.SEEK_SET)  # reading the beginning again costs less than putting it in front
            return read_up_to(read, size)
        finally:
            os.close(descriptor)
    except OSError as failure:
        raise _unreadable(failure, error, wanted, path) from failure


def read_up_to(read: Callable[[int], bytes], count: int) -> bytes:
    """The next bytes of an open file, fewer if it ends before; in pieces, so that a false length costs nothing."""
    parts: list[bytes] = []
    while count > 0 and (part := read(min(count, CHUNK_BYTES))):
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def file_sha256(file: FileIO | BytesIO, head: bytes = b"") -> str:
    """The SHA-256 of an open file from where it stands to its end, in lower-case hex.

    Args:
        file: Read to its end, piece by piece into one buffer.
        head: What has been read of it already, and belongs in front.
    """
    digest = hashlib.sha256(head)
    piece = bytearray(_HASH_BYTES)
    view = memoryview(piece)
    while count := file.readinto(piece):
        digest.update(view[:count])
    return digest.hexdigest()


def _opened(path: Path | str) -> int:
    """A descriptor of whatever the path leads to; an `OSError` if there is none."""
    try:
        return os.open(path, _FLAGS)
    except ValueError as failure:  # a null character, or text that the file system cannot encode
        raise OSError(errno.EINVAL, "not a valid file name") from failure


def _unreadable(failure: OSError, error: type[YoloshipError], wanted: str, path: Path | str) -> YoloshipError:
    """What the system's refusal means."""
    if isinstance(failure, FileNotFoundError):
        return _of_names(error)("no such file", subject=_named(path))
    if os.path.isdir(path):  # noqa: PTH112 - never raises; Windows cannot even open a folder
        return _not_regular(stat.S_IFDIR, error, wanted, path)
    if failure.errno == errno.ENXIO:  # what Linux answers for a socket, and for a device that is not there
        with suppress(OSError):
            return _not_regular(os.stat(path).st_mode, error, wanted, path)  # noqa: PTH116
    return _of_names(error)(f"cannot be read: {failure.strerror or failure}", subject=_named(path))


def _of_names(error: type[YoloshipError]) -> type[YoloshipError]:
    """The class for a name that leads to no file: whoever gave it must give another, whatever the file should be."""
    return error if issubclass(error, InputError) else InputError


def _named(path: Path | str) -> str:
    """The path for messages; an empty one is quoted."""
    return str(path) or "''"


def _not_regular(mode: int, error: type[YoloshipError], wanted: str, path: Path | str) -> YoloshipError:
    kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
    hint = "name a file in it" if kind == "a folder" else _COPY_IT
    return _of_names(error)(f"is {kind}, not {wanted}", subject=_named(path), hint=hint)


def _too_long(
    limit_bytes: int, got_bytes: int | None, error: type[YoloshipError], wanted: str, path: Path | str
) -> YoloshipError:
    return error(
        f"is too long for {wanted}",
        subject=_named(path),
        expected=f"at most {limit_bytes:,} bytes",
        got=None if got_bytes is None else f"{got_bytes:,} bytes",
    )


class _Waiting:
    """How long a pipe has given nothing, and when that is too long."""

    def __init__(self, patience: Patience, refuse: Callable[[str], YoloshipError]) -> None:
        self._patience, self._refuse = patience, refuse
        self._since_s = time.monotonic()

    def heard(self) -> None:
        """Something came."""
        self._since_s = time.monotonic()

    def pause(self, file: FileIO, *, has_writer: bool) -> None:
        """Wait a moment for the pipe, in which signals are heard.

        Raises:
            YoloshipError: it has been too long, or who wanted to read does not want to any longer.
        """
        if self._patience.reserve is not None:
            try:
                self._patience.reserve(0)
            except YoloshipError as error:
                raise self._refuse("was not read to its end, because nobody waits for it any longer") from error
        waited_s = time.monotonic() - self._since_s
        if not has_writer and waited_s >= self._patience.writer_s:
            raise self._refuse(f"is a pipe, and nobody wrote to it for {self._patience.writer_s:g} s")
        if waited_s >= self._patience.silence_s:
            raise self._refuse(f"is a pipe whose writer sent nothing for {self._patience.silence_s:g} s")
        if has_writer:
            import select

            poll = select.poll()  # `select` takes no descriptor above 1023
            poll.register(file, select.POLLIN)
            poll.poll(_POLL_S * 1000)
        else:
            time.sleep(_POLL_S)


def _read_pipe(file: FileIO, count: int, waiting: _Waiting) -> bytes:
    """A pipe's bytes up to its end, or so many.

    A pipe that is open without blocking reads as None while a writer is silent, and as empty both before the first
    writer comes and after the last one has gone.
    """
    parts: list[bytes] = []
    has_ended = False
    while count > 0:
        part = file.read(min(count, CHUNK_BYTES))
        if part:
            parts.append(part)
            count -= len(part)
            waiting.heard()
        elif part is None:
            waiting.pause(file, has_writer=True)
        elif parts or has_ended:
            break
        else:  # a writer may have come, written and gone since the read: what it left is read before this is the end
            has_ended = _has_ended(file)
            if not has_ended:
                waiting.pause(file, has_writer=False)
    return b"".join(parts)


def _has_ended(file: FileIO) -> bool:
    """Whether a pipe had writers and all of them have gone, as Linux and the BSDs say it."""
    import select

    poll = select.poll()
    poll.register(file, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
