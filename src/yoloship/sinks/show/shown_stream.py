"""One stream as the page shows it: its newest entry, the picture that was made of it, and how fast it is."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import visible

if TYPE_CHECKING:
    from yoloship.sinks.sink import Entry

_RATE_OF: Final = 30
"""Frames over which the rate is measured."""
_STILL_S: Final = 5.0
"""After this long without a frame, a stream has no rate."""
MAX_CLASSES: Final = 12
"""Classes whose counts are shown, the most frequent ones."""
MAX_NAME: Final = 200


class ShownStream:
    """The newest state of a stream; the page's lock guards it.

    Attributes:
        entry: The newest entry that has an image; None if there is none yet, or if its picture is being made.
        picture: The newest picture, a JPEG file; None before the first.
        number: How many pictures were made.
    """

    def __init__(self, name: str) -> None:
        self.name = visible(name[:MAX_NAME])
        self.entry: Entry | None = None
        self.picture: bytes | None = None
        self.number = 0
        self._frames = self._errors = 0
        self._error = ""
        self._arrivals: deque[float] = deque(maxlen=_RATE_OF)
        self._least_lag_s: float | None = None
        self._delay_s: float | None = None
        self._counts: dict[str, int] = {}
        self._status: Any = None

    def take(self, entry: Entry, now_s: float) -> None:
        """Take the next entry.

        Args:
            entry: The entry.
            now_s: The time of a clock that never goes back.
        """
        frame = entry.frame
        if frame is not None and frame.stream is not None:
            self._status = frame.stream.status
        if entry.error is not None:
            self._errors += 1
            self._error = visible(str(entry.error)[:MAX_NAME])
        if entry.result is None:
            return
        self._frames += 1
        self._arrivals.append(now_s)
        self._counts = entry.result.counts()
        if entry.image is not None:
            self.entry = entry
        if frame is not None and frame.time_s is not None:
            lag_s = now_s - frame.time_s
            self._least_lag_s = lag_s if self._least_lag_s is None else min(lag_s, self._least_lag_s)
            self._delay_s = lag_s - self._least_lag_s

    def state(self, now_s: float) -> dict[str, Any]:
        """What the page writes under the picture, as plain data.

        Returns:
            ``delay`` is by how many seconds a frame is later than the one that was the least late, for live streams.
        """
        status = self._status() if self._status is not None else ""
        return {
            "name": self.name,
            "status": status,
            "frames": self._frames,
            "errors": self._errors,
            "error": self._error,
            "rate": self._rate(now_s),
            "delay": None if self._delay_s is None or not status else round(self._delay_s, 2),
            "counts": [[visible(name[:MAX_NAME]), count] for name, count in islice(self._counts.items(), MAX_CLASSES)],
        }

    def _rate(self, now_s: float) -> float | None:
        if len(self._arrivals) < 2 or now_s - self._arrivals[-1] > _STILL_S:
            return None
        passed_s = self._arrivals[-1] - self._arrivals[0]
        return round((len(self._arrivals) - 1) / passed_s, 1) if passed_s > 0 else None
