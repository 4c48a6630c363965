"""Tracks the objects of videos, cameras and images: `yoloship.track`, and `yoloship.atrack` for ``async for``."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from numbers import Real
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final, cast

from yoloship.detect.detector import Detector
from yoloship.detect.preprocess import several_images
from yoloship.detect.stream import Outcome
from yoloship.errors import InputError
from yoloship.results.detections import Detections
from yoloship.sources import Frame, Stream, open_source
from yoloship.tracking.scene_file import SceneConfig, read_scene
from yoloship.tracking.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence

    from yoloship.detect.options import DetectOptions
    from yoloship.detect.slicing.sliced import SlicedDetector
    from yoloship.model import ModelInfo
    from yoloship.tracking.presets import TrackOptions
    from yoloship.tracking.scene import Scene

    _Framed = tuple[Frame, object]
    """The frame that says an image's time, and what the detector gets."""

_END: Final = object()
_logger: Final = logging.getLogger("yoloship.tracking")


@dataclass(frozen=True, slots=True, eq=False)
class TrackedOutcome(Outcome[Detections]):
    """The outcome of one frame, with ids.

    Attributes:
        scene: What the zones and lines have counted up to this frame; None without zones and lines.
    """

    scene: Scene | None = None


def track(  # noqa: PLR0913 - all but the model and the source have defaults
    model: Detector | SlicedDetector | str | PathLike[str],
    source: Iterable[object] | str | PathLike[str],
    *,
    tracking: TrackOptions | str | None = None,
    scene: SceneConfig | str | PathLike[str] | None = None,
    options: DetectOptions | None = None,
    times_s: Iterable[float] | None = None,
    rate: float | None = None,
    keep_images: bool = False,
) -> Iterator[TrackedOutcome]:
    """Find objects in a video or a sequence of images, and give each object the same id in all frames.

    >>> for outcome in yoloship.track("best.pt", "street.mp4"):
    ...     for detection in outcome.unwrap():
    ...         print(outcome.frame.time_s, detection.track_id, detection.class_name, detection.box_xyxy)

    The results come in order while the model runs on the next frames. A frame that fails gives an outcome with an
    error, and tracking continues. To stop early, close the generator; a `break` that drops it does so too.

    Args:
        model: A `Detector` or `SlicedDetector` for boxes, masks, keypoints or oriented boxes; or the name of a model,
            which is loaded and closed.
        source: A video, a camera's number, an address, a folder or a pattern, as on the command line; or a sequence of
            images or frames, anything that `Detector.stream` accepts.
        tracking: The name of a preset (``yoloship``, ``trackers``, ``paper``, ``ultralytics``), or
            `yoloship.tracking.presets.TrackOptions`. None takes the first.
        scene: Zones and lines to count at, or the name of a file that describes them. None counts nothing.
        options: Which detections to keep; None takes the options of the detector. A detection without a track is left
            out unless its score is above the threshold in these options. The tracker itself also uses boxes with lower
            scores, for objects that are partly hidden.
        times_s: The time of each image in seconds, if the source is images. None takes the times of the frames; if
            there are none, each image counts as one frame.
        rate: Frames per second, if the source is images. None takes 30.
        keep_images: Whether each outcome contains its image, for drawing.

    Yields:
        One outcome for each frame. Its result has `track_ids`.

    Raises:
        InputError: an option, the scene or a time is not valid, the model's results have no boxes, or there are fewer
            times than images.
        YoloshipError: the model cannot be loaded.
    """
    is_named = isinstance(source, str | PathLike)
    if is_named and (times_s is not None or rate is not None):
        raise InputError(
            "only images in memory, or a list of them, have no times of their own", subject="times_s, rate",
            hint="leave them out for a video, a camera or a folder",
        )  # fmt: skip
    _check_types(rate, scene)
    config = scene if isinstance(scene, SceneConfig | None) else read_scene(scene)
    lenders: list[Detector[Any]] = []
    if isinstance(model, str | PathLike):
        detector: Any = _Loaded(fspath(model))
    else:
        detector = nullcontext(model)
        Tracks(tracking, config).check_model(_own(model).info)
    if is_named:
        frames = _opened(fspath(cast("str", source)), lenders)
    else:
        frames = _framed(several_images(cast("Iterable[object]", source), 3), times_s, rate)
    return _follow(detector, frames, _Request(tracking, config, options, keep_images, lenders))


def _check_types(rate: object, scene: object) -> None:
    """Refuse a rate that is not a number of frames, and a scene that is neither one nor the name of a file."""
    if rate is not None and not (isinstance(rate, Real) and 0 < float(rate) < float("inf")):
        raise InputError("out of range", subject="rate", expected="frames in a second", got=repr(rate))
    if not isinstance(scene, SceneConfig | str | PathLike | None):
        expected = "the name of a file, or a SceneConfig"
        raise InputError("wrong type", subject="scene", expected=expected, got=type(scene).__name__)


def atrack(  # noqa: PLR0913 - all but the model and the source have defaults
    model: Detector | SlicedDetector | str | PathLike[str],
    source: Iterable[object] | str | PathLike[str],
    *,
    tracking: TrackOptions | str | None = None,
    scene: SceneConfig | str | PathLike[str] | None = None,
    options: DetectOptions | None = None,
    times_s: Iterable[float] | None = None,
    rate: float | None = None,
    keep_images: bool = False,
) -> AsyncIterator[TrackedOutcome]:
    """Like `track`, for ``async for``: other tasks run while the model works.

    If the task is cancelled or the loop is left, it ends as `Detector.astream` does.

    Args:
        model: As for `track`, and so are the other arguments.
        source: A video, a camera, a folder, or a sequence of images.
        tracking: The name of a preset, or options.
        scene: Zones and lines to count at, or the name of a file that describes them.
        options: Which detections to keep.
        times_s: The time of each image in seconds, if the source is images.
        rate: Frames per second, if the source is images.
        keep_images: Whether each outcome contains its image, for drawing.

    Returns:
        An asynchronous iterator of one outcome for each frame, in their order.

    Raises:
        InputError: as for `track`.
    """
    from yoloship.detect.async_stream import asynchronously

    outcomes = track(
        model, source, tracking=tracking, scene=scene, options=options, times_s=times_s, rate=rate,
        keep_images=keep_images,
    )  # fmt: skip
    stream = asynchronously(cast("Generator[Outcome[Detections], None, None]", outcomes))
    return cast("AsyncIterator[TrackedOutcome]", stream)


def _own(model: object) -> Detector[Any]:
    """The detector itself, or the one that a sliced detector runs.

    Raises:
        InputError: it is something else.
    """
    own = getattr(model, "detector", model)
    if not isinstance(own, Detector):
        expected = "a Detector, a SlicedDetector or a name"
        raise InputError("wrong type", subject="model", expected=expected, got=type(model).__name__)
    return own


@dataclass(frozen=True, slots=True)
class _Request:
    """What `track` was asked for."""

    tracking: TrackOptions | str | None
    scene: SceneConfig | None
    options: DetectOptions | None
    keep_images: bool
    lenders: list[Detector[Any]]
    """Gets the detector before the first frame is read, unless its tiles need the pixels on the host."""


class _Loaded:
    """Loads a model when the first result is wanted, and closes it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Detector[Any]:
        from yoloship.models.loading import load

        self._detector = load(self._name)
        return self._detector

    def __exit__(self, *_: object) -> None:
        self._detector.close()


def _follow(detector: Any, frames: Generator[_Framed], asked: _Request) -> Iterator[TrackedOutcome]:
    waiting: deque[Frame] = deque()

    def images() -> Iterator[object]:
        for frame, image in frames:
            waiting.append(frame)
            yield image

    with detector as model, closing(frames):
        if isinstance(model, Detector):
            asked.lenders.append(model)
        options = asked.options or _own(model).options
        tracks = Tracks(asked.tracking, asked.scene, score_threshold=options.score_threshold)
        tracks.check_model(model.info)
        wanted = detect_options(options, tracks, model.info)
        stream = model.stream(images(), options=wanted, keep_images=asked.keep_images)
        yield from tracked(stream, tracks, _logger.warning, waiting)


def tracked(
    outcomes: Iterator[Outcome],
    tracks: Tracks,
    warn: Callable[[str], None],
    frames: deque[Frame] | None = None,
) -> Iterator[TrackedOutcome]:
    """Track the objects of the outcomes of a stream.

    Args:
        outcomes: In the order of the frames; closed at the end.
        tracks: The trackers of the streams.
        warn: Gets a line about each zone or line that can never count, when that is known.
        frames: The frame of each outcome that has not been drawn yet; None if outcomes have frames of their own.

    Yields:
        The outcomes, with ids and counts.

    Raises:
        InputError: a time is not a finite number.
    """
    with closing(outcomes):  # type: ignore[type-var]  # it is a generator
        for one in outcomes:
            frame = frames.popleft() if frames is not None else one.frame
            found, scene = tracks.update(frame, one.result)
            for line in tracks.take_problems():
                warn(line)
            yield TrackedOutcome(one.index, one.source, found, one.error, one.image, scene)
    for name in tracks.unseen_streams():
        warn(f"some zones or lines are for {name!r}, but no frame came from it")


def detect_options(options: DetectOptions, tracks: Tracks, info: ModelInfo) -> DetectOptions:
    """Options for a detector whose results are tracked: with the lower threshold of the tracker.

    A graph that suppresses inside has its own threshold, below which it gives nothing; then that is taken.

    Args:
        options: What is asked for.
        tracks: The tracker.
        info: The model's description.
    """
    threshold = tracks.detect_threshold
    if info.nms is not None:
        threshold = max(threshold, info.nms.score_threshold)
    return replace(options, score_threshold=min(threshold, options.score_threshold))


def _opened(name: str, lenders: Sequence[Detector[Any]]) -> Generator[_Framed]:
    """The frames of what a name stands for, decoded by what a detector lends; the source is closed at the end."""
    with open_source([name]) as source:
        for detector in lenders:
            detector.lend_decoder(source)
        for frame in source:
            yield frame, frame


def _framed(images: Iterable[object], times_s: Iterable[float] | None, rate: float | None) -> Generator[_Framed]:
    """Each image with the frame that says its time; images that are frames already say it themselves."""
    from fractions import Fraction

    stream = None if rate is None else Stream("images", rate=Fraction(float(rate)).limit_denominator(100_000))
    times = None if times_s is None else iter(times_s)
    for index, image in enumerate(images):
        if isinstance(image, Frame):
            if times is not None or rate is not None:
                raise InputError("frames have times of their own", subject="times_s, rate", hint="leave them out")
            yield image, image
            continue
        time: Any = None if times is None else next(times, _END)
        if time is _END:
            raise InputError("fewer times than images", subject="times_s", expected="one for each image",
                             got=str(index))  # fmt: skip
        if not isinstance(time, Real | None):
            raise InputError("is not a time", subject="times_s", expected="seconds", got=repr(time)[:60])
        yield Frame(index, f"image {index}", None, None if time is None else float(time), stream), image
