"""What is counted in a scene: `Zone` and `Line`, and `Placed`, either of them in the pixels of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from yoloship._util.fields import is_int, is_number
from yoloship.errors import InputError
from yoloship.tracking.geometry import area, clipped, crosses_itself, side_distances

if TYPE_CHECKING:
    import numpy.typing as npt

    from yoloship.sources import Stream

    Floats = npt.NDArray[np.float64]

Anchor = Literal["bottom-center", "center", "top-center"]
Units = Literal["fractions", "pixels"]
Point = tuple[float, float]

MAX_POINTS: Final = 200
MAX_NAME_CHARS: Final = 100
MAX_FRAMES: Final = 10_000
FARTHEST: Final = 1e6
_LARGEST: Final = float(np.finfo(np.float64).max)
USUAL_BAND: Final = 0.01
"""Of the shorter side of the image: about how much the edges of a good detector tremble."""
_ANCHOR_Y: Final = {"bottom-center": 1.0, "center": 0.5, "top-center": 0.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """How a zone or a line counts.

    Attributes:
        units: Whether coordinates are ``pixels``, or ``fractions`` of the image's width and height.
        anchor: The point of an object's box that counts.
        classes: Ids or names of the classes that count; None counts all. The class of an object is the one that was
            found most often.
        streams: Names of the videos and cameras that it is for, or their file names; None is for all.
        band: How far an anchor must go beyond the line, or leave the zone, to be on the other side: in pixels, or as a
            fraction of the image's shorter side. None takes 0.01 of that side.
        min_frames: For how many frames in a row it must be there.

    Raises:
        InputError: a value is outside its range.
    """

    units: Units = "fractions"
    anchor: Anchor = "bottom-center"
    classes: tuple[int | str, ...] | None = None
    streams: tuple[str, ...] | None = None
    band: float | None = None
    min_frames: int = 1

    def __post_init__(self) -> None:
        for name, choices in (("units", get_args(Units)), ("anchor", get_args(Anchor))):
            if getattr(self, name) not in choices:
                got = repr(getattr(self, name))[:60]
                raise InputError("no such choice", subject=name, expected=" or ".join(choices), got=got)
        most = 0.5 if self.units == "fractions" else FARTHEST
        if self.band is not None and not is_number(self.band, 0, most):
            expected = f"a number of {self.units} from 0 to {most:g}"
            raise InputError("out of range", subject="band", expected=expected, got=repr(self.band)[:60])
        if not is_int(self.min_frames, 1, MAX_FRAMES):
            expected = f"a whole number from 1 to {MAX_FRAMES}"
            raise InputError("out of range", subject="min_frames", expected=expected, got=repr(self.min_frames)[:60])

    def is_for(self, stream: Stream | None) -> bool:
        """Whether it counts in this stream; images without a stream count in what is for all."""
        if self.streams is None:
            return True
        names = () if stream is None else (stream.name, stream.name.replace("\\", "/").rsplit("/", 1)[-1])
        return any(name in self.streams for name in names)

    def band_px(self, image_hw: tuple[int, int]) -> float:
        """The band in pixels of an image of this size."""
        if self.units == "pixels" and self.band is not None:
            return self.band
        return (USUAL_BAND if self.band is None else self.band) * min(image_hw)

    def anchors(self, boxes_xyxy: npt.NDArray[np.float32]) -> Floats:
        """(n, 2) float64: the point of each box that counts; the caller owns it."""
        left, top, right, bottom = boxes_xyxy.astype(np.float64).T
        share = _ANCHOR_Y[self.anchor]
        return np.stack([(left + right) / 2, top + (bottom - top) * share], axis=1)


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the image in which objects are counted.

    Attributes:
        name: What it is called in results.
        polygon: x and y of at least three corners. Its edges do not cross.
        rule: How it counts.

    Raises:
        InputError: it cannot be a zone; the name is in the message.
    """

    name: str
    polygon: tuple[Point, ...]
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        _check_name(self.name, "zone")
        object.__setattr__(self, "polygon", _checked(self.polygon, self.name, self.rule, (3, MAX_POINTS)))
        corners = np.array(self.polygon)
        if area(corners) <= 0 or len(set(self.polygon)) < 3:
            raise InputError("the polygon has no area, so nothing can be in it", subject=f"zone {self.name!r}")
        if crosses_itself(corners):
            raise InputError(
                "the edges of the polygon cross or touch each other", subject=f"zone {self.name!r}",
                hint="give its corners in the order in which you would walk around it, each once",
            )  # fmt: skip

    @property
    def points(self) -> tuple[Point, ...]:
        """The corners."""
        return self.polygon


@dataclass(frozen=True, slots=True)
class Line:
    """A line at which objects are counted that cross it.

    Attributes:
        name: What it is called in results.
        start: x and y of its first point.
        end: x and y of its last point. Who walks from the first to the last has the side that counts as ``in`` on the
            right: below, if the line goes from left to right.
        rule: How it counts.

    Raises:
        InputError: it cannot be a line; the name is in the message.
    """

    name: str
    start: Point
    end: Point
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        _check_name(self.name, "line")
        start, end = _checked((self.start, self.end), self.name, self.rule, (2, 2))
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        if self.start == self.end:
            raise InputError("has no length, so nothing can cross it", subject=f"line {self.name!r}")

    @property
    def points(self) -> tuple[Point, ...]:
        """The first and the last point."""
        return self.start, self.end


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A zone or a line in pixels of one image size.

    Attributes:
        shape: What was placed.
        points_xy: (k, 2) float64: its points in pixels.
        band_px: Its band.
        image_hw: (height, width) of the image.
    """

    shape: Zone | Line
    points_xy: Floats
    band_px: float
    image_hw: tuple[int, int]

    @classmethod
    def of(cls, shape: Zone | Line, image_hw: tuple[int, int]) -> Placed:
        """Place a zone or a line in an image of this size."""
        height, width = image_hw
        points = np.array(shape.points, np.float64)
        if shape.rule.units == "fractions":
            points *= (width, height)
        return cls(shape, points, shape.rule.band_px(image_hw), image_hw)

    @property
    def problem(self) -> str | None:
        """Why it can never count in this image; None if it can."""
        height, width = self.image_hw
        corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
        if isinstance(self.shape, Zone):
            inside = area(clipped(self.points_xy, width, height))
            return None if inside >= 1 else "lies outside the image, so nothing will ever be in it"
        start, end = self.points_xy
        if not _enters(start, end, width, height):
            return "lies outside the image, so nothing will ever cross it"
        distances = side_distances(corners, start, end)
        if distances.max() <= self.band_px or distances.min() >= -self.band_px:
            side = "right" if distances.max() <= self.band_px else "left"
            return f"has no room in the image on its {side}, so nothing will ever be wholly on both sides of it"
        return None


def _enters(start: Floats, end: Floats, width: float, height: float) -> bool:
    """Whether more than a point of a line is inside an image.

    Source: Liang and Barsky, "A new concept and method for line clipping", 1984.
    """
    low, high = 0.0, 1.0
    for axis, limit in ((0, width), (1, height)):
        way = float(end[axis] - start[axis])
        if way == 0:
            if not 0 <= start[axis] <= limit:
                return False
            continue
        first, last = sorted(((0 - start[axis]) / way, (limit - start[axis]) / way))
        low, high = max(low, float(first)), min(high, float(last))
    return low < high


def _check_name(name: object, kind: str) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        expected = f"up to {MAX_NAME_CHARS} letters"
        raise InputError(f"a {kind} needs a name", subject="name", expected=expected, got=repr(name)[:60])


def _checked(points: object, name: str, rule: Rule, counts: tuple[int, int]) -> tuple[Point, ...]:
    """Points as pairs of finite floats."""
    least, most = counts
    subject = f"{'line' if most == 2 else 'zone'} {name!r}"
    items = list(points) if isinstance(points, list | tuple) else []
    if not least <= len(items) <= most:
        expected = f"{least} to {most} points x, y" if most > least else f"{least} points x, y"
        got = f"{len(items)} points" if items else repr(points)[:60]
        raise InputError("has the wrong number of points", subject=subject, expected=expected, got=got)
    limit = 2.0 if rule.units == "fractions" else FARTHEST
    checked = []
    for item in items:
        pair = list(item) if isinstance(item, list | tuple) else []
        if len(pair) != 2 or not all(is_number(side, -_LARGEST, _LARGEST) for side in pair):
            raise InputError("is not a point", subject=subject, expected="two numbers x, y", got=repr(item)[:60])
        if max(map(abs, pair)) > limit:
            hint = "write 'units: pixels' if these are pixels" if rule.units == "fractions" else None
            expected = f"{rule.units} of at most {limit:g}"
            raise InputError("is too far away", subject=subject, expected=expected, got=repr(item)[:60], hint=hint)
        checked.append((float(pair[0]), float(pair[1])))
    return tuple(checked)
