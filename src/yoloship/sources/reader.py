"""Reads one video: `VideoReader`, which gives a `Decoded` for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from yoloship.errors import YoloshipError
    from yoloship.sources.live.packets import PacketDecoding
    from yoloship.sources.source import ImageOnDevice, Stream

VIDEO_HINT: Final = "pip install 'yoloship[video]'"
MAX_BROKEN_IN_A_ROW: Final = 100
"""After so many broken frames in a row the rest of a video is given up: it is damaged, or is not a video at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One frame of a video, in the order in which they are shown.

    Attributes:
        image: (height, width, 3) uint8 BGR, upright, read only, or an image on a device; None if the frame is broken
            or was not wanted.
        pts: Its presentation time in the unit of the stream; None if it has none.
        error: Why it is broken.
    """

    image: npt.NDArray[np.uint8] | ImageOnDevice | None
    pts: int | None = None
    error: YoloshipError | None = None


class VideoReader(Protocol):
    """An open video."""

    stream: Stream

    def frames(self, is_wanted: Callable[[int], bool]) -> Iterator[Decoded]:
        """Decode the frames, in the order in which they are shown. The error of a frame is in its `error`.

        Args:
            is_wanted: Given a frame's place, from 0, says whether its image is needed.
        """

    def close(self) -> None:
        """Release the file."""


class VideoDecoding(Protocol):
    """Decodes videos elsewhere than on the CPU. Threads may share it.

    Attributes:
        side_by_side: Videos to decode at the same time.
        takes_files: Whether it decodes video files, and not only live streams.
    """

    side_by_side: int
    takes_files: bool

    @property
    def packets(self) -> PacketDecoding:
        """Decodes the packets of live streams."""

    def open(self, path: Path, resources: ExitStack, tell: Callable[[str], None]) -> VideoReader:
        """Open a video file.

        Args:
            path: The file.
            resources: Closes what is opened.
            tell: Gets a line if the CPU decodes this video after all.

        Raises:
            InputError: it is not a video, or must not be decoded by the CPU and cannot be decoded otherwise.
        """


def has_pyav() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None
