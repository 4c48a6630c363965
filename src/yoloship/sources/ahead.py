"""Runs an iterator in its own thread, a few items ahead of the consumer."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from yoloship._util.closing import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Stopped = Callable[[], bool]

T = TypeVar("T")


def ahead(make: Callable[[Stopped], Iterator[T]], count: int) -> Iterator[T]:
    """Give the items of an iterator that runs in another thread.

    The thread lives from the first item to the last, or until this iterator is closed. An exception of the other
    iterator is raised here, after the items before it.

    Args:
        make: Makes the iterator, in that thread. It is given a function that says whether nobody wants any more items;
            an iterator that may wait for long asks it.
        count: Items that may wait to be taken, at least 1.
    """
    # No lock of these queues is held by Python code. That of a semaphore or an event is: if Ctrl-C comes while the
    # consumer holds it, or the garbage collector closes this iterator while the thread does, nobody gets it again.
    made: SimpleQueue[tuple[T, ...] | BaseException | None] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        room.put(None)
    is_stopped = False

    def work() -> None:
        try:
            items = make(lambda: is_stopped)
            try:
                for item in items:
                    room.get()
                    if is_stopped:
                        break
                    made.put((item,))
            finally:
                close = getattr(items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            made.put(error)
        else:
            made.put(None)

    thread = threading.Thread(target=work, name="yoloship-read", daemon=True)
    consumer = threading.get_ident()
    try:
        thread.start()
        # `while True`, because a loop with a condition ends in a jump which Python 3.13 leaves out of the `try` block:
        # the exception of a signal that comes there misses `finally`.
        while True:
            got = made.get()
            if got is None:
                break
            if isinstance(got, BaseException):
                raise got
            room.put(None)
            yield got[0]
            consumer = threading.get_ident()
    finally:
        is_stopped = True
        room.put(None)
        # The garbage collector may close a forgotten iterator in any thread. Waiting there might never end.
        if threading.get_ident() == consumer and thread.is_alive():
            wait_for(thread)
