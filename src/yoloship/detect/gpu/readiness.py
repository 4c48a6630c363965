"""Which batch sizes are ready, how many images the next run takes, and more sizes in the background: `Readiness`."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from yoloship.errors import YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yoloship.detect.gpu.slots import Slot, SlotPool
    from yoloship.detect.options import DetectOptions

    Key = tuple[int, tuple[int, int]]
    """The network's batch, and (height, width) of the canvas."""


_ENOUGH: Final = 64
"""Runs that did without a size, or waited for a slot that has it, before it is made ready. Each of them loses some
milliseconds, and to make a size ready takes some hundred, in which all others are slower."""

_AT_ONCE: Final = 2
"""Runs that keep the device nearly busy if their images lie there: one computes, and one begins or ends. A third makes
an H200 2 % faster, and to make it ready takes as long as running 1,000 images."""
_MANY: Final = 8
"""Runs of a stream that are worth making more than one slot ready for."""

_logger = logging.getLogger("yoloship.detect")


class Readiness:
    """Lets waiting images run in what is ready, and makes ready what they lack, beside them.

    To make a size ready can take longer than hundreds of runs. So images run in a larger batch that is ready, which
    repeats the first of them, or in several smaller ones. They wait only if nothing is ready.

    Args:
        pool: The slots.
        sizes: Numbers of images that a run of waiting images may have, ascending from 1.
        batch_of: From a number of images to the network's batch.
        between: More such numbers, which are used if they are ready: with them, images of live streams wait less.
    """

    def __init__(
        self, pool: SlotPool, sizes: Sequence[int], batch_of: Callable[[int], int], between: Sequence[int] = ()
    ) -> None:
        self._pool = pool
        self._sizes = sizes
        self._all_sizes = sorted({*sizes, *between})
        self._batch_of = batch_of
        self._lock = threading.Lock()
        self._lacked: Counter[Key] = Counter()
        self._coming: frozenset[Key] = frozenset()

    def count(self, waiting: int, input_hw: tuple[int, int], options: DetectOptions) -> int:
        """How many of the images that wait the next run should take.

        Args:
            waiting: Images of one kind, 1 or more.
            input_hw: (height, width) of their canvas.
            options: What to keep of their answers.
        """
        waiting = min(waiting, self._sizes[-1])
        there = {key for slot in self._pool.slots() for key in slot.ready}
        ready = [size for size in self._all_sizes if (self._batch_of(size), input_hw) in there]
        wanted, size = _filled(waiting, sorted({*self._sizes, *ready}))
        if not ready or size in ready:
            return wanted
        self._lack((self._batch_of(size), input_hw), options)
        return _filled(waiting, ready)[0]

    def take(
        self, images: int, input_hw: tuple[int, int], options: DetectOptions, *, are_resident: bool = False
    ) -> tuple[Slot, int]:
        """A slot for a run of waiting images, as `SlotPool.take`, and the network's batch.

        Args:
            images: Of the run.
            input_hw: (height, width) of their canvas.
            options: What to keep of their answers.
            are_resident: Whether they lie on the device. Then nothing is gained if more runs wait there than keep it
                busy, and each takes memory.
        """

        def fits(key: Key) -> bool:
            return key[0] >= images and key[1] == input_hw

        slot, waited = self._pool.take_if(
            lambda slot: any(map(fits, slot.ready)), comes=lambda: any(map(fits, self._coming))
        )
        if slot is None:
            batch = self._batch_of(next(size for size in self._sizes if size >= images))
            return self._pool.take(), batch
        batch = min(key[0] for key in slot.ready if fits(key))
        if waited and not (are_resident and self._ready((batch, input_hw)) >= _AT_ONCE):
            self._lack((batch, input_hw), options)
        return slot, batch

    def begin(self, images: int, input_hw: tuple[int, int], options: DetectOptions) -> None:
        """Make a size ready in the background, for as many runs at once as keep the device busy.

        Images that fit wait for the first of them.

        Args:
            images: That are about to come.
            input_hw: (height, width) of the canvas.
            options: What the runs will keep.
        """
        size = next((size for size in self._sizes if size >= images), self._sizes[-1])
        key = (self._batch_of(size), input_hw)
        slots = 1 if images < _MANY * size else _AT_ONCE
        lacking = slots - self._ready(key)
        if lacking > 0:
            self._begin(key, options, lacking)

    def sizes_of(self, most: int) -> tuple[int, ...]:
        """The sizes of the runs that so many waiting images or fewer should have.

        Args:
            most: Images, 1 or more.
        """
        sizes = self._all_sizes
        return tuple(sorted({_filled(waiting, sizes)[1] for waiting in range(1, min(most, sizes[-1]) + 1)}))

    def _ready(self, key: Key) -> int:
        """How many slots have a size ready."""
        return sum(key in slot.ready for slot in self._pool.slots())

    def _lack(self, key: Key, options: DetectOptions) -> None:
        with self._lock:
            self._lacked[key] += 1
            is_enough = self._lacked[key] % _ENOUGH == 0
        if is_enough and self._pool.any_lacks(lambda slot: key not in slot.ready):
            self._begin(key, options)

    def _begin(self, key: Key, options: DetectOptions, slots: int = 1) -> None:
        with self._lock:
            if key in self._coming:
                return
            self._coming |= {key}
        # Not a daemon: a process must not end in the middle of a runtime's setup.
        threading.Thread(target=self._make, args=(key, options, slots), name="yoloship-ready").start()

    def _make(self, key: Key, options: DetectOptions, slots: int) -> None:
        batch, input_hw = key
        try:
            for _ in range(slots):
                slot = self._pool.take_lacking(lambda slot: key not in slot.ready)
                if slot is None:
                    return
                try:
                    _logger.info("making runs of %d images ready", batch)
                    slot.prepare(batch, input_hw, options)
                except BaseException as error:
                    self._pool.give_after(slot, error)
                    raise
                self._pool.give(slot)
        except YoloshipError as error:  # whoever needs it makes it ready, and gets the error
            _logger.info("runs of %d images are not ready: %s", batch, error)
        finally:
            with self._lock:
                self._coming -= {key}
            self._pool.look_again()


def _filled(waiting: int, sizes: Sequence[int]) -> tuple[int, int]:
    """How many images to take, and in a run of which size: one that they fill for three quarters at least.

    Args:
        waiting: Images that wait.
        sizes: To choose from, ascending.
    """
    smaller = max((size for size in sizes if size <= waiting), default=0)
    larger = next((size for size in sizes if size >= waiting), 0)
    if larger and (not smaller or 4 * waiting >= 3 * larger):
        return waiting, larger
    return smaller, smaller
