"""ByteTrack for one stream of frames: `ByteTracker`.

A frame's detections with high scores are matched with the tracks first; those with low scores, which are often objects
that are partly hidden, then with the tracks that are left. `yoloship.tracking.presets` says in what programs differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from yoloship.results.boxes import box_ious
from yoloship.tracking.assignment import best_pairs
from yoloship.tracking.clock import Clock
from yoloship.tracking.motion import motion_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from yoloship.tracking.presets import TrackOptions

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    Booleans = npt.NDArray[np.bool_]

UNCONFIRMED: Final = -1
SAME_IOU: Final = 0.85
"""Two tracks that overlap more than this are one object."""
_TINY: Final = 1e-6
"""Frames: sums of times are rounded."""
_PIXEL: Final = np.array([0.0, 0.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class _Round:
    """One matching of tracks and detections.

    Attributes:
        tracks: Which tracks take part, of those without a detection in this frame.
        scores: Which detections take part, of those without a track.
        limit: The name in `TrackOptions` of the least overlap.
        weighs: Whether the overlap may be multiplied by the score.
    """

    tracks: Literal["all", "confirmed", "seen", "unconfirmed"]
    scores: Literal["high", "low"]
    limit: Literal["min_overlap", "min_overlap_low", "min_overlap_new"]
    weighs: bool


_ROUNDS: Final[Mapping[str, tuple[_Round, ...]]] = MappingProxyType(
    {
        "three": (
            _Round("confirmed", "high", "min_overlap", weighs=True),
            _Round("seen", "low", "min_overlap_low", weighs=False),
            _Round("unconfirmed", "high", "min_overlap_new", weighs=True),
        ),
        "two": (
            _Round("all", "high", "min_overlap", weighs=True),
            _Round("all", "low", "min_overlap_low", weighs=False),
        ),
    }
)
"""`TrackOptions.rounds` → what is matched, one after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The tracks of a stream, in the order in which they began; each array has one row for each.

    Attributes:
        state: (n, 5, 4): where they are, see `yoloship.tracking.motion`.
        ids: (n,): their numbers; `UNCONFIRMED` for those that are not confirmed.
        hits: (n,): how often an object was found.
        began: (n,): the tracker's time of the first detection, in frames.
        found: (n,): the tracker's time of the last detection.
        lost: (n,): whether nothing was found in the last frame.
    """

    state: Floats
    ids: npt.NDArray[np.int32]
    hits: Ints
    began: Floats
    found: Floats
    lost: Booleans

    @classmethod
    def empty(cls) -> _Pool:
        """No tracks."""
        floats, ints = np.empty(0), np.empty(0, np.intp)
        return cls(np.empty((0, 5, 4)), np.empty(0, np.int32), ints, floats, floats, np.empty(0, np.bool_))

    def __len__(self) -> int:
        return len(self.ids)

    def kept(self, keep: Booleans) -> _Pool:
        """Those tracks only."""
        return self if keep.all() else _Pool(*(getattr(self, name)[keep] for name in self.__slots__))

    def joined(self, other: _Pool) -> _Pool:
        """These tracks, then the others."""
        parts = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return _Pool(*(np.concatenate(part) for part in parts))


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What became of a frame's detections.

    Attributes:
        ids: (n,) int32, from 1: the id of each detection's track; -1 for a track that is not confirmed, and for
            detections without a track.
        has_track: (n,) bool: whether a detection belongs to a track, confirmed or not.
        boxes_xyxy: (n, 4) float64: the tracks' boxes after this frame, of the detections that have a track; those of
            the detections themselves for the others. Not clipped to the image.
    """

    ids: npt.NDArray[np.int32]
    has_track: Booleans
    boxes_xyxy: Floats


class ByteTracker:
    """Gives the objects of one stream their ids. It belongs to one stream and one thread.

    Args:
        options: The numbers and choices of ByteTrack.
        rate: Frames in a second, which gives time its unit; None takes 30.

    Attributes:
        now: The tracker's time in frames of the nominal rate.
    """

    def __init__(self, options: TrackOptions, rate: float | None = None) -> None:
        self.now = 0.0
        self._options = options
        self._clock = Clock(rate)
        self._motion = motion_of(options.motion, self._clock.rate)
        self._pool = _Pool.empty()
        self._next_id = 1
        self._pending = 0.0  # time that has passed, and that the tracks have not been moved by
        self._is_first = True

    @property
    def now_s(self) -> float:
        """The tracker's time in seconds."""
        return self.now / self._clock.rate

    @property
    def alive_ids(self) -> frozenset[int]:
        """Ids of objects that are seen, or that may still come back."""
        ids = self._pool.ids
        return frozenset(ids[ids != UNCONFIRMED].tolist())

    def skip(self, time_s: float | None = None) -> None:
        """Let time pass in a frame that could not be searched. No object counts as missing from it.

        Args:
            time_s: The frame's time in seconds; None if it is not known, which counts as one frame.

        Raises:
            InputError: it is not a finite number.
        """
        step = self._clock.step(time_s)
        self.now += step
        self._pending += step
        before, _ = self._patience()
        self._pool = self._pool.kept(self.now - self._pool.found <= before)

    def update(
        self,
        boxes_xyxy: npt.NDArray[np.floating],
        scores: npt.NDArray[np.floating],
        time_s: float | None = None,
    ) -> Tracked:
        """Match a frame's detections with the tracks. A frame without detections counts too: call it all the same.

        Args:
            boxes_xyxy: (n, 4) in pixels; a box without area, or with a coordinate that is not finite, gets no track.
                Read only.
            scores: (n,) in [0, 1]; read only.
            time_s: The frame's time in seconds; None if it is not known, which counts as one frame.

        Raises:
            InputError: the time is not a finite number.
        """
        self.skip(time_s)
        self._predict()
        boxes = boxes_xyxy.astype(np.float64)
        has_area = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        usable = np.where(has_area, scores.astype(np.float64), -1.0)
        track_of, rows = self._matched(boxes, usable)
        self._note(track_of, rows, boxes)
        self._begin(track_of, boxes, usable)
        self._end(track_of)
        self._is_first = False
        has_track = track_of >= 0
        ids, after = np.full(len(boxes), UNCONFIRMED, np.int32), boxes.copy()
        ids[has_track] = self._pool.ids[track_of[has_track]]
        after[has_track] = self._motion.boxes(self._pool.state[track_of[has_track]])
        return Tracked(ids, has_track, after)

    def _patience(self) -> tuple[float, float]:
        """For how many frames an object may be lost, before and after the matching of a frame."""
        options, frames = self._options, float(self._options.buffer)
        if options.buffer_unit == "thirtieths":
            frames *= self._clock.rate / 30
        if options.rounds == "three":
            frames = math.floor(frames + _TINY) + 0.5
        elif self._clock.is_timed:
            return frames + _TINY, frames + _TINY
        else:
            frames = math.ceil(frames - _TINY) + 0.5
        return frames + 1, frames  # in the frame in which its time ends, an object may still be found

    def _predict(self) -> None:
        """Move the tracks on to this frame. One that was seen once, in the program of the paper, stays where it is."""
        pool = self._pool
        moves = np.ones(len(pool), np.bool_)
        if self._options.rounds == "three":
            moves = (pool.ids != UNCONFIRMED) | (pool.hits > 1)
        if self._pending and moves.any():
            pool.state[moves] = self._motion.predict(pool.state[moves], self._pending, pool.lost[moves])
        self._pending = 0.0

    def _matched(self, boxes: Floats, scores: Floats) -> tuple[Ints, Ints]:
        """The row of the track of each detection, -1 without; and all these rows, in the order of the rounds."""
        options, pool = self._options, self._pool
        track_of, free, rows = np.full(len(boxes), -1, np.intp), np.ones(len(pool), np.bool_), [np.empty(0, np.intp)]
        is_high = scores >= options.high
        of_score = {"high": is_high, "low": (scores > options.low) & ~is_high}
        confirmed = pool.ids != UNCONFIRMED
        of_track = {
            "all": free.copy(), "confirmed": confirmed, "seen": confirmed & ~pool.lost, "unconfirmed": ~confirmed,
        }  # fmt: skip
        places = self._motion.boxes(pool.state)
        for one in _ROUNDS[options.rounds]:
            tracks = np.flatnonzero(of_track[one.tracks] & free)
            found = np.flatnonzero(of_score[one.scores] & (track_of < 0))
            overlaps = self._overlaps(places[tracks], boxes[found])
            if one.weighs and options.overlap == "iou-score":
                overlaps *= scores[found]
            first, second = self._pairs(overlaps, getattr(options, one.limit))
            track_of[found[second]] = tracks[first]
            free[tracks[first]] = False
            rows.append(tracks[first])
        return track_of, np.concatenate(rows)

    def _overlaps(self, first_xyxy: Floats, second_xyxy: Floats) -> Floats:
        if self._options.pixels == "more":
            first_xyxy, second_xyxy = first_xyxy + _PIXEL, second_xyxy + _PIXEL
        return box_ious(first_xyxy, second_xyxy)

    def _pairs(self, overlaps: Floats, least: float) -> tuple[Ints, Ints]:
        """The best pairs, all of which overlap enough."""
        if self._options.rounds == "three":
            return best_pairs(overlaps - least)
        rows, columns = best_pairs(overlaps)
        enough = overlaps[rows, columns] >= least
        return rows[enough], columns[enough]

    def _note(self, track_of: Ints, rows: Ints, boxes: Floats) -> None:
        """Write down which tracks were found, and where; and give ids to those that were found often enough."""
        pool = self._pool
        found = np.flatnonzero(track_of >= 0)
        tracks = track_of[found]
        pool.state[tracks] = self._motion.correct(pool.state[tracks], boxes[found])
        pool.hits[tracks] += 1
        pool.found[tracks] = self.now
        pool.lost[:] = True
        pool.lost[tracks] = False
        sure = rows[(pool.ids[rows] == UNCONFIRMED) & (pool.hits[rows] >= self._options.confirm_frames)]
        pool.ids[sure] = self._new_ids(len(sure))

    def _begin(self, track_of: Ints, boxes: Floats, scores: Floats) -> None:
        """Begin tracks for good detections without one, and drop tracks that were never confirmed and are lost."""
        options = self._options
        fresh = np.flatnonzero((track_of < 0) & (scores >= options.new))
        count, ids = len(fresh), np.full(len(fresh), UNCONFIRMED, np.int32)
        if options.confirm_frames == 1 or (self._is_first and options.first_frame == "confirmed"):
            ids = self._new_ids(count)
        self._keep(~self._pool.lost | (self._pool.ids != UNCONFIRMED), track_of)
        track_of[fresh] = np.arange(count) + len(self._pool)
        now, seen = np.full(count, self.now), np.zeros(count, np.bool_)
        new = _Pool(self._motion.begin(boxes[fresh]), ids, np.ones(count, np.intp), now, now, seen)
        self._pool = self._pool.joined(new)

    def _end(self, track_of: Ints) -> None:
        """Drop tracks that are lost for too long and, of two tracks of one object, the younger."""
        _, after = self._patience()
        self._keep(self.now - self._pool.found <= after, track_of)
        if self._options.rounds == "three" and self._pool.lost.any():
            self._keep(~self._doubled(), track_of)

    def _doubled(self) -> Booleans:
        """(n,): tracks that lie on an older one; one of the two is lost, and one is not."""
        pool = self._pool
        places, age = self._motion.boxes(pool.state), pool.found - pool.began
        seen, lost = np.flatnonzero(~pool.lost), np.flatnonzero(pool.lost)
        first, second = np.nonzero(self._overlaps(places[seen], places[lost]) > SAME_IOU)
        first, second = seen[first], lost[second]
        drop = np.zeros(len(pool), np.bool_)
        drop[np.where(age[first] > age[second], second, first)] = True
        return drop

    def _keep(self, keep: Booleans, track_of: Ints) -> None:
        """Keep these tracks only; a detection whose track is dropped has none."""
        self._pool = self._pool.kept(keep)
        places = np.where(keep, np.cumsum(keep) - 1, -1)
        has_track = track_of >= 0
        track_of[has_track] = places[track_of[has_track]]

    def _new_ids(self, count: int) -> npt.NDArray[np.int32]:
        first = self._next_id
        self._next_id += count
        return np.arange(first, first + count, dtype=np.int32)
