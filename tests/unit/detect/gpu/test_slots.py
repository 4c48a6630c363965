"""Whoever waits for a slot, or for all of them to be closed, is woken, whatever becomes of the slots meanwhile."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from yoloship.detect.gpu.slots import SlotPool
from yoloship.errors import CudaError, InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(10)  # of what hangs if it fails; nothing here depends on how fast it goes


class FakeSlot:
    """A slot that only says what became of it."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.recovered = 0
        self.fails_to_recover: BaseException | None = None
        self.fails_to_close: BaseException | None = None
        self.may_close = threading.Event()
        self.may_close.set()
        self.closing = threading.Event()

    def recover(self) -> None:
        if self.fails_to_recover is not None:
            raise self.fails_to_recover
        self.recovered += 1

    def close(self) -> None:
        self.closing.set()
        self.may_close.wait()
        self.closed.set()
        if self.fails_to_close is not None:
            raise self.fails_to_close


class Watched(threading.Condition):
    """A condition that tells when a thread begins to wait; whoever gets its lock afterwards finds it waiting."""

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.began = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.began.release()
        return super().wait(timeout)


class Pool(SlotPool):
    """A pool of fake slots whose waiters can be waited for."""

    def __init__(self, limit: int, make: Callable[[], FakeSlot] = FakeSlot) -> None:
        maker: Any = make
        super().__init__(maker, limit, "m")
        self.takers = Watched(self._lock)
        self.closers = Watched(self._lock)
        self._free, self._back = self.takers, self.closers


def started(call: Callable[[], Any]) -> Future[Any]:
    """What a call in a thread of its own will give; a thread that hangs does not keep the process."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def refused(future: Future[Any]) -> bool:
    error = future.exception()
    return isinstance(error, SessionError) and "the detector is closed" in str(error)


def test_slots_are_made_when_needed_and_the_last_one_used_is_used_next() -> None:
    made: list[FakeSlot] = []

    def make() -> FakeSlot:
        made.append(FakeSlot())
        return made[-1]

    pool = Pool(3, make)
    assert made == []
    first, second = pool.take(), pool.take()
    pool.give(second)
    pool.give(first)
    assert pool.take() is first
    assert len(made) == 2


def test_a_slot_that_is_given_back_goes_to_a_thread_that_waits() -> None:
    pool = Pool(1)
    slot = pool.take()
    waiting = started(pool.take)
    pool.takers.began.acquire()
    pool.give(slot)
    assert waiting.result() is slot


def test_each_of_many_takers_is_served_in_the_end() -> None:
    pool = Pool(2)

    def use() -> None:
        for _ in range(50):
            pool.give(pool.take())

    users = [started(use) for _ in range(8)]
    for user in users:
        user.result()
    pool.close()


def test_a_dropped_slot_makes_room_for_a_thread_that_waits() -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    waiting = started(pool.take)
    pool.takers.began.acquire()
    slot.fails_to_close = CudaError("the device is lost")
    pool.drop(slot)
    assert waiting.result() is not slot
    assert slot.closed.is_set()


def test_a_slot_that_cannot_be_made_makes_room_for_the_next_thread() -> None:
    may_fail, making = threading.Event(), threading.Event()
    attempts: list[int] = []

    def make() -> FakeSlot:
        attempts.append(1)
        if len(attempts) > 1:
            return FakeSlot()
        making.set()
        may_fail.wait()
        raise CudaError("out of memory")

    pool = Pool(1, make)
    failing = started(pool.take)
    making.wait()
    waiting = started(pool.take)
    pool.takers.began.acquire()
    may_fail.set()
    assert isinstance(failing.exception(), CudaError)
    pool.give(waiting.result())
    pool.close()


def test_closing_refuses_all_who_wait_for_a_slot_and_waits_for_those_in_use() -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    takers = [started(pool.take) for _ in range(3)]
    for _ in takers:
        pool.takers.began.acquire()
    closer = started(pool.close)
    pool.closers.began.acquire()
    assert all(map(refused, takers))
    assert not closer.done()
    assert not slot.closed.is_set()
    pool.give(slot)
    closer.result()
    assert slot.closed.is_set()
    with pytest.raises(SessionError, match="the detector is closed"):
        pool.take()
    pool.close()


@pytest.mark.parametrize("end", ["give", "drop"])
def test_several_threads_that_close_during_a_run_all_return(end: str) -> None:
    pool = Pool(2)
    slots: list[Any] = [pool.take(), pool.take()]
    closers = [started(pool.close) for _ in range(3)]
    for _ in closers:
        pool.closers.began.acquire()
    for slot in slots:
        getattr(pool, end)(slot)
    for closer in closers:
        closer.result()
    assert all(slot.closed.is_set() for slot in slots)


def test_a_second_closer_returns_only_when_the_slots_are_closed() -> None:
    """It goes on to close what the slots stand on."""
    pool = Pool(1)
    slot: Any = pool.take()
    pool.give(slot)
    slot.may_close.clear()
    first = started(pool.close)
    slot.closing.wait()
    second = started(pool.close)
    pool.closers.began.acquire()
    assert not second.done()
    slot.may_close.set()
    first.result()
    second.result()


def test_a_slot_that_fails_to_close_keeps_no_other_and_no_closer() -> None:
    pool = Pool(2)
    slots: list[Any] = [pool.take(), pool.take()]
    for slot in slots:
        slot.fails_to_close = CudaError("the device is lost")
        pool.give(slot)
    with pytest.raises(CudaError, match="the device is lost"):
        pool.close()
    assert all(slot.closed.is_set() for slot in slots)
    pool.close()


def test_closing_waits_for_a_slot_that_is_being_made() -> None:
    may_end, making = threading.Event(), threading.Event()

    def make() -> FakeSlot:
        making.set()
        may_end.wait()
        return FakeSlot()

    pool = Pool(1, make)
    taker = started(pool.take)
    making.wait()
    closer = started(pool.close)
    pool.closers.began.acquire()
    may_end.set()
    slot = taker.result()
    assert not closer.done()
    pool.give(slot)
    closer.result()
    assert slot.closed.is_set()


def test_closing_goes_on_when_the_slot_that_it_waits_for_cannot_be_made() -> None:
    may_fail, making = threading.Event(), threading.Event()

    def make() -> FakeSlot:
        making.set()
        may_fail.wait()
        raise CudaError("out of memory")

    pool = Pool(1, make)
    taker = started(pool.take)
    making.wait()
    closers = [started(pool.close), started(pool.close)]
    for _ in closers:
        pool.closers.began.acquire()
    may_fail.set()
    assert isinstance(taker.exception(), CudaError)
    for closer in closers:
        closer.result()


def test_a_slot_that_refused_its_input_serves_on() -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    pool.give_after(slot, InputError("no such batch"))
    assert slot.recovered == 1
    assert pool.take() is slot


@pytest.mark.parametrize("error", [CudaError("lost"), SessionError("failed"), KeyboardInterrupt(), ValueError()])
def test_a_slot_that_failed_half_way_is_closed_and_replaced(error: BaseException) -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    pool.give_after(slot, error)
    assert slot.closed.is_set()
    assert pool.take() is not slot


@pytest.mark.parametrize("error", [CudaError("the device is lost"), KeyboardInterrupt()])
def test_a_slot_that_cannot_recover_is_closed_and_keeps_nobody(error: BaseException) -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    slot.fails_to_recover = error
    waiting = started(pool.take)
    pool.takers.began.acquire()
    with pytest.raises(type(error)):
        pool.give_after(slot, InputError("no such batch"))
    assert slot.closed.is_set()
    pool.give(waiting.result())
    pool.close()


def test_a_taker_that_is_interrupted_passes_its_turn_on() -> None:
    pool = Pool(1)
    slot = pool.take()
    wait = pool.takers.wait
    interrupted = threading.Event()

    def interrupted_wait(timeout: float | None = None) -> bool:
        wait(timeout)
        pool.takers.wait = wait  # type: ignore[method-assign]  # only the first to wait is interrupted
        interrupted.set()
        raise KeyboardInterrupt

    pool.takers.wait = interrupted_wait  # type: ignore[method-assign]
    first = started(pool.take)
    pool.takers.began.acquire()
    pool.takers.wait = wait  # type: ignore[method-assign]
    second = started(pool.take)
    pool.takers.began.acquire()
    pool.give(slot)
    assert isinstance(first.exception(), KeyboardInterrupt)
    assert second.result() is slot
    assert interrupted.is_set()


def test_a_forked_child_gets_no_slot_and_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    slot: Any = pool.take()
    pool.give(slot)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(SessionError, match="before this process was forked"):
        pool.take()
    pool.close()
    assert not slot.closed.is_set()
