"""Many servers at once, in arrays: a day of a billion images in minutes.

A dispatcher that chooses by chance gives each server a Poisson stream of its own, so servers need not know of each
other. Each row of the arrays is one server for one stretch of the day, begun a little earlier so that it is not empty,
and each step gives every row its next run. The rules are those of the server: the run that is free first takes the
largest possible batch of what is decoded, at most as many images are under way as there are slots, and an image has no
room if the one that came `room` images before it has no answer yet. Such images are counted and still answered, so
beyond its limits the simulation is gloomier than the server. `_server_model.simulate` is the exact one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from _server_model import Server, Wanted

    Floats = npt.NDArray[np.float64]

_LEAST_S, _BINS_A_DECADE, _DECADES = 1e-4, 500, 6


@dataclass(slots=True)
class Counted:
    """What became of the images.

    Attributes:
        bins: Answers by latency, in bins of equal ratio.
        without_room: Images that found no room.
        runs: How many runs there were.
    """

    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS_A_DECADE * _DECADES, np.int64))
    without_room: int = 0
    runs: int = 0

    @property
    def images(self) -> int:
        """Images that were counted."""
        return int(self.bins.sum())

    def add(self, latencies_s: Floats) -> None:
        """Count answers."""
        places = (np.log10(latencies_s / _LEAST_S) * _BINS_A_DECADE).astype(np.int64)
        self.bins += np.bincount(np.clip(places, 0, self.bins.size - 1), minlength=self.bins.size)

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came: the upper end of its bin, 0.5 % wide."""
        place = int(np.searchsorted(np.cumsum(self.bins), share * self.images))
        return float(_LEAST_S * 10 ** ((place + 1) / _BINS_A_DECADE))

    def is_good(self, wanted: Wanted, share: float = 0.99) -> bool:
        """Whether it is what was wanted."""
        return self.percentile(share) <= wanted.p99_s and self.without_room <= wanted.refused * self.images


@dataclass(frozen=True)
class Day:
    """How the rate of all servers together goes up and down; `times_s` and `expected` are ascending.

    Attributes:
        times_s: Moments.
        expected: Images that are expected before each of them.
    """

    times_s: Floats
    expected: Floats

    @classmethod
    def steady(cls, rate: float, seconds: float) -> Day:
        """The same rate all the time."""
        times_s = np.array([-3600.0, seconds + 3600])
        return cls(times_s, times_s * rate)

    @classmethod
    def diurnal(cls, images: float, peak: float) -> Day:
        """A day and a night: the rate is a cosine, `peak` times its mean at 14:00.

        Raises:
            ValueError: the night would have less than no images.
        """
        if not 1 <= peak <= 2:
            raise ValueError("the peak of a cosine is 1 to 2 times its mean")
        times_s = np.arange(-3600.0, 25 * 3600 + 1, 10)
        rate = images / 86400 * (1 + (peak - 1) * np.cos(2 * np.pi * (times_s / 3600 - 14) / 24))
        expected = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(times_s))])
        return cls(times_s, expected - np.interp(0, times_s, expected))


def simulate_rows(
    server: Server, day: Day, seconds: float, servers: int, *, rows: int = 8000, seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
) -> Counted:  # fmt: skip
    """Simulate every server for the whole time.

    Args:
        server: What each of them is.
        day: The rate of all together.
        seconds: How long.
        servers: How many; each gets its part by chance.
        rows: About how many rows to simulate at once.
        seed: Of the arrivals.
        progress: Called with the share that is done.
    """
    each = float(np.interp(seconds, day.times_s, day.expected)) / servers
    warm = 4.0 * server.room
    stretches = max(1, min(round(rows / servers), math.floor(each / (10 * warm))))
    begins = np.tile(np.arange(stretches) * each / stretches, servers)
    moments = Day(day.times_s, day.expected / servers)
    return _Rows(server, moments, begins, each / stretches, warm, seed).run(progress)


class _Rows:
    """The state of all rows."""

    def __init__(self, server: Server, day: Day, begins: Floats, length: float, warm: float, seed: int) -> None:
        self._server, self._day = server, day
        self._begins, self._ends = begins, begins + length
        self._chance = np.random.default_rng(seed)
        rows = self._rows = begins.size
        sizes = [size for size in server.batches if size <= server.slots] or [server.batches[0]]
        self._sizes = np.array(sizes)
        self._width = max(256, 8 * sizes[-1], 4 * server.readers)
        self._free = np.full((rows, server.runs), -np.inf)
        self._read = np.full((rows, server.readers), -np.inf)  # when the last images were decoded
        self._left = np.full((rows, server.room), -np.inf)  # when the last images had their answers
        self._slots = np.full((rows, server.slots), -np.inf)  # when slots become free, ascending
        self._served = np.zeros(rows, np.int64)
        self._next = np.full(rows, self._width)
        self._expected = np.broadcast_to((begins - warm)[:, None], (rows, self._width)).copy()
        self._came = np.full((rows, self._width), -np.inf)
        self._counted = Counted()

    def run(self, progress: Callable[[float], None]) -> Counted:
        """Simulate to the end."""
        total = float((self._ends - self._expected[:, -1]).sum())
        while True:
            self._refill()
            first = self._expected[:, 0]
            left = float(np.maximum(self._ends - first, 0).sum())
            progress(1 - left / total)
            if not left:
                return self._counted
            while self._step():
                pass

    def _refill(self) -> None:
        """Move what is left to the front, and let new images come behind it.

        Images that had come behind the width are forgotten: those of a Poisson stream do not depend on the past.
        """
        width = self._width
        place = self._next[:, None] + np.arange(width)
        old = np.take_along_axis(self._expected, np.minimum(place, width - 1), 1)
        gaps = np.where(place < width, 0, self._chance.standard_exponential((self._rows, width)))
        self._expected = old + np.cumsum(gaps, 1)
        self._came = np.interp(self._expected, self._day.expected, self._day.times_s)
        self._next[:] = 0

    def _step(self) -> bool:
        """Begin the next run of each row that has all the images it could take; whether there was one."""
        act = np.flatnonzero(self._next + self._sizes[-1] <= self._width)
        if not act.size:
            return False
        if self._sizes.size == 1:
            self._run(act, self._sizes[-1])
            return True
        few = self._sizes[1]  # most rows have no more than this while there is little to do
        _, ready, start, _ = self._look(act, few)
        is_alone = np.count_nonzero(ready <= start[:, None], axis=1) < few
        for rows, width in ((act[is_alone], 1), (act[~is_alone], self._sizes[-1])):
            if rows.size:
                self._run(rows, width)
        return True

    def _look(self, act: Any, width: int) -> tuple[Floats, Floats, Floats, Any]:
        """When the next images came and are decoded, when the next run can begin, and in which thread."""
        server, window = self._server, np.arange(width)
        came = self._came[act[:, None], self._next[act, None] + window]
        begin = np.maximum(came, self._slots[act, :width])
        last = self._read[act[:, None], (self._served[act, None] + window[: server.readers]) % server.readers]
        ready = np.empty_like(came)
        for left in range(0, width, server.readers):
            part = begin[:, left : left + server.readers]
            last = np.maximum(part, last[:, : part.shape[1]]) + server.decode_s
            ready[:, left : left + server.readers] = last
        free = self._free[act]
        which = np.argmin(free, 1)
        return came, ready, np.maximum(free[np.arange(act.size), which], ready[:, 0]), which

    def _run(self, act: Any, width: int) -> None:
        """Begin the next run, of at most `width` images, of these rows."""
        server, window = self._server, np.arange(width)
        came, ready, start, which = self._look(act, width)
        waiting = np.count_nonzero(ready <= start[:, None], axis=1)
        size = self._sizes[np.searchsorted(self._sizes, waiting, "right") - 1]
        end = start + server.per_image_s * size + server.per_run_s
        self._free[act, which] = end
        taken = window < size[:, None]
        expected = self._expected[act[:, None], self._next[act, None] + window]
        counts = taken & (expected >= self._begins[act, None]) & (expected < self._ends[act, None])
        images = self._served[act, None] + window
        ring = (act[:, None], images % server.room)
        before = self._left[ring]
        self._counted.without_room += int(np.count_nonzero(counts & (before > came)))
        self._counted.runs += int(np.count_nonzero(counts[:, 0]))
        self._counted.add((end[:, None] - came)[counts])
        self._left[ring] = np.where(taken, end[:, None], before)
        self._slots[act] = _with(self._slots[act], np.where(taken, end[:, None], -np.inf))
        self._keep(act, images, ready, taken)
        self._next[act] += size
        self._served[act] += size

    def _keep(self, act: Any, images: Any, ready: Floats, taken: Any) -> None:
        """Note when the images of a run were decoded."""
        readers = self._server.readers
        for left in range(0, ready.shape[1], readers):
            part = slice(left, left + readers)
            ring = (act[:, None], images[:, part] % readers)
            self._read[ring] = np.where(taken[:, part], ready[:, part], self._read[ring])


def _with(ascending: Floats, more: Floats) -> Floats:
    """The largest values of each row, after more have come."""
    if more.shape[1] > 1:
        return np.sort(np.concatenate([ascending, more], 1), 1)[:, more.shape[1] :]
    placed = np.maximum(ascending, more)
    placed[:, :-1] = np.maximum(ascending[:, :-1], np.minimum(ascending[:, 1:], more))
    return placed
