"""Tracks the objects of a run: one tracker, one counter of ids and one scene for each of its streams, `Tracks`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.tracking.clock import usable_rate
from yoloship.tracking.presets import track_options
from yoloship.tracking.scene import Scene, SceneCounter
from yoloship.tracking.tracker import ByteTracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yoloship.model import ModelInfo
    from yoloship.results import Result
    from yoloship.sources import Frame, Stream
    from yoloship.tracking.presets import TrackOptions
    from yoloship.tracking.scene_file import SceneConfig
    from yoloship.tracking.tracker import Tracked

USUAL_THRESHOLD: Final = 0.25
"""Score above which a detection is reported although it has no track: the detectors' own default."""
MAX_STREAMS: Final = 256
"""Streams whose tracks are kept: those of the last frames. More only take part in one run one after the other."""


@dataclass(slots=True)
class _Followed:
    """A stream with its tracker and its scene."""

    stream: Stream | None
    tracker: ByteTracker
    scene: SceneCounter | None


class Tracks:
    """Gives the objects of each stream their ids, frame by frame. It belongs to one run and one thread.

    Frames of one stream come in their order; frames of several streams may alternate. Images without a stream are
    tracked as one stream, in which each image is one frame.

    Args:
        options: The name of a preset in `yoloship.tracking.presets.PRESETS`, or options; None takes the default.
        scene: Zones and lines to count at; None counts nothing.
        score_threshold: A detection without a track is left out unless its score is above this, in [0, 1]. The detector
            runs at a lower threshold (`detect_threshold`) for the sake of objects that are partly hidden.

    Attributes:
        options: The options.

    Raises:
        InputError: there is no such preset, or the threshold is out of range.
    """

    def __init__(
        self,
        options: TrackOptions | str | None = None,
        scene: SceneConfig | None = None,
        *,
        score_threshold: float = USUAL_THRESHOLD,
    ) -> None:
        if not 0 <= score_threshold <= 1:
            got = repr(score_threshold)
            raise InputError("out of range", subject="score_threshold", expected="a number from 0 to 1", got=got)
        self.options = track_options(options)
        self._config, self._threshold = scene, score_threshold
        self._followed: OrderedDict[str | None, _Followed] = OrderedDict()
        self._streams: set[str] = set()
        self._problems: list[str] = []

    @property
    def detect_threshold(self) -> float:
        """The score threshold for the detector."""
        return min(self.options.detect_threshold, self._threshold)

    def check_model(self, info: ModelInfo) -> None:
        """Refuse a model whose results cannot be tracked, or that lacks a class of the scene.

        Raises:
            InputError: it gives no boxes, or a zone or line counts a class that it does not have.
        """
        if info.transform is not None:
            raise InputError(
                "cannot be tracked, because its results have no boxes", subject=f"a model of the task {info.task!r}"
            )
        if self._config is not None:
            self._config.check_classes(info.class_names)

    def update(self, frame: Frame | None, result: Result | None) -> tuple[Detections | None, Scene | None]:
        """Track the objects of the next frame.

        Args:
            frame: Where the image is from; None for an image without a source.
            result: Its detections; None if the frame failed, which lets time pass.

        Returns:
            The detections with `track_ids`, best first; None if the frame failed. Detections without a track whose
            score is not above the threshold are left out. And the counts up to this frame; None without a scene.

        Raises:
            InputError: the result has no boxes, or the frame's time is not a finite number.
        """
        if result is not None and not isinstance(result, Detections):
            raise InputError("cannot be tracked, because it has no boxes", subject=f"a result of task {result.task!r}")
        followed = self._followed_of(None if frame is None else frame.stream)
        time_s = _time_of(frame)
        tracker, scene = followed.tracker, followed.scene
        if result is None:
            tracker.skip(time_s)
            if scene is None:
                return None, None
            return None, scene.count(tracker.alive_ids, tracker.now_s, is_timed=time_s is not None)
        answer = tracker.update(result.boxes_xyxy, result.scores, time_s)
        found = self._with_ids(result, answer)
        if scene is None:
            return found, None
        counts = scene.update(found, tracker.alive_ids, tracker.now_s, is_timed=time_s is not None)
        self._problems += scene.problems
        scene.problems.clear()
        return found, counts

    def take_problems(self) -> Sequence[str]:
        """Lines that the user should read, each once: zones and lines that can never count in a stream."""
        problems, self._problems = list(dict.fromkeys(self._problems)), []
        return problems

    def unseen_streams(self) -> Sequence[str]:
        """Streams that the scene names, and of which no frame has come; for the end of a run."""
        shapes = () if self._config is None else self._config.shapes
        named = dict.fromkeys(name for shape in shapes for name in shape.rule.streams or ())
        return [name for name in named if name not in self._streams]

    def _followed_of(self, stream: Stream | None) -> _Followed:
        key = None if stream is None else stream.name
        followed = self._followed.get(key)
        if followed is None:
            rate = usable_rate(None if stream is None or stream.rate is None else float(stream.rate))
            scene = None if self._config is None else SceneCounter(self._config, stream)
            followed = self._followed[key] = _Followed(stream, ByteTracker(self.options, rate), scene)
            if stream is not None:
                self._streams |= {stream.name, stream.name.replace("\\", "/").rsplit("/", 1)[-1]}
            if len(self._followed) > MAX_STREAMS:
                self._followed.popitem(last=False)
        self._followed.move_to_end(key)
        return followed

    def _with_ids(self, result: Detections, answer: Tracked) -> Detections:
        boxes = result.boxes_xyxy
        if self.options.output_box == "filter" and result.boxes_xywhr is None:
            height, width = result.image_hw
            smooth = np.clip(answer.boxes_xyxy, 0, [width, height, width, height]).astype(np.float32)
            boxes = np.where(answer.has_track[:, None], smooth, boxes)
        found = replace(result, boxes_xyxy=boxes, track_ids=answer.ids)
        keep = answer.has_track | (result.scores > self._threshold)
        return found if keep.all() else found[keep]


def _time_of(frame: Frame | None) -> float | None:
    """A frame's time in seconds: its own, or its place divided by the rate of its stream; None if neither is known."""
    if frame is None:
        return None
    if frame.time_s is not None:
        return frame.time_s
    rate = None if frame.stream is None or frame.stream.rate is None else usable_rate(float(frame.stream.rate))
    return None if rate is None else frame.index / rate
