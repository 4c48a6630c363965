"""Which images run in which batch while some sizes are ready and others are not, on slots that only remember."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from yoloship.detect.gpu import readiness
from yoloship.detect.gpu.readiness import Readiness
from yoloship.detect.gpu.slots import SlotPool
from yoloship.detect.options import DetectOptions
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.timeout(20)  # of what hangs if it fails; nothing here depends on how fast it goes

SIZES = (1, 4, 16, 32)
HW = (64, 64)
OPTIONS = DetectOptions()


class Slot:
    """Takes as long to make a batch ready as the test wants."""

    def __init__(self, ready: Iterable[int] = ()) -> None:
        self.ready = frozenset((batch, HW) for batch in ready)
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        self.fails: Exception | None = None

    def prepare(self, batch: int, input_hw: tuple[int, int], _: DetectOptions) -> None:
        self.begun.set()
        self.may_end.wait()
        if self.fails:
            raise self.fails
        self.ready |= {(batch, input_hw)}

    def close(self) -> None:
        pass


class Rig:
    def __init__(self, *slots: Slot, made: int = 0) -> None:
        """Slots, of which the first `made` are there already."""
        waiting: Any = iter(slots)
        self.pool = SlotPool(lambda: next(waiting), len(slots), "m")
        for slot in [self.pool.take() for _ in range(made)]:
            self.pool.give(slot)
        self.readiness = Readiness(self.pool, SIZES, lambda size: size)

    def run(self, images: int) -> tuple[Any, int]:
        slot, batch = self.readiness.take(images, HW, OPTIONS)
        self.pool.give(slot)
        return slot, batch


def wait_until_none_is_made() -> None:
    for thread in threading.enumerate():
        if thread.name == "yoloship-ready":
            thread.join()


@pytest.mark.parametrize(
    ("waiting", "taken"), [(1, 1), (2, 1), (3, 3), (4, 4), (11, 4), (12, 12), (23, 16), (24, 24), (31, 31), (90, 32)]
)
def test_a_run_takes_what_fills_it_or_nearly(waiting: int, taken: int) -> None:
    assert Rig(Slot(SIZES), made=1).readiness.count(waiting, HW, OPTIONS) == taken
    assert Rig(Slot()).readiness.count(waiting, HW, OPTIONS) == taken


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1,)), (3, (1, 4)), (11, (1, 4)), (12, (1, 4, 16)), (24, (1, 4, 16, 32)), (99, SIZES)],
)
def test_so_many_images_may_need_these_sizes(most: int, sizes: tuple[int, ...]) -> None:
    readiness = Rig(Slot(SIZES), made=1).readiness
    assert readiness.sizes_of(most) == sizes
    for waiting in range(1, most + 1):
        assert any(size >= readiness.count(waiting, HW, OPTIONS) for size in sizes)


def test_sizes_between_are_used_if_they_are_ready_and_not_missed_otherwise() -> None:
    waiting = (1, 5, 6, 8, 11, 12, 16)
    with_8, without = Rig(Slot((1, 4, 8, 16)), made=1), Rig(Slot((1, 4, 16)), made=1)
    for rig in (with_8, without):
        rig.readiness = Readiness(rig.pool, SIZES, lambda size: size, (8,))
    assert [with_8.readiness.count(one, HW, OPTIONS) for one in waiting] == [1, 4, 6, 8, 8, 12, 16]
    assert with_8.run(6)[1] == 8
    for _ in range(readiness._ENOUGH + 1):
        assert [without.readiness.count(one, HW, OPTIONS) for one in waiting] == [1, 4, 4, 4, 4, 12, 16]
    wait_until_none_is_made()
    (slot,) = without.pool.slots()
    assert {size for size, _ in slot.ready} == {1, 4, 16}
    assert with_8.readiness.sizes_of(8) == (1, 4, 8)
    assert with_8.readiness.sizes_of(99) == (1, 4, 8, 16, 32)


def test_images_run_in_what_is_ready_whatever_would_suit_them_better() -> None:
    large = Rig(Slot([32]), Slot(), made=1)
    assert [large.readiness.count(waiting, HW, OPTIONS) for waiting in (1, 5, 32, 40)] == [1, 5, 32, 32]
    assert [large.run(images)[1] for images in (1, 5, 32)] == [32, 32, 32]
    small = Rig(Slot([1]), Slot(), made=1)
    assert [small.readiness.count(waiting, HW, OPTIONS) for waiting in (1, 5)] == [1, 1]


def test_another_canvas_is_not_ready() -> None:
    rig = Rig(Slot([32]), made=1)
    assert rig.readiness.count(5, (32, 32), OPTIONS) == 4
    slot, batch = rig.readiness.take(5, (32, 32), OPTIONS)
    rig.pool.give(slot)
    assert batch == 16


def test_images_wait_for_what_is_being_made_ready_if_it_will_fit() -> None:
    slot = Slot()
    slot.may_end.clear()
    rig = Rig(slot, Slot())
    rig.readiness.begin(30, HW, OPTIONS)
    found: list[tuple[Any, int]] = []
    waiting = threading.Thread(target=lambda: found.append(rig.run(3)), daemon=True)
    waiting.start()
    slot.begun.wait()
    waiting.join(0.05)
    assert not found
    slot.may_end.set()
    waiting.join()
    assert found == [(slot, 32)]


def test_what_could_not_be_made_ready_is_left_to_who_needs_it(caplog: pytest.LogCaptureFixture) -> None:
    slot = Slot()
    slot.fails = CudaError("out of memory", code=2)
    rig = Rig(slot, Slot())
    with caplog.at_level("INFO", "yoloship.detect"):
        rig.readiness.begin(32, HW, OPTIONS)
        wait_until_none_is_made()
    assert "runs of 32 images are not ready: out of memory" in caplog.text
    other, batch = rig.run(3)
    assert other is not slot
    assert batch == 4


def test_for_a_long_stream_as_many_slots_are_made_ready_as_keep_the_gpu_busy() -> None:
    slots = [Slot() for _ in range(4)]
    rig = Rig(*slots)
    rig.readiness.begin(8 * 32, HW, OPTIONS)
    wait_until_none_is_made()
    assert [slot.ready for slot in slots] == [{(32, HW)}] * 2 + [set()] * 2
    rig.readiness.begin(8 * 32 - 1, HW, OPTIONS)
    wait_until_none_is_made()
    assert not slots[2].ready


def test_what_is_missed_often_is_made_ready_beside() -> None:
    rig = Rig(Slot([1]), Slot(), made=1)
    for _ in range(readiness._ENOUGH):
        assert rig.readiness.count(4, HW, OPTIONS) == 1
    wait_until_none_is_made()
    assert rig.readiness.count(4, HW, OPTIONS) == 4
    assert rig.run(4)[1] == 4


def test_slots_that_are_waited_for_often_get_company_until_all_are_alike() -> None:
    slots = Slot([32]), Slot()
    rig = Rig(*slots, made=1)
    for _ in range(readiness._ENOUGH):
        slot, _ = rig.readiness.take(32, HW, OPTIONS)
        waiting = threading.Thread(target=lambda: rig.run(32), daemon=True)
        waiting.start()
        while not rig.pool._free._waiters:  # type: ignore[attr-defined]  # it has no public sign of its waiters
            pass
        rig.pool.give(slot)
        waiting.join()
    wait_until_none_is_made()
    assert all((32, HW) in slot.ready for slot in slots)
    assert not rig.pool.any_lacks(lambda slot: (32, HW) not in slot.ready)
    assert rig.pool.take_lacking(lambda slot: (32, HW) not in slot.ready) is None


@pytest.mark.parametrize(("are_resident", "in_the_end"), [(True, 2), (False, 3)])
def test_images_on_the_device_get_no_more_slots_than_keep_it_busy(are_resident: bool, in_the_end: int) -> None:
    slots = [Slot([32]) for _ in range(2)]
    rig = Rig(*slots, Slot(), made=2)
    for _ in range(readiness._ENOUGH):
        taken = [rig.readiness.take(32, HW, OPTIONS)[0] for _ in slots]

        def wait() -> None:
            rig.pool.give(rig.readiness.take(32, HW, OPTIONS, are_resident=are_resident)[0])

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        while not rig.pool._free._waiters:  # type: ignore[attr-defined]  # it has no public sign of its waiters
            pass
        for slot in taken:
            rig.pool.give(slot)
        waiting.join()
    wait_until_none_is_made()
    assert sum((32, HW) in slot.ready for slot in rig.pool.slots()) == in_the_end


def test_closing_lets_those_go_who_wait_for_a_slot_that_suits() -> None:
    rig = Rig(Slot([32]), made=1)
    slot, _ = rig.readiness.take(32, HW, OPTIONS)
    said: list[str] = []

    def work() -> None:
        try:
            rig.run(32)
        except Exception as error:
            said.append(str(error))

    waiting = threading.Thread(target=work, daemon=True)
    waiting.start()
    closing = threading.Thread(target=rig.pool.close, daemon=True)
    closing.start()
    waiting.join()
    rig.pool.give(slot)
    closing.join()
    assert said == ["m: the detector is closed"]
