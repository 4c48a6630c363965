"""Graphs built from checkpoints, kept so that a second run need not build them again.

A file's name holds the key (what it was made from and how) and the SHA-256 of its own bytes: one that was cut short or
changed does not match its name, and is built again. Nothing here is needed for a right result, so a folder that cannot
be used costs time and no error.
"""

from __future__ import annotations

import os
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship._util.cache import cache_key, cached
from yoloship._util.reading import read_bounded
from yoloship._version import __version__
from yoloship.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MAX_GRAPH_BYTES: Final = 2 << 30
"""What protobuf can hold."""
_MAX_VERSION_BYTES: Final = 1 << 16


def cached_graph(made_from: tuple[object, ...], build: Callable[[], bytes]) -> bytes:
    """The graph of this key, from the cache or built now.

    The bytes are handed out, not the file: they are those that were checked, and another process may let the file go
    at any time.

    Args:
        made_from: All that decides the result: the checkpoint's SHA-256 and the configuration. The code that builds
            is added.
        build: Makes the file's bytes.
    """
    try:
        key = cache_key((*made_from, __version__, _onnx_version(), *_code()))
    except OSError:  # our own modules cannot be listed
        return build()
    return cached("graphs", key, ".onnx", MAX_GRAPH_BYTES, build)


def _onnx_version() -> bytes:
    """What the library that writes the graphs says of its version; it is not imported, nor its metadata searched."""
    from importlib.util import find_spec

    spec = find_spec("onnx")
    if spec is None or spec.origin is None:
        return b""
    try:
        return read_bounded(Path(spec.origin).with_name("version.py"), _MAX_VERSION_BYTES, error=OutputError)
    except (InputError, OutputError):
        return b""


def _code() -> Iterator[tuple[str, int, int]]:
    """Our own modules by name, size and time of change: in a checkout they change more often than the version.

    All of them count, so that none that has a part in building can be forgotten. Nothing is read, since a start waits
    for it; an editor, a checkout and an installation all set the time.
    """
    package = os.fspath(Path(__file__).parents[1])
    folders = [package]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=attrgetter("name")):
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    yield entry.path.removeprefix(package), status.st_size, status.st_mtime_ns
                elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
