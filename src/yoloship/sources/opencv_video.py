"""Decodes a video with OpenCV, for installations without PyAV: `OpencvVideo`.

OpenCV does not report damaged frames, and gives no sound. It opens files by name, so only files whose content is that
of a video are given to it: a playlist, which would refer to other files, is text.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.reading import open_regular
from yoloship.errors import DependencyError, ImageError, InputError
from yoloship.images import DEFAULT_LIMITS, ImageLimits
from yoloship.kinds import HEAD_BYTES, kind_of
from yoloship.sources.pixels import check_size
from yoloship.sources.reader import VIDEO_HINT, Decoded
from yoloship.sources.source import Stream
from yoloship.sources.truncation import missing_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from typing_extensions import Self

_TIME_BASE: Final = Fraction(1, 90_000)
"""Of the times that OpenCV gives in milliseconds."""


class OpencvVideo:
    """A video that OpenCV decodes, with the times that it gives.

    Args:
        path: The file.
        limits: The largest allowed frame.

    Raises:
        InputError: it is not a video.
        DependencyError: it needs PyAV.
    """

    def __init__(self, path: Path, *, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        import cv2

        self._limits = limits
        with open_regular(path, error=InputError, wanted="a video") as file:
            head = file.read(HEAD_BYTES)
            self._missing_bytes = missing_bytes(file)
        if kind_of(head) != "video":
            raise DependencyError("is a video that needs PyAV, or not a video", subject=str(path), hint=VIDEO_HINT)
        self._capture: Any = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(
                "cannot be opened by OpenCV: it is damaged, cut short, or of a codec that it does not have",
                subject=str(path), hint=VIDEO_HINT,
            )  # fmt: skip
        rate = Fraction(self._capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
        self.stream = Stream(str(path), path, rate if 0 < rate <= 1000 else None, _TIME_BASE)

    @classmethod
    def of_path(cls, path: Path, resources: ExitStack, *, limits: ImageLimits = DEFAULT_LIMITS) -> Self:
        """Open a file; the stack closes it."""
        video = cls(path, limits=limits)
        resources.callback(video.close)
        return video

    def frames(self, is_wanted: Callable[[int], bool]) -> Iterator[Decoded]:
        """Decode the frames, in the order in which they are shown; see `VideoReader.frames`."""
        import cv2

        count = 0
        while self._capture.grab():
            pts = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 90)
            sides = [int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
            try:
                check_size(sides[0], sides[1], self._limits)
            except ImageError as error:
                yield Decoded(None, pts, error)
                return
            image = None
            if is_wanted(count):
                got, image = self._capture.retrieve()
                if not got or image is None:
                    yield Decoded(None, pts, ImageError("frame is damaged"))
                    count += 1
                    continue
                image.flags.writeable = False
            yield Decoded(image, pts)
            count += 1
        if self._missing_bytes:
            yield Decoded(
                None, None,
                ImageError(
                    f"is cut short: {self._missing_bytes:,} bytes are missing after this frame",
                    hint="copy the video again",
                ),
            )  # fmt: skip
        elif not count:
            yield Decoded(None, None, ImageError("has no frames"))

    def close(self) -> None:
        """Release the decoder. It may be called twice."""
        self._capture.release()
