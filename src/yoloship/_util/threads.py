"""Work on many items in a few threads, a little ahead, with results in order: `in_threads`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")


def in_threads(
    items: Iterable[ItemT], work: Callable[[ItemT], FoundT], *, threads: int, ahead: int
) -> Iterator[FoundT]:
    """Call a function for each item, and yield the results in order.

    What the function raises is raised here, after the results before it. If the caller stops early, work that has not
    begun is dropped, and what has begun is waited for.

    Args:
        items: Drawn in the consumer's thread, only as far ahead as needed.
        work: Called in the threads.
        threads: How many.
        ahead: How many items may be waiting, under way, or finished and not taken yet.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="yoloship") as pool:
        pending: deque[Future[FoundT]] = deque()
        source = iter(items)
        try:
            while True:
                for _ in range(ahead - len(pending)):  # `while` could miss `finally`: see `sources.ahead`
                    if (one := next(_one(source), None)) is None:
                        break
                    pending.append(pool.submit(work, *one))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _one(source: Iterator[ItemT]) -> Iterator[tuple[ItemT]]:
    """The next item, in a tuple: it may itself be None."""
    for item in source:
        yield (item,)
        return
