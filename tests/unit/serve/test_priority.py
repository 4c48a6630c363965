"""Threads that compute let those go first that answer."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from helpers.serving import JPEG, PHOTO, PREDICT, cat_model, served, settings_of
from yoloship.serve.priority import step_back

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads of other systems have no priority of their own"
)


def version() -> tuple[int, ...]:
    """The kernel's first two numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def niceness(thread: int = 0) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread or threading.get_native_id())


def test_a_thread_steps_back_with_the_threads_that_it_starts_and_no_other() -> None:
    before = niceness()
    if before > 9:
        pytest.skip("this process has nearly the lowest priority already")
    with ThreadPoolExecutor(1, initializer=step_back) as pool:
        assert pool.submit(niceness).result() == before + 10

        def child() -> int:
            found: list[int] = []
            thread = threading.Thread(target=lambda: found.append(niceness()))
            thread.start()
            thread.join()
            return found[0]

        assert pool.submit(child).result() == before + 10
    assert niceness() == before


def turn_ns() -> int:
    """How long this thread computes before another has its turn; 0 if Linux says no such time."""
    found = (ctypes.c_uint64 * 6)()  # struct sched_attr: its fourth 8 bytes are the time
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]  # sched_getattr
    assert ctypes.CDLL(None).syscall(number, 0, ctypes.byref(found), ctypes.sizeof(found), 0) == 0
    return int(found[3])


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"} or version() < (6, 12), reason="Linux takes no such time here"
)
def test_a_thread_that_steps_back_has_short_turns_as_have_those_that_it_starts() -> None:
    before = turn_ns()
    with ThreadPoolExecutor(1, initializer=step_back) as pool:
        assert pool.submit(turn_ns).result() == 100_000

        def child() -> int:
            with ThreadPoolExecutor(1) as own:
                return own.submit(turn_ns).result()

        assert pool.submit(child).result() == 100_000
    assert turn_ns() == before != 100_000


def test_no_priority_is_below_the_lowest_one() -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            pool.submit(step_back).result()
        assert pool.submit(niceness).result() == 19


def test_the_threads_of_a_server_that_run_models_step_back_and_its_event_loop_does_not(tmp_path: Path) -> None:
    before = niceness()
    with served(settings_of(cat_model(tmp_path))) as server:

        async def of_the_loop() -> int:
            return niceness()

        assert server.do(of_the_loop()) == before
        assert server.ask("POST", PREDICT, content=PHOTO, headers=JPEG).status_code == 200
        runs = [one.native_id or 0 for one in threading.enumerate() if one.name.startswith("yoloship-run")]
        assert runs
        assert all(niceness(thread) == min(before + 10, 19) for thread in runs)


def test_a_system_that_forbids_it_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr("os.setpriority", forbidden)
    before = niceness()
    step_back()
    assert niceness() == before
