"""How much time lies between two frames: `Clock`. All rules about times are here.

| the time of a frame is | the tracker's clock |
| --- | --- |
| not known | goes on by one frame, and so does the latest time |
| the first of its stream | goes on by one frame |
| later than the latest | goes on by the difference |
| equal to the latest | stays |
| earlier, by at most `LATE_S` | stays; the frame came late, and the latest time remains |
| earlier by more | goes on by one frame; the camera's clock began again, and this is the latest time now |
| not a finite number | is refused |
"""

from __future__ import annotations

import math
from typing import Final

from yoloship.errors import InputError

LATE_S: Final = 1.0
"""Frames that are older than the latest by at most this came late; otherwise the clock began again."""
USUAL_RATE: Final = 30.0
"""Frames in a second, if nobody knows: that of the videos for which ByteTrack's numbers were chosen."""
LONGEST: Final = 1e9
"""Frames: no object waits for so long, and sums of steps stay exact."""
SLOWEST, FASTEST = 0.1, 1000.0
"""Frames in a second that a video can have. Containers that say something else do not know it."""


class Clock:
    """Turns the times of a stream's frames into steps, counted in frames of the nominal rate.

    Args:
        rate: Frames in a second; None takes `USUAL_RATE`.

    Attributes:
        rate: The nominal rate.
        is_timed: Whether the last frame had a time.
    """

    def __init__(self, rate: float | None = None) -> None:
        self.rate = USUAL_RATE if rate is None else rate
        self.is_timed = False
        self._latest_s: float | None = None

    def step(self, time_s: float | None) -> float:
        """The frames that have passed since the call before; 1 is one nominal frame.

        Args:
            time_s: The time of this frame in seconds, from any beginning; None if it is not known.

        Raises:
            InputError: it is not a finite number.
        """
        self.is_timed = time_s is not None
        latest = self._latest_s
        if time_s is None:
            self._latest_s = None if latest is None else latest + 1 / self.rate
            return 1.0
        if not math.isfinite(time_s):
            raise InputError("is not a time", subject="time_s", expected="seconds, or None", got=repr(time_s))
        if latest is not None and latest - LATE_S <= time_s <= latest:
            return 0.0
        self._latest_s = time_s
        if latest is None or time_s < latest:
            return 1.0
        return min((time_s - latest) * self.rate, LONGEST)


def usable_rate(rate: float | None) -> float | None:
    """A rate that a container gives; None if it cannot be one."""
    return float(rate) if rate is not None and SLOWEST <= rate <= FASTEST else None
