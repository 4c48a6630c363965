"""The source ``-``: an image, a stream of JPEG images, or a video that another program writes to standard input."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from yoloship.errors import ImageError, InputError, YoloshipError
from yoloship.images import DEFAULT_LIMITS
from yoloship.kinds import HEAD_BYTES, IMAGE_KINDS, kind_of, wrong_kind
from yoloship.sources.ahead import ahead
from yoloship.sources.jpeg_stream import START, split_jpegs
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions, check_step
from yoloship.sources.source import Frame, Source, Stream
from yoloship.sources.video import FRAMES_AHEAD, read_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from typing_extensions import Self

    from yoloship.sources.ahead import Stopped
    from yoloship.sources.reader import VideoReader

NAME: Final = "stdin"
"""What the frames, and the files that are made of them, are called."""
MJPEG_RATE: Final = Fraction(25)
"""Frames per second that FFmpeg assumes too: MJPEG states no times."""
_MULTIPART: Final = re.compile(rb"(?i)(\r?\n|^)content-type:\s*image/jpe?g")
_MULTIPART_BYTES: Final = 4096
_POLL_MS: Final = 100
_logger = logging.getLogger("yoloship.sources")


class StandardInput(Source):
    """What another program writes to standard input. Its first bytes say what it is.

    Args:
        options: How it is read.
    """

    help = "Standard input (-): an image, a stream of MJPEG, or a video."

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._is_read = False

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Check that there is something to read from; nothing is read before the first frame is asked for."""
        check_step(options.frame_step)
        for text in texts:
            if text != "-":
                raise InputError("is not standard input", subject=text, hint="write '-'")
        if len(texts) > 1:
            raise InputError("standard input can be read only once", subject="-")
        _file()
        return cls(options)

    def __iter__(self) -> Iterator[Frame]:
        if self._is_read:
            raise InputError("standard input has been read already", subject="-")
        self._is_read = True
        source = _Bytes(_file())
        try:
            head = source.peek(HEAD_BYTES)
            if b"content-type" in head.lower():
                head = source.peek(_MULTIPART_BYTES)
            yield from self._frames(source, head)
        except YoloshipError as error:
            error.subject = NAME
            yield Frame(0, NAME, None, None, None, None, error)

    def _frames(self, source: _Bytes, head: bytes) -> Iterator[Frame]:
        kind = kind_of(head)
        if not head:
            raise InputError("is empty", hint="check the program that writes to it")
        if _MULTIPART.search(head):
            yield from self._jpegs(split_jpegs(source.read))
        elif head.startswith(START):
            images = split_jpegs(source.read)
            first, second = next(images, b""), next(images, None)
            if second is None:
                yield Frame(0, NAME, first)
            else:
                yield from self._jpegs(_chained(first, second, images))
        elif kind in IMAGE_KINDS:
            yield Frame(0, NAME, source.read_all(DEFAULT_LIMITS.max_file_bytes))
        elif kind in {"video", "unknown"}:
            yield from ahead(
                partial(read_video, NAME, partial(_open_video, source), self._options.frame_step), FRAMES_AHEAD
            )
        else:
            raise wrong_kind(kind, "image", subject=NAME, error=InputError, start=head)

    def _jpegs(self, images: Iterator[bytes]) -> Iterator[Frame]:
        """Each image as a frame; it is decoded by the detector, in its threads."""
        _logger.warning("%s: MJPEG has no times, so %d frames a second are assumed", NAME, MJPEG_RATE)
        stream, index = Stream(NAME, rate=MJPEG_RATE), 0
        try:
            for index, image in enumerate(images):
                if index % self._options.frame_step == 0:
                    yield Frame(index, f"{NAME}#{index}", image, float(index / MJPEG_RATE), stream)
        except ImageError as error:
            index += 1
            error.subject = f"{NAME}#{index}"
            yield Frame(index, error.subject, None, float(index / MJPEG_RATE), stream, None, error)


class _Bytes:
    """The bytes of standard input, as they come. Its `read` ends early if nobody wants any more.

    Args:
        file: An unbuffered or a buffered file.
    """

    def __init__(self, file: Any) -> None:
        self.is_stopped: Stopped = lambda: False
        self._file = file
        self._head = b""
        try:
            self._descriptor: int | None = file.fileno()
        except (OSError, AttributeError, io.UnsupportedOperation):
            self._descriptor = None

    def peek(self, count: int) -> bytes:
        """The first bytes, fewer if it ends before; `read` gives them again."""
        while len(self._head) < count and (piece := self._read(count - len(self._head))):
            self._head += piece
        return self._head

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end."""
        if self._head:
            given, self._head = self._head[:count], self._head[count:]
            return given
        return self._read(count)

    def read_all(self, limit_bytes: int) -> bytes:
        """All bytes.

        Raises:
            ImageError: there are more than the limit.
        """
        pieces, count = [], 0
        while piece := self.read(1 << 20):
            pieces.append(piece)
            count += len(piece)
            if count > limit_bytes:
                raise ImageError("image is too long", expected=f"at most {limit_bytes:,} bytes")
        return b"".join(pieces)

    def _read(self, count: int) -> bytes:
        if self._descriptor is None:
            return bytes(self._file.read(count))
        import select

        if hasattr(select, "poll"):  # Windows has none for pipes, and waits
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            while not poll.poll(_POLL_MS):
                if self.is_stopped():
                    return b""
        return os.read(self._descriptor, count)


def _file() -> Any:
    """The bytes of standard input.

    Raises:
        InputError: it is closed, or a terminal.
    """
    stdin = sys.stdin
    if stdin is None or stdin.closed:
        raise InputError("standard input is closed", subject="-", hint="pipe an image or a video into it")
    if stdin.isatty():
        raise InputError("standard input is a terminal", subject="-", hint="pipe an image or a video into it")
    return stdin.buffer


def _open_video(source: _Bytes, name: Path | str, resources: ExitStack, is_stopped: Stopped) -> VideoReader:
    from yoloship.sources.pyav_video import PyavVideo

    source.is_stopped = is_stopped
    video = PyavVideo(source, str(name))  # type: ignore[arg-type]  # `read` is all that it needs
    resources.callback(video.close)
    return video


def _chained(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
