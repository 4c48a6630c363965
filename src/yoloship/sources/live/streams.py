"""Cameras and network streams as one source: frames come as they arrive, and no stream waits for another."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import wait_for
from yoloship.errors import DependencyError, InputError
from yoloship.sources.live.feed import Feed, Held
from yoloship.sources.live.target import targets_of
from yoloship.sources.reader import VIDEO_HINT, has_pyav
from yoloship.sources.settings import DEFAULT_OPTIONS, SourceOptions, check_step
from yoloship.sources.source import Frame, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from yoloship.sources.live.target import Target
    from yoloship.sources.reader import VideoDecoding

MAX_STREAMS: Final = 256
_WATCH_S: Final = 0.2
_WAKE_S: Final = 0.5
"""A wait is at most this long, so that Ctrl-C ends it on every system."""


class LiveStreams(Source):
    """Cameras and network streams. `Frame.index` counts all frames of a stream, also those that were dropped.

    Args:
        targets: What to read.
        options: How.
    """

    help = "Cameras by number, and streams: rtsp://, rtmp://, udp://, tcp://, and live:http:// for one over HTTP."
    is_live = True

    def __init__(self, targets: Sequence[Target], options: SourceOptions) -> None:
        # Ctrl-C may come right behind `with condition`, whose lock is then never given back; not behind `with lock`.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[Feed] = deque()
        self._closing = threading.Event()
        self._feeds = [Feed(target, options, self._changed, self._ready.append) for target in targets]
        self._watchdog = threading.Thread(target=self._watch, name="yoloship-live-watchdog", daemon=True)
        self._has_started = False

    @classmethod
    def open(cls, texts: Sequence[str], options: SourceOptions = DEFAULT_OPTIONS) -> Self:
        """Check what shall be read. Nothing is connected before the first frame is asked for."""
        check_step(options.frame_step)
        if not options.live_timeout_s > 0:
            raise InputError("must be above 0", subject="live_timeout_s", got=str(options.live_timeout_s))
        if len(texts) > MAX_STREAMS:
            raise InputError("too many streams", expected=f"at most {MAX_STREAMS}", got=str(len(texts)))
        targets = targets_of(list(texts))
        if sys.platform == "win32":
            raise InputError("is not supported on Windows", subject=targets[0].name, hint="run it in WSL")
        addresses = [target.name for target in targets if target.camera is None]
        if addresses and not has_pyav():
            raise DependencyError("reading a stream needs PyAV", subject=addresses[0], hint=VIDEO_HINT)
        return cls(targets, options)

    def __iter__(self) -> Iterator[Frame]:
        """Connect to all, and give frames until every stream has ended."""
        with self._lock:
            if self._has_started:
                raise InputError("a live source can be read only once", hint="open it again")
            self._has_started = True
        for feed in self._feeds:
            feed.start()
        self._watchdog.start()
        try:
            for held in iter(self._next, None):
                yield held.take()
        finally:
            self.close()

    def decode_with(self, decoding: VideoDecoding) -> None:
        """Decode streams with a device, if nothing is connected yet. Cameras of this machine send no packets."""
        packets = decoding.packets
        with self._lock:
            if not self._has_started:
                for feed in self._feeds:
                    feed.decoding = packets

    @property
    def live_streams(self) -> int:
        """How many there are."""
        return len(self._feeds)

    def is_ready(self) -> bool:
        """Whether a frame waits, or all streams have ended."""
        with self._lock:
            return bool(self._ready) or self._is_over()

    def close(self) -> None:
        """End all decoders, and say what came of each stream."""
        with self._lock:
            is_first, has_started = not self._closing.is_set(), self._has_started
            self._closing.set()
            self._has_started = True
            self._ready.clear()
            self._changed.notify_all()
        if not has_started or not is_first:
            return
        for feed in self._feeds:
            feed.stop()
        wait_for(self._watchdog)
        for feed in self._feeds:
            feed.close()
            feed.tell(f"{feed.state.value}: {feed.counts}")

    def _next(self) -> Held | None:
        """The next frame of the stream whose frame has waited longest; None at the end."""
        with self._lock:
            while True:  # with a condition, Ctrl-C could keep the lock: see `sources.ahead`
                if self._ready:
                    return self._ready.popleft().pop()
                if self._is_over():
                    return None
                self._changed.wait(_WAKE_S)

    def _is_over(self) -> bool:
        return self._closing.is_set() or (not self._ready and all(feed.state.is_over for feed in self._feeds))

    def _watch(self) -> None:
        while not self._closing.wait(_WATCH_S):
            for feed in self._feeds:
                feed.check(time.monotonic())
