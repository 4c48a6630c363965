"""The annotated videos of a run: one file for each video or camera, in the folder of the annotated images."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from yoloship._util.closing import Closing
from yoloship._util.writing import free_name
from yoloship.errors import YoloshipError
from yoloship.sinks.annotated_video import AnnotatedVideo
from yoloship.sinks.naming import stem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.sources import Frame, Stream


class AnnotatedVideos(Closing):
    """Hands each frame to the file of its video.

    A video is finished when the next one begins. Cameras stay open until the end, because their frames alternate.

    Args:
        overwrite: Whether files of their names may be replaced.
        protected: Files that are never replaced, besides the sources of the videos.
    """

    def __init__(self, *, overwrite: bool, protected: Sequence[Path] = ()) -> None:
        self._overwrite, self._protected = overwrite, protected
        self._open: dict[str, AnnotatedVideo] = {}
        self._is_live: dict[str, bool] = {}
        self._failed: set[str] = set()
        self._taken: dict[str, int] = {}

    def write(self, folder: Path, image: npt.NDArray[np.uint8], frame: Frame) -> Path | None:
        """Append a frame to its video.

        Args:
            folder: Where the videos are made.
            image: (height, width, 3) uint8 BGR, drawn on already; it must not change any more.
            frame: The frame, of a video or a camera.

        Returns:
            The file, which has this name once it is finished; None if the video has failed before.

        Raises:
            OutputError: a video cannot be written. This is raised once for each.
            DependencyError: PyAV is not installed, or has no encoder for H.264.
        """
        assert frame.stream is not None
        name = frame.stream.name
        self.finish(besides=name)
        if name in self._failed:
            return None
        try:
            if name not in self._open:
                self._open[name] = self._made(folder, frame.stream)
            self._open[name].write(image, frame)
        except YoloshipError:
            self._failed.add(name)
            raise
        return self._open[name].path

    def finish(self, besides: str | None = None) -> None:
        """Finish the videos that are files.

        Args:
            besides: The name of a video that goes on.

        Raises:
            OutputError: one cannot be finished.
        """
        for name in [name for name in self._open if name != besides and not self._is_live[name]]:
            self._end(name)

    def close(self) -> None:
        """Finish all videos, each even if another cannot be finished. It may be called twice.

        Raises:
            OutputError: one cannot be finished.
        """
        with ExitStack() as stack:
            for name in list(self._open):
                stack.callback(self._end, name)

    def abort(self) -> None:
        """Finish all videos in the middle: their sound ends with their last frame. Otherwise as `close`."""
        with ExitStack() as stack:
            for name in list(self._open):
                stack.callback(self._end, name, AnnotatedVideo.abort)

    def _made(self, folder: Path, stream: Stream) -> AnnotatedVideo:
        self._is_live[stream.name] = stream.is_live
        path = folder / free_name(stem_of(stream.name), ".mp4", self._taken)
        return AnnotatedVideo(path, stream, overwrite=self._overwrite, protected=self._protected)

    def _end(self, name: str, end: Callable[[AnnotatedVideo], None] = AnnotatedVideo.close) -> None:
        try:
            end(self._open.pop(name))
        except YoloshipError:
            if name not in self._failed:  # otherwise it was said before
                raise
