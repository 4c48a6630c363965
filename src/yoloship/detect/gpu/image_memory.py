"""Device memory for decoded images, which is used again and again: `ImageMemory`."""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import Closing
from yoloship.cuda.buffers import DeviceBuffer
from yoloship.cuda.device import OUT_OF_MEMORY
from yoloship.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.cuda.device import Device


_SMALLEST_STEP: Final = 18
"""Sizes are rounded up to whole steps of 256 KiB; of large blocks to an eighth of the power of two below."""
_POLL_S: Final = 0.05
_PATIENCE_S: Final = 1.0


class ImageMemory(Closing):
    """Blocks of device memory, each for one image. To allocate a block for every image would stop the device each time.

    Any thread may give a block back, also the garbage collector in the midst of something else: giving back waits for
    no lock. Blocks that are in use when it is closed are freed when they are given back.

    Args:
        device: The device.
        limit_bytes: The most in all blocks together, except that an image which needs more gets it if no other block is
            in use.
    """

    def __init__(self, device: Device, limit_bytes: int) -> None:
        self._device = device
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._back: SimpleQueue[DeviceBuffer] = SimpleQueue()
        self._idle: dict[int, deque[DeviceBuffer]] = {}
        self._idle_bytes = self._used_bytes = 0
        self._used_blocks = 0
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that are in use."""
        with self._lock:
            self._take_back()
            return self._used_bytes

    @property
    def used_blocks(self) -> int:
        """Blocks that are in use."""
        with self._lock:
            self._take_back()
            return self._used_blocks

    @property
    def idle_bytes(self) -> int:
        """Bytes of the blocks that are kept for later."""
        with self._lock:
            self._take_back()
            return self._idle_bytes

    def free_idle(self) -> None:
        """Free the blocks that are not in use. If there are any, the device stops for a moment."""
        with self._lock:
            self._free_all()

    def take(self, sizes_bytes: Sequence[int], *, urgent: bool = False) -> list[DeviceBuffer]:
        """Blocks of at least these sizes, as many from the first on as there is room for now.

        Args:
            sizes_bytes: Each 1 or more.
            urgent: Whether the limit counts double, for who cannot wait until blocks are given back.

        Raises:
            CudaError: the device failed. No block was taken.
        """
        blocks: list[DeviceBuffer] = []
        with self._lock:
            self._take_back()
            try:
                for size_bytes in sizes_bytes:
                    size = _rounded(size_bytes)
                    block = self._block(size, urgent=urgent)
                    if block is None:
                        break
                    self._used_bytes += size
                    self._used_blocks += 1
                    blocks.append(block)
            except BaseException:
                for block in blocks:
                    self._keep(block)
                raise
        return blocks

    def _block(self, size: int, *, urgent: bool) -> DeviceBuffer | None:
        """A block of this size, if there is room; the lock is held."""
        alike = self._idle.get(size)
        if alike:
            self._idle_bytes -= size
            return alike.pop()
        limit = self._limit_bytes * (2 if urgent else 1)
        if self._closed or (self._used_bytes and self._used_bytes + size > limit):
            return None
        if self._used_bytes + self._idle_bytes + size > self._limit_bytes:
            self._free_idle()
        block = self._allocated(size)
        if block is None and self._idle_bytes:
            self._free_idle()
            block = self._allocated(size)
        return block

    def give(self, block: DeviceBuffer) -> None:
        """Give a block back. All work that reads it is done."""
        if self._closed:
            block.close()
            return
        self._back.put(block)
        if self.is_closed and self._lock.acquire(timeout=_PATIENCE_S):  # it was closed in between
            try:
                self._free_all()
            finally:
                self._lock.release()

    def wait(self) -> bool:
        """Wait until a block is given back. False if none is in use, or if the memory is closed."""
        while not self._closed:
            before = self.used_bytes
            if not before:
                return False
            try:
                block = self._back.get(timeout=_POLL_S)
            except Empty:
                if self.used_bytes < before:  # somebody who takes a block has seen to what was given back
                    return True
                continue
            with self._lock:
                self._keep(block)
            return True
        return False

    def close(self) -> None:
        """Free all that is not in use, and let nobody wait any longer. Closing twice is not an error."""
        self._closed = True
        with self._lock:
            self._free_all()

    def _free_all(self) -> None:
        self._take_back()
        self._free_idle()

    def _take_back(self) -> None:
        while True:
            try:
                block = self._back.get_nowait()
            except Empty:
                return
            self._keep(block)

    def _keep(self, block: DeviceBuffer) -> None:
        size = block.size_bytes
        self._used_bytes -= size
        self._used_blocks -= 1
        self._idle_bytes += size
        self._idle.setdefault(size, deque()).append(block)

    def _free_idle(self) -> None:
        idle, self._idle, self._idle_bytes = self._idle, {}, 0
        for blocks in idle.values():
            for block in blocks:
                block.close()

    def _allocated(self, size: int) -> DeviceBuffer | None:
        try:
            return DeviceBuffer(self._device, size)
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            return None


def _rounded(size_bytes: int) -> int:
    """The size of the block for so many bytes: few different ones, so that images of similar sizes share blocks."""
    step = 1 << max(_SMALLEST_STEP, size_bytes.bit_length() - 4)
    return -(-size_bytes // step) * step
