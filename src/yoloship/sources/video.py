"""The source of videos: files and patterns, decoded by PyAV, or by OpenCV if PyAV is not installed."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yoloship.errors import InputError, YoloshipError
from yoloship.sources.ahead import ahead
from yoloship.sources.clock import Clock
from yoloship.sources.finding import glob_entries, has_magic, natural_key
from yoloship.sources.reader import VIDEO_HINT, has_pyav
from yoloship.sources.recognise import VIDEO_SUFFIXES
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions, check_step
from yoloship.sources.side_by_side import SideBySide
from yoloship.sources.source import Frame, Source, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from yoloship.sources.ahead import Stopped
    from yoloship.sources.reader import VideoDecoding, VideoReader

_logger = logging.getLogger("yoloship.sources")

FRAMES_AHEAD: Final = 2
"""Decoded frames that wait for the detector, besides the one that is being decoded."""
WITHOUT_PYAV: Final = f"OpenCV reads the videos: without sound, and without detecting damaged frames; {VIDEO_HINT}"


@dataclass(eq=False)
class VideoFiles(Source):
    """Videos, one after the other.

    Attributes:
        paths: The videos.
        options: How they are read.
        decoding: Decodes them elsewhere than on the CPU; None decodes them there.
    """

    help = "Videos and patterns of videos."
    has_videos = True
    paths: Sequence[Path] = ()
    options: SourceOptions = DEFAULT_OPTIONS
    notes: Sequence[str] = field(default=())
    decoding: VideoDecoding | None = None

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Find the videos. They are opened one at a time, and what is wrong with one is the error of its frame."""
        check_step(options.frame_step)
        found: dict[str, Path] = {}
        for text in texts:
            for path in _expand(text):
                found.setdefault(os.path.realpath(path), Path(path))
        return cls(tuple(found.values()), options, () if has_pyav() else (WITHOUT_PYAV,))

    @property
    def inputs(self) -> Sequence[Path]:
        """The videos."""
        return self.paths

    def __iter__(self) -> Iterator[Frame]:
        for path in self.paths:
            yield from ahead(self.reading(path), FRAMES_AHEAD)

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode the videos that are opened from now on with a device, if it takes files."""
        if decoding.takes_files:
            self.decoding = decoding

    def side_by_side(self) -> SideBySide | None:
        """The frames of several videos mixed; None if they are decoded one after the other."""
        if self.decoding is None or self.decoding.side_by_side < 2 or len(self.paths) < 2:
            return None
        return SideBySide([self.reading(path) for path in self.paths], self.decoding.side_by_side)

    def reading(self, path: Path) -> Callable[[Stopped], Iterator[Frame]]:
        """What reads one of the videos when it is called; it is given a function that says whether to stop."""
        opening = _open_video if self.decoding is None else partial(_open_with, self.decoding, self.options.on_event)
        return partial(read_video, path, opening, self.options.frame_step)


def read_video(
    path: Path | str,
    open_video: Callable[[Path | str, ExitStack, Stopped], VideoReader],
    frame_step: int,
    is_stopped: Stopped,
) -> Iterator[Frame]:
    """The frames of one video. What is wrong with it is the error of a frame.

    Args:
        path: Its file, or what to call it.
        open_video: Opens it, and has the stack close it; it may ask whether it is wanted any longer.
        frame_step: Give every n-th frame, and every broken one.
        is_stopped: Whether nobody wants any more frames.
    """
    index, stream, clock = -1, Stream(str(path), path if isinstance(path, Path) else None), Clock(None, None)

    def broken(error: YoloshipError, pts: int | None = None) -> Frame:
        name = f"{stream.name}#{index}" if index >= 0 else stream.name
        error.subject = name
        return Frame(max(index, 0), name, None, clock.broken_s(pts), stream, pts, error)

    with ExitStack() as stack:
        try:
            video = open_video(path, stack, is_stopped)
            stream = video.stream
            clock = Clock(stream.time_base, stream.rate)
            for decoded in video.frames(lambda place: place % frame_step == 0):
                if is_stopped():
                    return
                index += 1
                if decoded.error is not None:
                    yield broken(decoded.error, decoded.pts)
                    continue
                time_s = clock.time_s(decoded.pts)
                if decoded.image is not None:
                    yield Frame(index, f"{stream.name}#{index}", decoded.image, time_s, stream, decoded.pts)
        except YoloshipError as error:
            index += 1 if index >= 0 else 0
            yield broken(error)


def _open_video(path: Path | str, resources: ExitStack, is_stopped: Stopped) -> VideoReader:
    del is_stopped  # a file does not keep anybody waiting
    if has_pyav():
        from yoloship.sources.pyav_video import PyavVideo

        return PyavVideo.of_path(Path(path), resources)
    from yoloship.sources.opencv_video import OpencvVideo

    return OpencvVideo.of_path(Path(path), resources)


def _open_with(
    decoding: VideoDecoding,
    on_event: Callable[[str], None] | None,
    path: Path | str,
    resources: ExitStack,
    is_stopped: Stopped,
) -> VideoReader:
    del is_stopped  # see `_open_video`
    return decoding.open(Path(path), resources, _logger.warning if on_event is None else on_event)


def _expand(text: str) -> list[str]:
    """The videos that a text names: a file, also one that is missing, because reading it says so; or a pattern."""
    if not text:
        raise InputError("the name of a video is empty")
    if os.path.isdir(text):
        raise InputError("is a folder, not a video", subject=text, hint="give a pattern such as 'cams/*.mp4'")
    if os.path.lexists(text) or not has_magic(text):
        return [text]
    matches = [
        entry.path
        for entry in glob_entries(text)
        if entry.kind == "file" and os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES
    ]
    if not matches:
        raise InputError("matches no videos", subject=text, hint="quote the pattern, and check its folder")
    return sorted(matches, key=natural_key)
