"""Batches of several streams, ordered on the device: `Turns`."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship.cuda.stream import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.cuda.device import Device
    from yoloship.cuda.stream import StreamCalls


class Turns(Closing):
    """Lets only a few batches be at the same work on the device, in the order in which it was queued.

    A GPU divides itself among all streams that have work. So batches that begin together also end together: then all
    of them upload at the same time, and nothing is computed meanwhile. In turns, some upload while others compute.
    The device waits, not the host.

    Args:
        device: Where the batches run.
        abreast: How many batches may be at it at once; 0 sets no limit.
    """

    def __init__(self, device: Device, abreast: int) -> None:
        self._lock = threading.Lock()
        self._next = 0
        with ExitStack() as stack:
            self._ends = [stack.enter_context(Event(device)) for _ in range(abreast)]
            self._owned = stack.pop_all()

    @contextmanager
    def turn(self, calls: StreamCalls) -> Iterator[None]:
        """What is queued on the stream inside the block begins when its turn has come.

        Args:
            calls: Of the batch's stream, entered. No other thread queues a turn meanwhile.
        """
        if not self._ends:
            yield
            return
        with self._lock:
            end = self._ends[self._next]
            calls.hold(end)  # of the batch that had this event before; nothing if none has
            try:
                yield
            finally:
                calls.record(end)
                self._next = (self._next + 1) % len(self._ends)

    def close(self) -> None:
        """Give the events back. Closing twice is not an error."""
        self._owned.close()
