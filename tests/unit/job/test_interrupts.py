"""Signals wait for what is being written, once."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from yoloship.job.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which a process may have been started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_until_the_function_has_ended() -> None:
    done: list[str] = []

    def work(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(text)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupts.holding(work)("a")
    assert done == ["a"]


def test_a_second_signal_does_not_wait() -> None:
    done: list[str] = []

    def work(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(text)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupts.holding(work)("a")
    assert done == []


def test_between_two_entries_a_signal_does_not_wait() -> None:
    done: list[str] = []
    with Interrupts() as interrupts:
        interrupts.holding(done.append)("a")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_handled_signals_before_does_so_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_signal_that_ends_the_process_by_itself_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
