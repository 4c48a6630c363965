"""Threads that read the sources of a stream, as few as possible: `Readers`."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

FEW: Final = 2
"""Threads that read files which come quickly. Only one thread at a time runs Python, and each access to a file passes
that on to another: with 16 threads, an H100 got 1,000 files a second that 2 threads read several times as fast."""
_CHUNK: Final = 8
_LARGE_CHUNK: Final = 32
"""Items that one of them hands over together. For two H200, 32 gave 2,760 files a second where 8 gave 2,200; for one, 8
gave as many as the network can take."""
_LOOK_S: Final = 2e-3
_SLOW_S: Final = 10e-3
_SLOW_ITEMS: Final = 4
"""If so many items in a row take longer, or `_LOOK_S` of a processor, they come from a slow disk or network, or are
decoded here: then more threads read. One that takes less waits for other threads' Python, of which more threads make
more."""
_AGAIN: Final = 128
"""Items until fewer threads are tried again."""


class Readers(Generic[T]):
    """Reads items in threads, and hands them over: a few threads if that is quick, many if it takes time.

    Args:
        most: The most threads.
        read: Reads an item. It is given a function to call before it waits for others, which hands over what its thread
            has read before. It must not raise.
        hand_over: Gets the items that a thread has read one after the other; it must not raise.
        few: Threads that read if that is quick, one item at a time; None takes two, which take several.
        devices: That work on what is read; for several of them, the two take more at a time.
        begin: Called by each thread first.
    """

    def __init__(
        self,
        most: int,
        read: Callable[[T, Callable[[], None]], None],
        hand_over: Callable[[Sequence[T]], None],
        *,
        few: int | None = None,
        devices: int = 1,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._read = read
        self._hand_over = hand_over
        self._most = most
        chunk = _CHUNK if devices == 1 else _LARGE_CHUNK
        self._few, self._chunk = (min(FEW, most), chunk) if few is None else (few, 1)
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="yoloship", initializer=begin)
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._allowed = self._few
        self._running = self._count = self._slow = 0
        self._stopped = False

    def add(self, item: T) -> None:
        """Queue an item."""
        with self._lock:
            self._waiting.append(item)
            self._start()

    def close(self, *, wait: bool) -> None:
        """Read nothing more.

        Args:
            wait: Whether to wait for the items that are being read.
        """
        with self._lock:
            self._stopped = True
            self._waiting.clear()
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _start(self) -> None:
        """Start threads for what waits; the lock is held."""
        started = 0
        while self._running < self._allowed and started < len(self._waiting) and not self._stopped:
            self._running += 1
            started += 1
            self._pool.submit(self._work)

    def _work(self) -> None:
        while items := self._next():
            used_s = time.thread_time()
            done: list[T] = []

            def flush(done: list[T] = done) -> None:
                if done:
                    self._hand_over(tuple(done))
                    done.clear()

            for place, item in enumerate(items, 1):
                began_s = time.perf_counter()
                self._read(item, flush)
                done.append(item)
                took_s = time.perf_counter() - began_s
                if took_s <= _LOOK_S or (took_s <= _SLOW_S and time.thread_time() - used_s <= place * _LOOK_S):
                    self._slow = 0
                else:
                    self._grow(items[place:])
                    del items[place:]
            flush()
            del items, item

    def _next(self) -> list[T]:
        """What a thread reads next; nothing if it is to end."""
        with self._lock:
            if self._count >= _AGAIN:
                self._count, self._allowed = 0, self._few
            if not self._waiting or self._running > self._allowed:
                self._running -= 1
                return []
            count = min(self._chunk if self._allowed <= self._few else 1, len(self._waiting))
            self._count += count
            return [self._waiting.popleft() for _ in range(count)]

    def _grow(self, left: list[T]) -> None:
        """After an item that took long: let others read what its thread has taken, perhaps more threads than before."""
        with self._lock:
            if self._stopped:
                return
            self._waiting.extendleft(reversed(left))
            self._slow += 1
            if self._slow >= _SLOW_ITEMS:
                self._allowed = min(2 * self._allowed, self._most)
            self._start()
