"""The zones and lines of one stream, and what they have counted: `SceneCounter` and `Scene`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yoloship.results.class_ids import class_ids_of
from yoloship.tracking.counting import LineCount, LineCounter, ZoneCount, ZoneCounter
from yoloship.tracking.shapes import Placed, Zone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    from yoloship.results.detections import Detections
    from yoloship.sources import Stream
    from yoloship.tracking.scene_file import SceneConfig


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the zones and lines of a stream have counted up to one frame.

    Attributes:
        zones: Name → where the zone is in this image, and what it has counted.
        lines: The same for lines.
        image_hw: (height, width) of the image.
    """

    zones: Mapping[str, tuple[Placed, ZoneCount]]
    lines: Mapping[str, tuple[Placed, LineCount]]
    image_hw: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: ``zones`` and ``lines`` by name.

        A zone has ``inside`` (objects in it now), ``classes`` (the same by class), ``objects`` (id → seconds in it),
        ``entered``, ``left``, ``mean_s`` and ``longest_s``. A line has ``in`` and ``out``, and ``classes`` with both by
        class. Seconds are null if the frames have no times.
        """
        return {
            "zones": {name: _zone_data(count) for name, (_, count) in self.zones.items()},
            "lines": {name: _line_data(count) for name, (_, count) in self.lines.items()},
        }

    def draw(self, image: npt.NDArray[np.uint8], line_width_px: int | None = None) -> npt.NDArray[np.uint8]:
        """Draw the zones and lines, with their counts, on a copy of the image.

        Args:
            image: (height, width, 3) uint8 BGR or (height, width) grey, of the size in `image_hw`; not written to.
            line_width_px: Width of lines; None chooses one that fits the image.

        Returns:
            (height, width, 3) uint8 BGR; the caller owns it.

        Raises:
            InputError: the image has another size or type, or the line width is out of range.
        """
        from yoloship.results.drawing import as_canvas
        from yoloship.tracking.scene_drawing import draw_scene

        canvas = as_canvas(image, "Scene.draw", self.image_hw, line_width_px)
        return draw_scene(canvas, self, line_width_px)


class SceneCounter:
    """Counts the objects of one stream.

    Args:
        config: The zones and lines; those of other streams are left out.
        stream: The stream; None for images without one.

    Attributes:
        problems: Lines that the user should read: what can never count in this stream.
    """

    def __init__(self, config: SceneConfig, stream: Stream | None) -> None:
        self.problems: list[str] = []
        self._shapes = [shape for shape in config.shapes if shape.rule.is_for(stream)]
        self._subject = config.subject
        self._counters: dict[str, ZoneCounter | LineCounter] = {}
        self._image_hw: tuple[int, int] | None = None
        self._classes: dict[int, Counter[int]] = {}

    def update(self, found: Detections, alive: Collection[int], now_s: float, *, is_timed: bool) -> Scene:
        """Count the objects of a frame.

        Args:
            found: The objects, with their ids.
            alive: The ids that may still come.
            now_s: The frame's time.
            is_timed: Whether the time is a real one.
        """
        if found.image_hw != self._image_hw:
            self._place(found.image_hw)
        ids = np.empty(0, np.int32) if found.track_ids is None else found.track_ids
        rows = np.flatnonzero((ids >= 0) & np.isfinite(found.boxes_xyxy).all(axis=1))
        for one, class_id in zip(ids[rows].tolist(), found.class_ids[rows].tolist(), strict=True):
            self._classes.setdefault(one, Counter())[class_id] += 1
        usual = {one: self._classes[one].most_common(1)[0][0] for one in ids[rows].tolist()}
        for shape in self._shapes:
            keep = rows
            if shape.rule.classes is not None:
                wanted = set(class_ids_of(shape.rule.classes, found.class_names))
                keep = rows[[usual[one] in wanted for one in ids[rows].tolist()]]
            numbers = ids[keep].tolist()
            names = [found.class_name(usual[one]) for one in numbers]
            points = shape.rule.anchors(found.boxes_xyxy[keep])
            self._counters[shape.name].update(numbers, names, points, now_s)
        return self.count(alive, now_s, is_timed=is_timed)

    def count(self, alive: Collection[int], now_s: float, *, is_timed: bool) -> Scene:
        """The counts of a frame without a result. Before the first result, there are none.

        Args:
            alive: The ids that may still come.
            now_s: The frame's time.
            is_timed: Whether the time is a real one.
        """
        for one in [one for one in self._classes if one not in alive]:
            del self._classes[one]
        zones, lines = {}, {}
        for name, counter in self._counters.items():
            counter.end(alive)
            if isinstance(counter, ZoneCounter):
                zones[name] = counter.placed, counter.count(now_s if is_timed else None)
            else:
                lines[name] = counter.placed, counter.count(None)
        return Scene(zones, lines, self._image_hw or (0, 0))

    def _place(self, image_hw: tuple[int, int]) -> None:
        """Place the zones and lines in images of this size, and note which of them can never count."""
        self._image_hw = image_hw
        for shape in self._shapes:
            placed = Placed.of(shape, image_hw)
            is_zone = isinstance(shape, Zone)
            if placed.problem is not None:
                height, width = image_hw
                kind = "zone" if is_zone else "line"
                self.problems.append(f"{self._subject}: {kind} {shape.name!r} {placed.problem} ({width}×{height})")
            if shape.name in self._counters:
                self._counters[shape.name].placed = placed
            else:
                self._counters[shape.name] = ZoneCounter(placed) if is_zone else LineCounter(placed)


def _zone_data(count: ZoneCount) -> dict[str, Any]:
    seconds = count.seconds
    return {
        "inside": len(count.inside),
        "classes": dict(Counter(count.inside.values())),
        "objects": {str(one): None if seconds is None else _rounded(seconds[one]) for one in count.inside},
        "entered": count.entered,
        "left": count.left,
        "mean_s": _rounded(count.mean_s),
        "longest_s": _rounded(count.longest_s),
    }


def _line_data(count: LineCount) -> dict[str, Any]:
    names = dict.fromkeys((*count.entered, *count.left))
    return {
        "in": sum(count.entered.values()),
        "out": sum(count.left.values()),
        "classes": {name: {"in": count.entered.get(name, 0), "out": count.left.get(name, 0)} for name in names},
    }


def _rounded(seconds: float | None) -> float | None:
    """To milliseconds."""
    return None if seconds is None else round(seconds, 3)
