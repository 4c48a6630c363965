"""Device memory for decoded images, with blocks that are only counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from yoloship.detect.gpu import image_memory
from yoloship.detect.gpu.image_memory import ImageMemory
from yoloship.errors import CudaError

STEP = 1 << 18


class Device:
    """Counts the blocks that are open; more than `total` bytes do not fit."""

    def __init__(self, total: int = 1 << 40) -> None:
        self.open: list[Block] = []
        self.made = 0
        self.total = total


class Block:
    def __init__(self, device: Device, size_bytes: int) -> None:
        self.size_bytes: int = size_bytes
        if sum(block.size_bytes for block in device.open) + size_bytes > device.total:
            raise CudaError("out of memory", code=2, name="CUDA_ERROR_OUT_OF_MEMORY")
        self.device = device
        device.open.append(self)
        device.made += 1

    def close(self) -> None:
        self.device.open.remove(self)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "DeviceBuffer", Block)


def make(device: Device, limit_bytes: int) -> ImageMemory:
    memory_of: Any = ImageMemory
    return memory_of(device, limit_bytes)  # type: ignore[no-any-return]  # the device is a stand-in


def take(memory: ImageMemory, size_bytes: int, *, urgent: bool = False) -> Any:
    """A block; None if there is no room."""
    return next(iter(memory.take([size_bytes], urgent=urgent)), None)


def test_blocks_are_taken_together_as_far_as_they_have_room_and_none_if_the_device_fails() -> None:
    device = Device()
    memory = make(device, 4 * STEP)
    blocks = memory.take([STEP, 2 * STEP, 1, 1])
    assert [block.size_bytes for block in blocks] == [STEP, 2 * STEP, STEP]
    assert (memory.used_blocks, memory.used_bytes) == (3, 4 * STEP)
    for block in blocks:
        memory.give(block)
    memory.close()
    assert (memory.used_blocks, device.open) == (0, [])


def test_blocks_that_are_not_in_use_can_be_freed() -> None:
    device = Device()
    memory = make(device, 4 * STEP)
    first, second = take(memory, STEP), take(memory, STEP)
    memory.give(second)
    assert memory.idle_bytes == STEP
    memory.free_idle()
    assert (memory.idle_bytes, memory.used_bytes, device.open) == (0, STEP, [first])


def test_a_block_is_used_again_for_an_image_of_about_the_same_size() -> None:
    device = Device()
    memory = make(device, 1 << 30)
    first = take(memory, 1000 * 1000 * 3)
    assert first is not None
    assert first.size_bytes >= 1000 * 1000 * 3
    memory.give(first)
    assert take(memory, 999 * 1000 * 3) is first
    assert device.made == 1


@pytest.mark.parametrize("size", [1, STEP, STEP + 1, 1000 * 1000 * 3, 6000 * 4000 * 3])
def test_a_block_is_large_enough_and_wastes_at_most_a_quarter_megabyte_or_a_seventh(size: int) -> None:
    block = take(make(Device(), 1 << 30), size)
    assert block is not None
    assert size <= block.size_bytes < size + max(STEP, size // 7)


def test_over_the_limit_there_is_no_room_until_a_block_is_given_back() -> None:
    memory = make(Device(), 2 * STEP)
    blocks = [take(memory, STEP), take(memory, STEP)]
    assert take(memory, 1) is None
    assert memory.used_bytes == 2 * STEP
    assert blocks[0] is not None
    memory.give(blocks[0])
    assert take(memory, 1) is blocks[0]


def test_who_cannot_wait_may_have_as_much_again() -> None:
    memory = make(Device(), STEP)
    assert [take(memory, STEP, urgent=True) is not None for _ in range(3)] == [True, True, False]


def test_an_image_that_is_larger_than_the_limit_gets_a_block_if_it_is_alone() -> None:
    memory = make(Device(), STEP)
    large = take(memory, 5 * STEP)
    assert large is not None
    assert take(memory, 1) is None


def test_idle_blocks_of_another_size_are_freed_when_the_limit_is_reached() -> None:
    device = Device()
    memory = make(device, 4 * STEP)
    for block in [take(memory, STEP), take(memory, STEP)]:
        assert block is not None
        memory.give(block)
    assert take(memory, 3 * STEP) is not None
    assert [block.size_bytes for block in device.open] == [3 * STEP]


def test_a_full_device_gives_what_is_left_after_idle_blocks_are_freed() -> None:
    device = Device(total=4 * STEP)
    memory = make(device, 1 << 30)
    first = take(memory, 2 * STEP)
    assert first is not None
    memory.give(first)
    assert take(memory, 3 * STEP) is not None
    assert take(memory, 2 * STEP) is None


def test_waiting_ends_when_a_block_is_given_back_by_another_thread() -> None:
    memory = make(Device(), STEP)
    block = take(memory, STEP)
    assert block is not None
    threading.Timer(0.05, memory.give, [block]).start()
    assert memory.wait()
    assert take(memory, STEP) is block


def test_nobody_waits_when_nothing_is_in_use_or_when_it_is_closed() -> None:
    memory = make(Device(), STEP)
    assert not memory.wait()
    assert take(memory, STEP) is not None
    threading.Timer(0.05, memory.close).start()
    assert not memory.wait()
    assert take(memory, STEP) is None


def test_closing_frees_what_is_idle_at_once_and_the_rest_when_it_is_given_back() -> None:
    device = Device()
    memory = make(device, 1 << 30)
    idle, used = take(memory, STEP), take(memory, STEP)
    assert idle is not None
    assert used is not None
    memory.give(idle)
    memory.close()
    assert len(device.open) == 1
    memory.give(used)
    memory.close()
    assert device.open == []
