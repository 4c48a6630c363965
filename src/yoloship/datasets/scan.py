"""Looks at the files of a dataset in a few threads, in order: `scanned`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from yoloship._util.cores import usable_cores
from yoloship._util.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from yoloship._util.text import OnProgress

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")

_MAX_THREADS: Final = 8
_AHEAD: Final = 64
_EVERY: Final = 100


def scanned(
    items: Sequence[ItemT], look: Callable[[ItemT], FoundT], on_progress: OnProgress | None = None
) -> Iterator[FoundT]:
    """Call a function for each item in threads, and yield the results in order; see `in_threads`.

    Args:
        items: In any order.
        look: Called in threads.
        on_progress: Called now and then.
    """
    threads = min(_MAX_THREADS, usable_cores() + 1)
    for done, found in enumerate(in_threads(items, look, threads=threads, ahead=_AHEAD)):
        if on_progress is not None and done % _EVERY == 0:
            on_progress("reading the dataset", done, len(items))
        yield found
