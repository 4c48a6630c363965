"""The options ``--track`` and ``--zones`` of ``yoloship predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from yoloship.cli.options import PRESET_NAMES
from yoloship.cli.output import print_err
from yoloship.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship.detect.detector import Detector
    from yoloship.detect.options import DetectOptions
    from yoloship.detect.stream import Outcome
    from yoloship.tracking.scene import Scene
    from yoloship.tracking.tracks import Tracks

TRACK: Final = "--track"


def with_preset(args: Sequence[str]) -> list[str]:
    """The arguments, in which a ``--track`` that no preset follows has the default preset.

    So ``--track street.mp4`` does not take the video for a preset. An argument after ``--`` is no option.
    """
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    for place in reversed(range(end)):
        if words[place] == TRACK:
            names = [word for word in words[place + 1 : min(place + 2, end)] if word in PRESET_NAMES]
            words[place : place + 1 + len(names)] = [f"{TRACK}={names[0] if names else PRESET_NAMES[0]}"]
    return words


class Tracking:
    """What ``--track`` and ``--zones`` ask for.

    Args:
        preset: The preset's name; None takes the default.
        zones: The file with zones and lines; None counts nothing.

    Raises:
        InputError: the file cannot be read, or is not a scene.
    """

    def __init__(self, preset: str | None, zones: Path | None) -> None:
        from yoloship.tracking.scene_file import read_scene

        self._preset = preset
        self._scene = None if zones is None else read_scene(zones)
        self._tracks: Tracks | None = None
        self._scenes: dict[str, Scene] = {}

    def options(self, detector: Detector, wanted: DetectOptions | None) -> DetectOptions:
        """The options for a detector whose results are tracked; begins the tracking.

        Args:
            detector: The detector.
            wanted: What the user wants to see; None takes the detector's own options.

        Raises:
            InputError: the model has no boxes, or lacks a class of the scene.
        """
        from yoloship.tracking.following import detect_options
        from yoloship.tracking.tracks import Tracks

        shown = wanted or detector.options
        self._tracks = Tracks(self._preset, self._scene, score_threshold=shown.score_threshold)
        self._tracks.check_model(detector.info)
        return detect_options(shown, self._tracks, detector.info)

    def follow(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """The outcomes with ids and counts; what can never count is printed."""
        from yoloship.tracking.following import tracked

        assert self._tracks is not None
        for one in tracked(outcomes, self._tracks, lambda line: print_err(f"warning: {visible(line)}")):
            if one.scene is not None:
                stream = None if one.frame is None else one.frame.stream
                self._scenes["" if stream is None else stream.name] = one.scene
            yield one

    def counts(self) -> str:
        """What the zones and lines of each stream have counted, a line for each; empty without zones and lines."""
        lines = []
        for stream, scene in self._scenes.items():
            data, where = scene.to_dict(), f"{stream}: " if stream else ""
            for name, zone in data["zones"].items():
                lines.append(f"{where}{name}: {zone['entered']} entered, {zone['left']} left, {zone['inside']} inside")
            for name, line in data["lines"].items():
                lines.append(f"{where}{name}: {line['in']} in, {line['out']} out")
        return "".join(f"{visible(line)}\n" for line in lines)
