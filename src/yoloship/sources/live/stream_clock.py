"""The time of a frame by the source's own clock, across resets of that clock and across reconnects."""

from __future__ import annotations

from typing import Final

MAX_DRIFT_S: Final = 5.0
"""A step of the source's clock may differ from the wall clock's by this much; a larger one is a reset."""


class StreamClock:
    """Gives each frame its seconds since the first frame; they always grow.

    Within a connection, the source's clock counts. Where it cannot, the time that passed here is added instead: after
    a reconnect, after a jump of the source's clock in either direction, and for frames without a time.
    """

    def __init__(self) -> None:
        self._time_s: float | None = None
        self._source_s: float | None = None
        self._arrival_s = 0.0

    def restart(self) -> None:
        """A new connection begins, whose clock has nothing to do with the last one's."""
        self._source_s = None

    def time_of(self, source_s: float | None, arrival_s: float) -> float:
        """The time of the next frame.

        Args:
            source_s: Seconds by the source's clock, from any origin; None if the frame has no time.
            arrival_s: When it arrived, by a clock of this machine that never goes back.

        Returns:
            Seconds since the first frame, always more than those of the frame before.
        """
        if self._time_s is None:
            self._time_s = 0.0
        else:
            passed = max(arrival_s - self._arrival_s, 0.0)
            step = passed
            if source_s is not None and self._source_s is not None:
                by_source = source_s - self._source_s
                if 0 < by_source <= passed + MAX_DRIFT_S:
                    step = by_source
            self._time_s += max(step, _LEAST_STEP_S)
        self._source_s, self._arrival_s = source_s, arrival_s
        return self._time_s


_LEAST_STEP_S: Final = 1e-6
