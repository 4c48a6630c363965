"""Threads that read: few for what comes quickly, many for what takes time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from yoloship.detect import readers
from yoloship.detect.readers import FEW, Readers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Work:
    """Counts the threads that are in it at once."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.done: list[int] = []
        self.handed: list[int] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.all_done = threading.Event()
        self.until = 0

    def hand_over(self, items: Sequence[int]) -> None:
        with self.lock:
            self.handed += items
            if len(self.handed) == self.until:
                self.all_done.set()

    def __call__(self, item: int, flush: Callable[[], None]) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if self.takes_s:
            time.sleep(self.takes_s)
        with self.lock:
            self.now -= 1
            self.done.append(item)


def finish(work: Work, count: int, most: int = 16) -> None:
    work.until = count
    threads = Readers[int](most, work, work.hand_over)
    for item in range(count):
        threads.add(item)
    work.all_done.wait()
    threads.close(wait=True)


@pytest.mark.parametrize("most", [1, 2, 16])
def test_quick_items_are_read_once_each_by_few_threads(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LOOK_S", 1000)
    work = Work()
    finish(work, 500, most)
    assert sorted(work.handed) == sorted(work.done) == list(range(500))
    assert work.most <= min(FEW, most)


@pytest.mark.parametrize(("devices", "together"), [(1, 8), (2, 32)])
def test_more_items_are_handed_over_together_for_several_devices(
    devices: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_LOOK_S", 1000)
    counts: list[int] = []
    ended = threading.Event()

    def hand_over(items: Sequence[int]) -> None:
        counts.append(len(items))
        if sum(counts) == 64:
            ended.set()

    threads = Readers[int](1, lambda *_: None, hand_over, devices=devices)
    with threads._lock:
        threads._waiting.extend(range(64))
        threads._start()
    ended.wait()
    threads.close(wait=True)
    assert counts == [together] * (64 // together)


def test_slow_items_are_read_by_as_many_threads_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LOOK_S", 0)
    monkeypatch.setattr(readers, "_SLOW_S", 0)
    work = Work(0.01)
    finish(work, 100, 6)
    assert sorted(work.done) == list(range(100))
    assert work.most == 6


def test_a_single_slow_item_starts_no_further_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LOOK_S", 0)
    monkeypatch.setattr(readers, "_SLOW_S", 0)
    monkeypatch.setattr(readers, "_SLOW_ITEMS", 1000)
    work = Work(0.001)
    finish(work, 60, 6)
    assert sorted(work.done) == list(range(60))
    assert work.most <= FEW


def test_after_some_items_few_threads_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LOOK_S", 0)
    monkeypatch.setattr(readers, "_SLOW_S", 0)
    monkeypatch.setattr(readers, "_AGAIN", 10)
    work = Work(0.002)
    finish(work, 30, 8)
    monkeypatch.setattr(readers, "_LOOK_S", 1000)
    threads = Readers[int](8, work, work.hand_over)
    threads._allowed = 8
    work.until = 130
    work.all_done.clear()
    for item in range(100):
        threads.add(item)
    work.all_done.wait()
    assert threads._allowed == FEW
    threads.close(wait=True)


def test_closing_drops_what_waits_and_finishes_what_has_begun() -> None:
    work = Work(0.02)
    threads = Readers[int](2, work, work.hand_over)
    for item in range(2000):  # twenty seconds of work
        threads.add(item)
    threads.close(wait=True)
    assert work.now == 0
    read = len(work.done)
    assert read < 2000
    threads.add(2001)
    time.sleep(0.05)
    assert len(work.done) == read


def test_what_was_read_is_handed_over_before_an_item_waits_for_others() -> None:
    handed: list[tuple[int, ...]] = []
    seen: list[list[tuple[int, ...]]] = []
    done = threading.Event()
    may_begin = threading.Event()

    def read(item: int, flush: Callable[[], None]) -> None:
        if item == 0:
            may_begin.wait()
        if item == 3:
            flush()
            flush()
            seen.append(list(handed))

    def hand_over(items: Sequence[int]) -> None:
        handed.append(tuple(items))
        if sum(map(len, handed)) == 9:
            done.set()

    threads = Readers[int](1, read, hand_over)
    for item in range(9):
        threads.add(item)
    may_begin.set()
    done.wait()
    threads.close(wait=True)
    (before,) = seen
    assert [item for items in before for item in items] == [0, 1, 2]
    assert sorted(item for items in handed for item in items) == list(range(9))
    assert () not in handed


def test_as_many_threads_as_asked_for_read_one_item_each_and_begin_as_asked() -> None:
    both = threading.Barrier(3)
    begun: list[int] = []

    def meet(item: int, flush: Callable[[], None]) -> None:
        both.wait()  # passes only if three read at once

    work = Work()
    work.until = 3
    threads = Readers[int](3, meet, work.hand_over, few=3, begin=lambda: begun.append(threading.get_native_id()))
    for item in range(3):
        threads.add(item)
    work.all_done.wait()
    threads.close(wait=True)
    assert len(set(begun)) == 3
