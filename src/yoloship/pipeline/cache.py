"""Graphs built from checkpoints, kept so that a second run need not build them again.

A file's name holds the key (what it was made from and how) and the SHA-256 of its own bytes: one that was cut short or
changed does not match its name, and is built again. Nothing here is needed for a right result, so a folder that cannot
be written costs time and no error.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.reading import open_regular
from yoloship._version import __version__
from yoloship.errors import OutputError
from yoloship.pipeline.releases import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 2 << 30
"""Of all graphs together: a yolov5n takes 8 MB, a yolov5x 350."""


def cached_graph(made_from: tuple[object, ...], build: Callable[[], bytes]) -> Path | bytes:
    """The graph of this key, from the cache or built now.

    Args:
        made_from: All that decides the result: the checkpoint's SHA-256 and the configuration. The code that builds
            is added.
        build: Makes the file's bytes.

    Returns:
        A file in the cache; the bytes themselves where the cache cannot be written.
    """
    try:
        key = hashlib.sha256(repr((*made_from, _code())).encode()).hexdigest()[:32]
        folder = cache_folder() / "graphs"
        for path in sorted(folder.glob(f"{key}-*.onnx")):
            if _digest(path) == path.stem.partition("-")[2]:
                with suppress(OSError):  # a cache that is only read
                    path.touch()  # the least recently used go first
                return path
            path.unlink(missing_ok=True)
    except (OSError, RuntimeError):  # not readable, or no home folder
        return build()
    data = build()
    return _keep(folder, key, data) or data


def _keep(folder: Path, key: str, data: bytes) -> Path | None:
    from yoloship._util.writing import write_bytes

    path = folder / f"{key}-{hashlib.sha256(data).hexdigest()[:32]}.onnx"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder, len(data))
        write_bytes(path, data)
    except (OSError, OutputError):  # a read-only or full disk
        return None
    return path


def _make_room(folder: Path, size: int) -> None:
    """Remove the graphs that were not used for longest, until this many bytes fit."""
    sizes = {path: path.stat() for path in folder.glob("*.onnx")}
    total = size + sum(stat.st_size for stat in sizes.values())
    for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
        if total <= MAX_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= sizes[path].st_size


def _digest(path: Path) -> str:
    """Of a file's bytes; empty if it cannot be read or is not a file, which no name matches."""
    digest = hashlib.sha256()
    try:
        with open_regular(path, error=OutputError, limit_bytes=MAX_BYTES) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OutputError:
        return ""
    return digest.hexdigest()[:32]


def _code() -> tuple[str, str]:
    """This package's version, and a digest of the modules that build, which change more often."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in ("checkpoint", "graph"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return __version__, digest.hexdigest()
