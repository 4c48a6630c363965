"""Counts objects in zones and at lines, frame by frame: `ZoneCounter` and `LineCounter`.

The edges of boxes tremble. So an object that stands on a line must go beyond a band around it before it is on the other
side, and may have to stay there for some frames. Objects that are not confirmed never come here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yoloship.tracking.geometry import crosses, inside_distances, side_distances

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import numpy.typing as npt

    from yoloship.tracking.shapes import Placed

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ZoneCount:
    """What a zone has counted up to a frame.

    Attributes:
        inside: Objects in it now, with the class of each. An object that is lost in the zone is in it until its id
            ends.
        seconds: For how long each of them has been in it; None if the frames have no times.
        entered: How often an object came into it. One that was first seen in it came into it then.
        left: How often an object left it, or ended in it: entered - left = inside.
        mean_s: The mean time in it of those that left; None if none did, or if the frames have no times.
        longest_s: The longest time in it, also of an object that is still there; None as for `mean_s`.
    """

    inside: dict[int, str]
    seconds: dict[int, float] | None
    entered: int
    left: int
    mean_s: float | None
    longest_s: float | None


@dataclass(frozen=True, slots=True)
class LineCount:
    """What a line has counted up to a frame.

    Attributes:
        entered: Crossings to the side that counts as ``in``, by class.
        left: Crossings to the other side, by class.
    """

    entered: dict[str, int]
    left: dict[str, int]


@dataclass(slots=True)
class _Visitor:
    """An object as a zone or a line knows it.

    Attributes:
        side: 1 in the zone or on the right of the line, -1 on the other side, 0 if that is not known yet.
        turns: For how many frames in a row it was seen on the other side.
        point: Where it was seen last.
        is_through: Whether it has crossed the line itself, not its extension, since it was last on its side.
        since_s: When it came into the zone.
        seen_s: When it was seen last.
        class_name: Its class.
    """

    side: int = 0
    turns: int = 0
    point: Floats | None = None
    is_through: bool = False
    since_s: float = 0.0
    seen_s: float = 0.0
    class_name: str = ""

    def turns_to(self, side: int, min_frames: int) -> bool:
        """Note where it is, 0 for the band in between; whether it has now changed its side."""
        if side in {0, self.side}:
            self.turns = 0
            return False
        self.turns += 1
        if self.side != 0 and self.turns < min_frames:
            return False
        self.side, self.turns = side, 0
        return True


@dataclass(slots=True)
class ZoneCounter:
    """Counts what is in a zone of one stream.

    Attributes:
        placed: The zone; another one if the size of the image changes.
    """

    placed: Placed
    _visitors: dict[int, _Visitor] = field(default_factory=dict)
    _entered: int = 0
    _left: int = 0
    _spent_s: float = 0.0
    _longest_s: float = 0.0

    def update(self, ids: Sequence[int], names: Sequence[str], points_xy: Floats, now_s: float) -> None:
        """Count the objects of a frame.

        Args:
            ids: The ids of n confirmed objects.
            names: Their classes.
            points_xy: (n, 2): their anchors in pixels; read only.
            now_s: The frame's time.
        """
        for one, name, inside in zip(ids, names, inside_distances(points_xy, self.placed.points_xy), strict=True):
            visitor = self._visitors.setdefault(one, _Visitor(side=-1))
            visitor.class_name, visitor.seen_s = name, now_s
            side = 1 if inside >= 0 else -1 if inside < -self.placed.band_px else 0
            if not visitor.turns_to(side, self.placed.shape.rule.min_frames):
                continue
            if side > 0:
                self._entered, visitor.since_s = self._entered + 1, now_s
            else:
                self._leave(visitor)

    def end(self, alive: Collection[int]) -> None:
        """Let objects leave whose ids have ended."""
        for one in [one for one in self._visitors if one not in alive]:
            visitor = self._visitors.pop(one)
            if visitor.side > 0:
                self._leave(visitor)

    def _leave(self, visitor: _Visitor) -> None:
        spent = visitor.seen_s - visitor.since_s
        self._left, self._spent_s = self._left + 1, self._spent_s + spent
        self._longest_s = max(self._longest_s, spent)

    def count(self, now_s: float | None) -> ZoneCount:
        """The counts up to now; without a time they have no seconds."""
        inside = {one: visitor for one, visitor in self._visitors.items() if visitor.side > 0}
        classes = {one: visitor.class_name for one, visitor in inside.items()}
        if now_s is None:
            return ZoneCount(classes, None, self._entered, self._left, None, None)
        seconds = {one: now_s - visitor.since_s for one, visitor in inside.items()}
        mean = self._spent_s / self._left if self._left else None
        longest = max([self._longest_s, *seconds.values()]) if self._entered else None
        return ZoneCount(classes, seconds, self._entered, self._left, mean, longest)


@dataclass(slots=True)
class LineCounter:
    """Counts what crosses a line of one stream.

    Attributes:
        placed: The line; another one if the size of the image changes.
    """

    placed: Placed
    _visitors: dict[int, _Visitor] = field(default_factory=dict)
    _entered: Counter[str] = field(default_factory=Counter)
    _left: Counter[str] = field(default_factory=Counter)

    def update(self, ids: Sequence[int], names: Sequence[str], points_xy: Floats, now_s: float) -> None:  # noqa: ARG002
        """Count the objects of a frame; as `ZoneCounter.update`."""
        start, end = self.placed.points_xy
        band = self.placed.band_px
        distances = side_distances(points_xy, start, end)
        for one, name, point, away in zip(ids, names, points_xy, distances, strict=True):
            visitor = self._visitors.setdefault(one, _Visitor())
            if visitor.point is not None and crosses(visitor.point, point, start, end):
                visitor.is_through = not visitor.is_through
            visitor.point, before = point, visitor.side
            side = 1 if away > band else -1 if away < -band else 0
            if visitor.turns_to(side, self.placed.shape.rule.min_frames):
                if before and visitor.is_through:
                    (self._entered if side > 0 else self._left)[name] += 1
                visitor.is_through = False
            elif side == before != 0:
                visitor.is_through = False

    def end(self, alive: Collection[int]) -> None:
        """Forget objects whose ids have ended."""
        for one in [one for one in self._visitors if one not in alive]:
            del self._visitors[one]

    def count(self, now_s: float | None) -> LineCount:  # noqa: ARG002 - as of a zone
        """The counts up to now."""
        return LineCount(dict(self._entered), dict(self._left))
