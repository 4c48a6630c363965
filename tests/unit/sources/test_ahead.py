"""An iterator in a thread of its own: order, errors, bounds, and no thread that stays."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from helpers.interrupted import run_interrupted
from yoloship.sources.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_items_come_in_order_and_the_thread_ends_with_them() -> None:
    assert list(ahead(lambda stopped: iter(range(50)), 2)) == list(range(50))
    assert "yoloship-read" not in names()


@pytest.mark.timeout(120)
def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []
    third_made = threading.Event()

    def count(stopped: Callable[[], bool]) -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 3:
                third_made.set()
            yield number

    items = ahead(count, 2)
    assert next(items) == 0
    third_made.wait()
    assert made == [0, 1, 2, 3], "one was taken, two wait, and one waits for room"
    items.close()  # type: ignore[attr-defined]
    assert made == [0, 1, 2, 3]


def test_an_error_comes_after_the_items_before_it() -> None:
    def fail(stopped: Callable[[], bool]) -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = ahead(fail, 2)
    assert next(items) == 1
    with pytest.raises(KeyError, match="broken"):
        next(items)
    assert "yoloship-read" not in names()


def test_closing_ends_the_thread_and_closes_the_iterator_inside_it() -> None:
    closed: list[str] = []

    def endless(stopped: Callable[[], bool]) -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    items = ahead(endless, 3)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed == ["yoloship-read"]
    assert "yoloship-read" not in names()


def test_an_iterator_that_waits_learns_that_nobody_wants_more() -> None:
    def waits(stopped: Callable[[], bool]) -> Iterator[int]:
        yield 0
        while not stopped():
            threading.Event().wait(0.001)

    items = ahead(waits, 1)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert "yoloship-read" not in names()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends signals")
@pytest.mark.timeout(120)
def test_an_interrupt_at_any_moment_ends_the_loop_and_the_thread() -> None:
    run_interrupted("ahead", "ahead", "ahead(lambda is_stopped: iter(range(1_000_000)), 2)")
