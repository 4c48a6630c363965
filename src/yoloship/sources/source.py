"""The base class of all sources, and `SOURCES`, the table of what `yoloship predict` can read.

A source gives the images of a run one after the other, with their names. A new one is one file and one line here.
Other packages add sources by entry points of the group ``yoloship.sources``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol

from yoloship._util.closing import Closing
from yoloship._util.tables import Table
from yoloship.sources.recognise import IMAGE_SUFFIXES, IMAGES, recognise
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from yoloship.errors import YoloshipError
    from yoloship.sources.reader import VideoDecoding
    from yoloship.sources.side_by_side import SideBySide


class ImageOnDevice(Protocol):
    """An image in the memory of a device, as `yoloship.cuda.device_image.DeviceImage`."""

    nbytes: int

    def host(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR, read only."""

    def close(self) -> None:
        """Let its memory be used again."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """What all frames of one video or camera have in common.

    Attributes:
        name: As the user gave it, without user names and passwords.
        path: Its file; None if it is not a file.
        rate: Declared frames per second; None if there is no such rate.
        time_base: Seconds of one unit of `Frame.pts`; None if frames have none.
        frame_count: Declared number of frames; None if unknown.
        has_audio: Whether the file has sound.
        is_live: Whether its frames come at their own time, and are gone when nobody takes them.
        status: Says in a word what a live stream is doing now: ``running``, ``reconnecting``; None for a file.
    """

    name: str
    path: Path | None = None
    rate: Fraction | None = None
    time_base: Fraction | None = None
    frame_count: int | None = None
    has_audio: bool = False
    is_live: bool = False
    status: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        index: The frame's place from 0: in its video or camera, or among the images of its source.
        name: The frame's name in results: for a file, its path, starting with what the user gave; for a frame of a
            video, ``clip.mp4#17``.
        image: A file's path, the bytes of a file, or (height, width, 3) uint8 BGR, read only. If a detector has lent
            its decoder (`Source.decode_with`), it may be an image in device memory, which the detector closes. None if
            there is an `error`.
        time_s: When it was taken, in seconds since the first frame, by the source's own clock; None for still images.
        stream: The video or camera that it is from; None for still images.
        pts: Its presentation time in `Stream.time_base`, as the file has it; None if it has none.
        error: Why the frame cannot be decoded. It becomes the error of the frame's outcome.
    """

    index: int
    name: str
    image: Path | bytes | npt.NDArray[np.uint8] | ImageOnDevice | None
    time_s: float | None = None
    stream: Stream | None = None
    pts: int | None = None
    error: YoloshipError | None = None


class Source(Closing):
    """Gives frames in order. It is a context manager, which closes it.

    A source is one class in one file, and one line in `yoloship.sources.SOURCES` or an entry point of the group
    ``yoloship.sources``. On the command line, a source of another package is chosen by its name: with the entry point
    ``webcam``, ``yoloship predict best.pt webcam:0`` gives its `open` the text ``0``.

    Attributes:
        help: One sentence that says what it reads.
        is_live: Whether its frames come at their own time, without an end that is known before.
        has_videos: Whether it is known before the run that some of its frames are those of videos.
    """

    help: ClassVar[str]
    is_live: bool = False
    has_videos: bool = False

    @classmethod
    @abstractmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Open a source.

        Args:
            texts: One or more texts, as the user wrote them.
            options: How it is read.

        Raises:
            InputError: a text names something that cannot be read.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Give each frame once, in order. The source may be iterated again unless it is live."""

    @property
    def files(self) -> Sequence[Path] | None:
        """The files in order, if every frame is one file and all are known before the run; else None."""
        return None

    @property
    def inputs(self) -> Sequence[Path]:
        """The files that are read, as far as they are known before the run: no output replaces them."""
        return self.files or ()

    @property
    def count(self) -> int | None:
        """How many frames there will be; None if that is not known."""
        return None if self.files is None else len(self.files)

    @property
    def notes(self) -> Sequence[str]:
        """Lines that the user should read before the run, for example about files that were skipped."""
        return ()

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode videos with a device from now on. A source without videos ignores it."""

    @property
    def live_streams(self) -> int | None:
        """How many cameras and streams it reads at once; None if that is not known."""
        return None

    def side_by_side(self) -> SideBySide | None:
        """The frames of several videos mixed, to be put in order again; None if there is nothing to decode at once."""
        return None

    def is_ready(self) -> bool:
        """Whether the next frame, or the end, can be given without waiting for it to happen."""
        return True

    def close(self) -> None:  # most have nothing to give back
        """Release what is open. It may be called twice."""


SOURCES: Table[Source] = Table(
    "yoloship.sources",
    "source",
    MappingProxyType(
        {
            "stdin": "yoloship.sources.standard_input:StandardInput",
            "archive": "yoloship.sources.archive:Archives",
            "list": "yoloship.sources.lists:SourceList",
            "csv": "yoloship.sources.csv_list:CsvList",
            "url": "yoloship.sources.url:WebImages",
            "live": "yoloship.sources.live.streams:LiveStreams",
            "video": "yoloship.sources.video:VideoFiles",
            "images": "yoloship.sources.finding:ImageFiles",
        }
    ),
    base="yoloship.sources.source:Source",
)
"""Name of a source → its class."""


def open_source(texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Source:
    """Open what the user named on the command line.

    Args:
        texts: Files, folders, patterns and whatever else `recognise` knows; or ``NAME:TEXT``, which gives TEXT to the
            source of that name, unless a file has exactly that name. Sources of different kinds follow each other in
            this order, each once, and live ones come last.
        options: How they are read.

    Raises:
        InputError: nothing can be read there.
        DependencyError: a third party's source cannot be loaded, or a package is missing.
    """
    groups: list[tuple[str, list[str]]] = []
    for text in dict.fromkeys(map(str, texts)):
        name, colon, rest = text.partition(":")
        if not (colon and _is_name(name) and not _exists(text) and name in SOURCES):
            is_image = os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES and "://" not in text
            name, rest = IMAGES if is_image else recognise(text), text
        if not groups or groups[-1][0] != name:
            groups.append((name, []))
        groups[-1][1].append(rest)
    if len(groups) == 1:
        name, rests = groups[0]
        return SOURCES.load(name).open(rests, options)
    from yoloship.sources.chain import Chain

    return Chain.of([(SOURCES.load(name), rests) for name, rests in groups], options)


def _is_name(text: str) -> bool:
    """Whether a text can be the name of a source; a single letter is a drive on Windows."""
    return len(text) > 1 and text.replace("-", "_").isidentifier()


def _exists(text: str) -> bool:
    try:
        return os.path.lexists(text)
    except ValueError:  # a name that no system takes
        return False
