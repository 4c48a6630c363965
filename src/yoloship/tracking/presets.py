"""How objects are tracked: `TrackOptions`, and `PRESETS`, three of which behave as well-known programs do.

Three programs are called ByteTrack, and they do not give the same ids. Each is a preset here. They differ in the
numbers, and in the choices that `TrackOptions` names. The preset ``yoloship``, the default, has the rules of
``trackers``, which follow objects best in our measurements (`bench/bench_tracking.py`), and the threshold at which
detectors usually report an object, 0.25. With those of the other two, an object of score 0.5 never gets an id.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022, with the program
of the paper; the package `trackers` 2.6.1; and the settings in `bytetrack.yaml` of the package `ultralytics`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BUFFER: Final = 1_000_000
DEFAULT: Final = "yoloship"


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """The parameters of ByteTrack, and the points in which its implementations differ.

    Attributes:
        high: Detections of at least this score are matched first, in (0, 1].
        low: Detections above this score and below `high` are matched second, with the remaining tracks. The detector
            runs at this threshold.
        new: A detection without a track starts one if its score is at least this.
        min_overlap: Minimum overlap of a track and a detection in the first round, in [0, 1].
        min_overlap_low: Minimum IoU in the second round.
        buffer: How long an object that is not seen keeps its id, in `buffer_unit`.
        min_overlap_new: Minimum overlap of a detection and an unconfirmed track. Used only with `rounds` ``three``.
        confirm_frames: A track gets its id after its object was found in this many frames in a row.
        buffer_unit: ``thirtieths``, of a second, whatever the frame rate is; or ``frames``.
        first_frame: Whether the objects of the first frame are ``confirmed`` at once, or ``unconfirmed`` like all
            others.
        overlap: ``iou``; or ``iou-score``, which is the IoU times the score of the detection, in all rounds except the
            second.
        pixels: Whether the side of a box is the difference of its ``edges``, or one ``more``, as if its edges were
            whole pixels inside the box.
        motion: What moves at constant speed: the ``center``, with a noise that grows with the object's height; or the
            ``corners``, with a noise of fixed pixels.
        rounds: ``three``: confirmed tracks with high scores, tracks from the previous frame with low scores, then
            unconfirmed tracks; a pair that overlaps too little does not count in the best matching, and if two tracks
            lie on top of each other, the younger one is dropped. ``two``: all tracks with high scores, then the
            remaining tracks with low scores; pairs are dropped after the best matching was found.
        output_box: Whether the box of a tracked object is the smoothed box from the ``filter``, or the box of the
            ``detection``.

    Raises:
        InputError: a value is outside its range, or the thresholds are not in order.
    """

    high: float = 0.25
    low: float = 0.1
    new: float = 0.25
    min_overlap: float = 0.1
    min_overlap_low: float = 0.1
    buffer: int = 30
    min_overlap_new: float = 0.3
    confirm_frames: int = 2
    buffer_unit: Literal["thirtieths", "frames"] = "thirtieths"
    first_frame: Literal["confirmed", "unconfirmed"] = "unconfirmed"
    overlap: Literal["iou", "iou-score"] = "iou"
    pixels: Literal["edges", "more"] = "edges"
    motion: Literal["center", "corners"] = "corners"
    rounds: Literal["three", "two"] = "two"
    output_box: Literal["filter", "detection"] = "detection"

    def __post_init__(self) -> None:
        for name in ("high", "low", "new", "min_overlap", "min_overlap_low", "min_overlap_new"):
            value: Any = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not (is_number and 0 <= value <= 1):  # NaN fails too
                raise InputError("out of range", subject=name, expected="a number from 0 to 1", got=repr(value)[:60])
            object.__setattr__(self, name, float(value))
        for name, least, most in (("buffer", 0, MAX_BUFFER), ("confirm_frames", 1, 1000)):
            count: Any = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, Integral) or not least <= int(count) <= most:
                expected = f"a whole number from {least} to {most}"
                raise InputError("out of range", subject=name, expected=expected, got=repr(count)[:60])
            object.__setattr__(self, name, int(count))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                got = repr(getattr(self, name))[:60]
                raise InputError("no such choice", subject=name, expected=" or ".join(choices), got=got)
        if not self.low <= self.high <= self.new:
            raise InputError(
                "the thresholds are not in order", subject="TrackOptions", expected="low <= high <= new",
                got=f"{self.low:g}, {self.high:g}, {self.new:g}",
            )  # fmt: skip

    @property
    def detect_threshold(self) -> float:
        """The score threshold that the detector needs: with a higher one, the second round has nothing to match."""
        return self.low


CHOICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "buffer_unit": ("thirtieths", "frames"),
        "first_frame": ("confirmed", "unconfirmed"),
        "overlap": ("iou", "iou-score"),
        "pixels": ("edges", "more"),
        "motion": ("center", "corners"),
        "rounds": ("three", "two"),
        "output_box": ("filter", "detection"),
    }
)
"""Name of a choice → what it may be."""

_OF_THE_PAPER: Final = TrackOptions(
    high=0.5, new=0.6, min_overlap=0.2, min_overlap_low=0.5, first_frame="confirmed", overlap="iou-score",
    pixels="more", motion="center", rounds="three", output_box="filter",
)  # fmt: skip
PRESETS: Final[Mapping[str, TrackOptions]] = MappingProxyType(
    {
        "yoloship": TrackOptions(),
        "trackers": TrackOptions(high=0.6, new=0.7),
        "paper": _OF_THE_PAPER,
        "ultralytics": replace(_OF_THE_PAPER, high=0.25, new=0.25, buffer_unit="frames", pixels="edges"),
    }
)
"""Name → options; the first is the default."""


def track_options(chosen: TrackOptions | str | None = None) -> TrackOptions:
    """Options from a preset's name.

    Args:
        chosen: The name, options that are taken as they are, or None for the default preset.

    Raises:
        InputError: there is no such preset.
    """
    if isinstance(chosen, TrackOptions):
        return chosen
    name = DEFAULT if chosen is None else chosen
    if not isinstance(name, str) or name not in PRESETS:
        expected = f"one of {', '.join(PRESETS)}, or TrackOptions"
        raise InputError("no such preset of tracking", subject="track", expected=expected, got=repr(name)[:60])
    return PRESETS[name]
