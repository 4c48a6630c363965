"""The time of each frame of a stream, from its presentation times: `Clock`, which never goes back."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

GLITCH_S: Final = 1
"""Seconds by which a time may go back without being taken for the joint of two recordings: after damage, a decoder may
give a frame late."""
_FALLBACK: Final = Fraction(1, 25)
"""Seconds between two frames if nothing else is known; FFmpeg assumes the same."""


class Clock:
    """Turns presentation times into seconds since the first frame.

    A time that jumps far back, as where two recordings join, continues after the previous frame. One that goes a
    little back is that of a late frame, which gets the time of the frame before it. A frame without a time comes one
    frame after the frame before it.

    Args:
        time_base: Seconds of one unit of a presentation time; None if there are none.
        rate: Declared frames per second; None if unknown.
    """

    def __init__(self, time_base: Fraction | None, rate: Fraction | None) -> None:
        step = 1 / rate if rate else _FALLBACK
        base = time_base or step
        # All times are whole numbers of one unit, which is much faster than with fractions and as exact.
        self._units_per_s = math.lcm(base.denominator, step.denominator)
        self._base: int | None = None if time_base is None else int(time_base * self._units_per_s)
        self._step = int(step * self._units_per_s)
        self._glitch = GLITCH_S * self._units_per_s
        self._zero: int | None = None
        self._last: int | None = None

    def time_s(self, pts: int | None) -> float:
        """The time of the next frame in seconds.

        Args:
            pts: Its presentation time; None if it has none.
        """
        last = self._last or 0
        expected = 0 if self._last is None else last + self._step
        if pts is None or self._base is None:
            time = expected
        else:
            stated = pts * self._base
            if self._zero is None or stated - self._zero < last - self._glitch:
                self._zero = stated - expected
            time = max(stated - self._zero, last)
        self._last = time
        return time / self._units_per_s

    def broken_s(self, pts: int | None) -> float:
        """The time of a broken frame, which says nothing about those that follow.

        Args:
            pts: Its presentation time; None if it has none. Broken frames come where they were found, which may be
                before frames that are shown earlier.
        """
        if pts is None or self._base is None:
            return self.time_s(None)
        return 0.0 if self._zero is None else max(0, pts * self._base - self._zero) / self._units_per_s
