"""Signals wait for what is being written, once.

The tests run in a process of their own: a signal is sent to the whole process, which other tests share.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import pytest

from yoloship.job.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
_ALONE: Final = "YOLOSHIP_TEST_SIGNALS"
alone = pytest.mark.skipif(_ALONE not in os.environ, reason="runs in a process of its own, from the last test here")


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which a process may have been started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@alone
def test_a_signal_waits_until_the_function_has_ended() -> None:
    done: list[str] = []

    def work(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(text)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupts.holding(work)("a")
    assert done == ["a"]


@alone
def test_a_second_signal_does_not_wait() -> None:
    done: list[str] = []

    def work(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(text)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupts.holding(work)("a")
    assert done == []


@alone
def test_between_two_entries_a_signal_does_not_wait() -> None:
    done: list[str] = []
    with Interrupts() as interrupts:
        interrupts.holding(done.append)("a")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@alone
def test_what_handled_signals_before_does_so_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


@alone
def test_a_signal_that_ends_the_process_by_itself_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@alone
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


@pytest.mark.skipif(_ALONE in os.environ, reason="this is that process")
def test_they_pass_in_a_process_of_their_own() -> None:
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "--no-cov", __file__]
    done = subprocess.run(command, env={**os.environ, _ALONE: "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "6 passed, 1 skipped" in done.stdout
