"""Streams that are held at a rate, like cameras: a frame is there when it is due, and gone when the next one comes."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from yoloship._util.closing import wait_for
from yoloship.errors import InputError
from yoloship.evaluate.bench_sources import VideoLoop
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions
from yoloship.sources.source import Frame, Source, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from yoloship.sources.reader import VideoDecoding

OPENING_S: Final = 60.0
"""The most that all videos together may take to give their first frames."""
_LATE_S: Final = 1.0
"""After the last frame was due, so much longer are frames waited for."""


class HeldImages(Source):
    """Images as the frames of streams. `Frame.time_s` is when a frame is due, in seconds since `begun_s`.

    Each stream has a phase of its own. A frame that is not taken before the next one of its stream is due is gone, as a
    camera's is.

    Args:
        images: What `Detector.stream` takes: arrays, paths, images on a device. The frames of a stream are these in
            turn.
        streams: How many.
        fps: Frames a second of each.
        seconds: Frames are due for so long.

    Attributes:
        begun_s: By `time.perf_counter`, when the first frame was due; 0.0 before that.
    """

    help = "Images held at a rate, for measurements."
    is_live = True

    def __init__(self, images: Sequence[Any], streams: int, fps: float, seconds: float) -> None:
        self._images, self._streams, self._fps = images, streams, fps
        self._count = due_frames(streams, fps, 0.0, seconds)
        self._next = 0
        self._names = _named(streams)
        self.begun_s = 0.0

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:  # noqa: ARG003 - the base's
        """Take image files, as one stream of 30 frames a second, for 10 seconds."""
        return cls([Path(text) for text in texts], 1, 30.0, 10.0)

    def __iter__(self) -> Iterator[Frame]:
        self.begun_s = time.perf_counter()
        while True:
            now_s = time.perf_counter() - self.begun_s
            while self._next < self._count and self._due_s(self._next + self._streams) <= now_s:
                self._next += 1  # gone
            if self._next >= self._count:
                return
            if (wait_s := self._due_s(self._next) - now_s) > 0:
                time.sleep(wait_s)
                continue
            place, number = divmod(self._next, self._streams)
            self._next += 1
            stream = self._names[number]
            image = self._images[(place + number) % len(self._images)]
            due_s = self._due_s(self._next - 1)
            yield Frame(place, f"{stream.name}#{place}", image, due_s, stream)

    @property
    def live_streams(self) -> int:
        """How many there are."""
        return self._streams

    def is_ready(self) -> bool:
        """Whether a frame is due, or all were."""
        return self._next >= self._count or self._due_s(self._next) <= time.perf_counter() - self.begun_s

    def _due_s(self, number: int) -> float:
        return number / (self._streams * self._fps)


class HeldVideos(Source):
    """Videos played in real time, over and over, as streams; otherwise as `HeldImages`.

    Each stream decodes in a thread of its own, and begins a frame when it is due. Its decoder is open before the first
    frame of any stream is due, and stays open until all results are there: to close one stops the others for a while.
    So close this, or use it as a context manager.

    Args:
        paths: The streams play these in turn.
        streams: How many.
        fps: Frames a second of each, whatever the videos say.
        seconds: Frames are due for so long.

    Attributes:
        begun_s: By `time.perf_counter`, when the first frame was due; 0.0 before that.
    """

    help = "Videos in real time, for measurements."
    is_live = True
    has_videos = True

    def __init__(self, paths: Sequence[Path], streams: int, fps: float, seconds: float) -> None:
        self._loops = [VideoLoop([paths[number % len(paths)]]) for number in range(streams)]
        self._fps, self._seconds = fps, seconds
        self._names = _named(streams)
        self._changed = threading.Condition()
        self._ready: deque[int] = deque()
        self._waiting: list[Frame | None] = [None] * streams
        self._opened = self._playing = 0
        self._failure: BaseException | None = None
        self._begin, self._stopped = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._play, args=(number,), name=f"yoloship-play-{number}", daemon=True)
            for number in range(streams)
        ]
        self.begun_s = 0.0

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:  # noqa: ARG003 - the base's
        """Take videos, each as a stream of 30 frames a second, for 10 seconds."""
        return cls([Path(text) for text in texts], len(texts), 30.0, 10.0)

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode with a device, if it takes files."""
        for loop in self._loops:
            loop.decode_with(decoding)

    def __iter__(self) -> Iterator[Frame]:
        """Give frames as they come.

        Raises:
            InputError: not all videos gave a frame within a minute.
            YoloshipError: a video cannot be decoded.
        """
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._playing = len(self._threads)
            is_open = self._changed.wait_for(
                lambda: self._failure or self._opened == len(self._threads), timeout=OPENING_S
            )
        if not is_open:
            raise InputError(
                "not all videos gave a frame in time", subject=f"{len(self._threads)} streams",
                expected=f"within {OPENING_S:.0f} s", got=f"{self._opened} of them",
            )  # fmt: skip
        self.begun_s = time.perf_counter()
        self._begin.set()
        for frame in iter(self._taken, None):
            yield frame
            del frame

    @property
    def live_streams(self) -> int:
        """How many there are."""
        return len(self._threads)

    def is_ready(self) -> bool:
        """Whether a frame waits, or all have ended."""
        with self._changed:
            return bool(self._ready or self._failure) or not self._playing

    def close(self) -> None:
        """Stop all streams. It may be called twice."""
        self._stopped.set()
        self._begin.set()
        for thread in self._threads:
            if thread.ident is not None:
                wait_for(thread)
        for frame in self._waiting:
            _drop(frame)
        self._waiting = [None] * len(self._threads)

    def _taken(self) -> Frame | None:
        end_s = self.begun_s + self._seconds + _LATE_S
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready or self._failure or not self._playing, timeout=end_s - time.perf_counter()
            )
            if self._failure is not None:
                raise self._failure
            if not self._ready or time.perf_counter() > end_s:
                return None
            number = self._ready.popleft()
            frame, self._waiting[number] = self._waiting[number], None
            return frame

    def _play(self, number: int) -> None:
        with closing(self._loops[number].when_asked()) as frames:
            failure: BaseException | None = None
            try:
                self._give(number, frames)
            except BaseException as error:
                failure = error
            with self._changed:
                self._failure = self._failure or failure
                self._playing -= 1
                self._changed.notify_all()
            self._stopped.wait()

    def _give(self, number: int, frames: Iterator[Frame]) -> None:
        first: Frame | None = next(frames)
        with self._changed:
            self._opened += 1
            self._changed.notify_all()
        self._begin.wait()
        stream, place = self._names[number], 0
        while (due_s := (place + number / len(self._threads)) / self._fps) < self._seconds:
            if self._stopped.wait(max(0.0, self.begun_s + due_s - time.perf_counter())):
                break
            frame = first or next(frames)
            first = None
            frame = replace(frame, index=place, name=f"{stream.name}#{place}", time_s=due_s, stream=stream)
            place += 1
            with self._changed:
                _drop(self._waiting[number])
                if self._waiting[number] is None:
                    self._ready.append(number)
                self._waiting[number] = frame
                self._changed.notify_all()
        _drop(first)


def due_frames(streams: int, fps: float, first_s: float, last_s: float) -> int:
    """How many frames of streams with equally distant phases are due from one moment to before another, in seconds."""
    return _before(last_s * streams * fps) - _before(first_s * streams * fps)


def _before(number: float) -> int:
    """How many whole numbers from 0 are below this one, which may be off by rounding."""
    return max(0, int(-(-(number - 1e-6) // 1)))


def _named(streams: int) -> list[Stream]:
    return [Stream(f"stream {number}", is_live=True) for number in range(streams)]


def _drop(frame: Frame | None) -> None:
    """Let the memory of a device be used again."""
    close = None if frame is None else getattr(frame.image, "close", None)
    if close is not None:
        close()
