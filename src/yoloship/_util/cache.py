"""The cache: where it is, whom it trusts, how large it may become, and what a user may ask of it.

Each kind of entry has a folder, a limit in bytes, and names that tell its entries from whatever else lies there: only
what bears such a name is ever counted or removed.

An entry is code in all but name: a graph, an engine or a kernel that somebody else put there would be run. So a folder
or a file counts only if it belongs to this user or to root, and nobody else may write to it. Windows keeps a user's
cache apart by itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from yoloship._util.reading import open_regular
from yoloship._util.writing import PART_PATTERN, remove_stale, replacing
from yoloship.errors import InputError, OutputError, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

CacheKind: TypeAlias = Literal["graphs", "engines", "kernels", "weights", "compiled"]

_logger = logging.getLogger("yoloship.cache")
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class _Rule:
    """What holds for a kind of entry.

    Attributes:
        names: The names of its entries; a pair of files has one stem, up to the first dot.
        limit_bytes: The most that all entries may take; None has no limit, because a user fetched each of them.
    """

    names: re.Pattern[str]
    limit_bytes: int | None


_RULES: Final[Mapping[CacheKind, _Rule]] = MappingProxyType(
    {
        "graphs": _Rule(re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.onnx"), 2 << 30),
        "engines": _Rule(re.compile(r"[0-9a-f]{64}\.engine(\.json)?"), 8 << 30),
        "kernels": _Rule(re.compile(r"[a-z_]+-sm\d+-[0-9a-f]{32}\.(cubin|ptx)"), 256 << 20),
        "weights": _Rule(re.compile(r"[0-9a-f]{12}-[\w.-]+\.pt"), None),
        "compiled": _Rule(re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.blob"), 2 << 30),
    }
)
KINDS: Final[tuple[CacheKind, ...]] = tuple(_RULES)


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """What a kind of entry takes.

    Attributes:
        kind: Which kind.
        folder: Where its entries are; it need not exist.
        files: How many there are.
        size_bytes: What all of them take.
        limit_bytes: What they may take; None has no limit.
    """

    kind: CacheKind
    folder: Path
    files: int
    size_bytes: int
    limit_bytes: int | None


def cache_folder() -> Path:
    """The cache: ``$YOLOSHIP_CACHE``, else the platform's own place for caches.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if chosen := os.environ.get("YOLOSHIP_CACHE"):
        return Path(chosen).expanduser()  # no shell has seen what a service or a container sets
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "yoloship" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "yoloship"
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "yoloship"  # as the XDG specification says


def trusted_folder(of: CacheKind | Path) -> Path | None:
    """The folder of a kind of entry, or one by its path; it is made if it is missing.

    Returns:
        None if it cannot be used. That costs time, and is not an error; only a folder that others can write to is worth
        a line in the log.
    """
    try:
        folder = of if isinstance(of, Path) else cache_folder() / of
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = distrust(folder.stat())
    except (OSError, RuntimeError):  # there may be no home folder
        return None
    if problem is not None:
        _log(folder, problem)
        return None
    return folder


def read_entry(path: Path, limit_bytes: int) -> bytes | None:
    """The bytes of an entry, read once; None if there is none, or none that can be trusted.

    Args:
        path: In a folder that is trusted.
        limit_bytes: A longer file counts as none.
    """
    try:
        with open_regular(path, error=OutputError, limit_bytes=limit_bytes) as file:
            status = os.fstat(file.fileno())
            data = file.read(status.st_size)  # at once: a graph may be large, and pieces would be there twice
    except (InputError, OutputError):
        return None
    if (problem := distrust(status)) is not None:
        _log(path, problem)
        return None
    with suppress(OSError):  # a cache that can only be read
        path.touch()  # the least recently used go first
    return data


def is_trusted(path: Path) -> bool:
    """Whether a file is there, and nobody else could have written it; a word in the log if somebody could."""
    try:
        problem = distrust(path.stat())
    except (OSError, ValueError):
        return False
    if problem is not None:
        _log(path, problem)
    return problem is None


def write_entry(kind: CacheKind, path: Path, data: bytes) -> bool:
    """Keep an entry, for this user alone, and let older ones go for it.

    Returns:
        Whether it was kept: it is not on a full disk, or if nothing can be written.
    """
    try:
        make_room(kind, path.parent, len(data))
        with replacing(path) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(data)
    except (OSError, OutputError):
        return False
    return True


def cached(
    kind: CacheKind, made_from: tuple[object, ...], suffix: str, limit_bytes: int, build: Callable[[], bytes]
) -> bytes:
    """The bytes that are made from these, from the cache or built now.

    A file's name holds a digest of all that decides, and the SHA-256 of its own bytes. One that was cut short or
    changed does not match its name, and is built again. The bytes are handed out, not the file: they are those that
    were checked, and another process may let the file go at any time.

    Args:
        kind: Which kind of entry.
        made_from: All that decides what the entry is; their `repr` says it.
        suffix: The suffix of the file's name, with its dot.
        limit_bytes: A longer file is not read.
        build: Makes the bytes.
    """
    folder = trusted_folder(kind)
    if folder is None:
        return build()
    key = _digest(repr(made_from).encode())
    try:
        paths = sorted(folder.glob(f"{key}-*{suffix}"))
    except OSError:  # not readable
        return build()
    for path in paths:
        data = read_entry(path, limit_bytes)
        if data is not None and _digest(data) == path.stem.partition("-")[2]:
            _logger.debug("%s: %s is in the cache", kind, path.name)
            return data
        with suppress(OSError):
            path.unlink(missing_ok=True)
    _logger.debug("%s: %s is not in the cache, so it is created", kind, key)
    data = build()
    write_entry(kind, folder / f"{key}-{_digest(data)}{suffix}", data)
    return data


def recall(kind: CacheKind, made_from: tuple[object, ...], suffix: str, limit_bytes: int) -> bytes | None:
    """The bytes that `keep` was given for these; None if they are not in the cache, or cannot be trusted.

    Args:
        kind: Which kind of entry.
        made_from: All that decides what the entry is; their `repr` says it.
        suffix: The suffix of the file's name, with its dot.
        limit_bytes: A longer file is not read.
    """

    def missing() -> bytes:
        raise LookupError

    try:
        return cached(kind, made_from, suffix, limit_bytes, missing)
    except LookupError:
        return None


def keep(kind: CacheKind, made_from: tuple[object, ...], suffix: str, data: bytes) -> bool:
    """Keep the bytes that are made from these, instead of others that were kept for them.

    Args:
        kind: Which kind of entry.
        made_from: All that decides what the entry is; their `repr` says it.
        suffix: The suffix of the file's name, with its dot.
        data: The entry.

    Returns:
        Whether they were kept.
    """
    folder = trusted_folder(kind)
    if folder is None:
        return False
    key = _digest(repr(made_from).encode())
    path = folder / f"{key}-{_digest(data)}{suffix}"
    if not write_entry(kind, path, data):
        return False
    with suppress(OSError):
        for other in sorted(folder.glob(f"{key}-*{suffix}")):
            if other != path:
                other.unlink(missing_ok=True)
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def make_room(kind: CacheKind, folder: Path, size_bytes: int) -> None:
    """Remove what was left half written, then the entries that were not used for longest, until this many bytes fit."""
    remove_stale(folder)
    limit_bytes = _RULES[kind].limit_bytes
    if limit_bytes is None:
        return
    pairs: dict[str, list[os.DirEntry[str]]] = {}
    used_ns: dict[str, int] = {}
    total = size_bytes
    for entry, status in _entries(kind, folder):
        total += status.st_size
        if not entry.name.startswith("."):  # what is being written now counts, and stays
            stem = entry.name.partition(".")[0]
            pairs.setdefault(stem, []).append(entry)
            used_ns[stem] = max(used_ns.get(stem, 0), status.st_mtime_ns)
    for stem in sorted(pairs, key=lambda stem: used_ns[stem]):
        if total <= limit_bytes:
            return
        freed = sum(map(_removed, pairs[stem]))
        total -= freed
        if freed > 0:
            _logger.info("%s: %s was removed from the cache, which may use %d MB", kind, stem, limit_bytes >> 20)


def usage(kinds: Iterable[CacheKind] = KINDS) -> tuple[CacheUsage, ...]:
    """What lies in the cache, by kind.

    Raises:
        RuntimeError: the user has no home folder.
    """
    found = []
    for kind in kinds:
        folder = cache_folder() / kind
        sizes = [status.st_size for _, status in _entries(kind, folder)]
        found.append(CacheUsage(kind, folder, len(sizes), sum(sizes), _RULES[kind].limit_bytes))
    return tuple(found)


def clear(kinds: Iterable[CacheKind] = KINDS) -> tuple[CacheUsage, ...]:
    """Remove all entries of these kinds, and nothing else that lies there.

    Returns:
        What was removed, by kind. What another process is writing at the moment stays.

    Raises:
        RuntimeError: the user has no home folder.
    """
    cleared = []
    for kind in kinds:
        folder = cache_folder() / kind
        before = [status.st_size for entry, status in _entries(kind, folder) if entry.name.startswith(".")]
        remove_stale(folder)
        after = [status.st_size for entry, status in _entries(kind, folder) if entry.name.startswith(".")]
        sizes = [_removed(entry) for entry, _ in _entries(kind, folder) if not entry.name.startswith(".")]
        files = sum(size >= 0 for size in sizes) + len(before) - len(after)
        size_bytes = sum(size for size in sizes if size > 0) + sum(before) - sum(after)
        cleared.append(CacheUsage(kind, folder, files, size_bytes, _RULES[kind].limit_bytes))
    return tuple(cleared)


def _entries(kind: CacheKind, folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The files of a kind, those that are not whole yet among them; they are gone by now if somebody removed them."""
    names = re.compile(f"{_RULES[kind].names.pattern}|{PART_PATTERN}")
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if names.fullmatch(entry.name)]
    except OSError:
        return
    for entry in found:
        with suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                yield entry, entry.stat(follow_symlinks=False)


def _removed(entry: os.DirEntry[str]) -> int:
    """Remove a file; its size, or -1 if it stays."""
    try:
        size = entry.stat(follow_symlinks=False).st_size
        os.unlink(entry.path)  # noqa: PTH108 - a name of `os.scandir`
    except OSError:
        return -1
    return size


def distrust(status: os.stat_result) -> str | None:
    """Why somebody else may have written what this is the status of; None if nobody can have."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in {0, os.geteuid()}:
        return "belongs to another user"
    return "can be changed by other users" if status.st_mode & _OTHERS else None


def _log(path: Path, problem: str) -> None:
    """Say it where an operator sees it; the command line shows warnings on stderr."""
    _logger.warning(
        "%s: %s, so it is not used as a cache; run 'chmod go-w' on it, or set YOLOSHIP_CACHE to a folder of your own",
        visible(str(path)), problem,
    )  # fmt: skip
