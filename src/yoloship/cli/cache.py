"""``yoloship cache``: show what the cache holds, and empty it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yoloship._util.text import counted
from yoloship.cli.command import command, flag
from yoloship.cli.output import columns, print_json, print_out, print_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship._util.cache import CacheUsage


@command(
    examples=(
        "yoloship cache",
        "yoloship cache --clear",
        "YOLOSHIP_CACHE=/data/cache yoloship cache",
    ),
    starts_bare=True,
)
@flag("--clear", help="Remove everything that yoloship keeps in the cache, and nothing else.")
@flag("--json", "as_json", help="Print JSON.")
def cache(clear: bool, as_json: bool) -> None:
    """Show where the cache is, and how much it holds: graphs, engines, kernels, weights and compiled models.

    predict writes graphs from checkpoints, and bench and the Python API build engines. Kernels are compiled for your
    GPU. Weights are downloaded official releases. Compiled models come from OpenVINO, and from TensorRT-RTX (kernels).
    Whatever is removed is created again when it is needed. Each kind except the weights has a size limit; above it,
    the least recently used files are removed. Set the environment variable YOLOSHIP_CACHE to move the cache.
    """
    from yoloship._util import cache as kept
    from yoloship.errors import InputError

    try:
        folder = kept.cache_folder()
        found = kept.clear() if clear else kept.usage()
    except RuntimeError as error:
        raise InputError(
            "there is no home folder to keep it in",
            subject="the cache",
            hint="set YOLOSHIP_CACHE to a folder that you can write to",
        ) from error
    if as_json:
        rows = [
            {"kind": row.kind, "files": row.files, "bytes": row.size_bytes, "limit": row.limit_bytes} for row in found
        ]
        print_json({"folder": str(folder), "cleared": clear, "kinds": rows})
        return
    print_out(f"cache: {folder}")
    print_text(_table(found))
    files, size = counted(sum(row.files for row in found), "file"), _size(sum(row.size_bytes for row in found))
    print_out(f"removed {files}, {size}" if clear else f"{files}, {size}")


def _table(found: Sequence[CacheUsage]) -> str:

    rows = [("kind", "files", "size", "limit")]
    for row in found:
        limit = "none" if row.limit_bytes is None else _size(row.limit_bytes)
        rows.append((row.kind, str(row.files), _size(row.size_bytes), limit))
    return columns(rows, right=(1, 2, 3))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.2f} GB"
