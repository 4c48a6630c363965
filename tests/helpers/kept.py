"""What is costly to make and the same every time, kept on disk for all test processes and for the next run."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = os.environ.get("YOLOSHIP_TEST_CACHE")
ROOT = Path(CACHE) if CACHE else Path(__file__).resolve().parents[2] / ".pytest_cache"
"""The variable keeps it for several checkouts: a server that tests download has 55 MB."""


def kept(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """A folder of this kind under this key, made on first use; one process makes it while the others wait.

    Args:
        kind: What it holds. Folders of the same kind under another key are removed when a new one is made.
        key: Changes with everything that decides the contents.
        make: Fills an empty folder.

    Returns:
        The folder. Nobody may write into it.
    """
    folder = ROOT / kind / key
    with _locked(kind):
        if not folder.exists():
            part = folder.with_name("part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            for older in folder.parent.iterdir():
                if older.is_dir() and older != part:
                    shutil.rmtree(older, ignore_errors=True)
            part.rename(folder)
    return folder


def compiled_kernels() -> Path:
    """A cache for `KernelSet` that processes share. Its entries are named by everything that they depend on."""
    folder = ROOT / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(kind: str) -> Iterator[None]:
    (ROOT / kind).mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # there is none on Windows; run there with -n0
        yield
        return
    with (ROOT / kind / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
