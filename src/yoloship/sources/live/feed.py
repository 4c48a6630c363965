"""One live stream as the run sees it: its decoder, started again whenever it dies, hangs or loses the stream."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import wait_for
from yoloship.errors import InputError, visible
from yoloship.sources.live.connection import Connection
from yoloship.sources.live.messages import Alive, Arrived, BrokenDecoderError, Damaged, Opened, Stopped, Waiting
from yoloship.sources.live.states import CHANGES, Counts, State
from yoloship.sources.live.stream_clock import StreamClock
from yoloship.sources.source import Frame, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from yoloship.errors import YoloshipError
    from yoloship.sources.live.messages import Message
    from yoloship.sources.live.target import Target
    from yoloship.sources.settings import SourceOptions

HEALTHY_S: Final = 10.0
"""A connection that gave frames for this long was a good one: the next failure counts as the first again."""
START_S: Final = 30.0
"""Most time for a decoder process to start, which does not depend on the stream."""
MAX_DELAY_S: Final = 10.0
_FIRST_DELAY_S: Final = 0.5
_QUEUED: Final = 8
"""Frames that wait with ``every``; the stream waits when there are more."""
_SLOTS: Final = {"newest": 4, "every": _QUEUED}
_MAX_ERRORS: Final = 64
_DAMAGE_SAID_S: Final = 10.0


def delay_before(failures: int) -> float:
    """Seconds until the next attempt: up to twice as long after each failure.

    They are partly random, so that cameras that were lost together do not come back together.

    Args:
        failures: Attempts that failed in a row, from 1.
    """
    longest: float = min(MAX_DELAY_S, _FIRST_DELAY_S * 2 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A frame that waits to be taken.

    Attributes:
        frame: The frame, without its image.
        connection: Has the image in its slot; None if the frame has an error.
        slot: The slot.
        image_hw: Height and width of the image.
    """

    frame: Frame
    connection: Connection | None = None
    slot: int = 0
    image_hw: tuple[int, int] = (0, 0)

    def take(self) -> Frame:
        """The frame with a copy of its image, whose slot is free afterwards."""
        if self.connection is None:
            return self.frame
        return replace(self.frame, image=self.connection.take(self.slot, self.image_hw))

    def drop(self) -> None:
        """Free the slot."""
        if self.connection is not None:
            self.connection.give_back(self.slot)


class Feed:
    """One stream, with a thread that keeps its decoder running.

    Args:
        target: What to read.
        options: How.
        changed: Guards everything that a feed shares with the run; notified when a frame is there or the state changes.
        arrived: Called with the feed, under `changed`, for each frame that waits anew.
    """

    def __init__(
        self,
        target: Target,
        options: SourceOptions,
        changed: threading.Condition,
        arrived: Callable[[Feed], None],
    ) -> None:
        self.target, self.counts, self.state = target, Counts(), State.NOT_STARTED
        self._options, self._changed, self._arrived = options, changed, arrived
        self._waiting: deque[Held] = deque()
        self._stream = Stream(target.name, is_live=True, status=lambda: self.state.value)
        self._clock = StreamClock()
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"yoloship-live-{target.name}", daemon=True)
        self._next_index = self._base_index = 0
        self._sign_s = self._first_frame_s = self._damage_said_s = 0.0
        self._has_started = False
        self._damage_unsaid = 0

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def pop(self) -> Held:
        """The next frame that waits; called once for each call of `arrived`."""
        with self._changed:
            held = self._waiting.popleft()
            self._sign_s = time.monotonic()  # a stream that had to wait for room was not silent
            self.counts.frames += held.connection is not None
        return held

    def check(self, now_s: float) -> None:
        """Kill the decoder if it has been silent for too long; called by the watchdog.

        Args:
            now_s: `time.monotonic`.
        """
        with self._changed:
            connection = self._connection
            limit_s = self._options.live_timeout_s if self._has_started else START_S
            is_silent = connection is not None and not connection.is_full and now_s - self._sign_s > limit_s
            if not is_silent or State.STALLED not in CHANGES[self.state]:
                return
            self._change(State.STALLED, f"no frame for {limit_s:g} s; its decoder is started again")
        assert connection is not None
        connection.kill()

    def stop(self) -> None:
        """Begin to stop, without waiting for it."""
        self._closing.set()
        with self._changed:
            connection = self._connection
        if connection is not None:
            connection.kill()

    def close(self) -> None:
        """Stop; nothing of it is left when this returns. It may be called twice."""
        self.stop()
        if self._thread.ident is not None:
            wait_for(self._thread)
        with self._changed:
            self._waiting.clear()
            if not self.state.is_over:
                self._change(State.ENDED)

    def tell(self, text: str) -> None:
        """Say what happened, with the time and the name of the stream."""
        line = f"{time.strftime('%H:%M:%S')} {self.target.name}: {text}"
        if self._options.on_event is not None:
            self._options.on_event(visible(line))
            return
        import logging

        logging.getLogger("yoloship.sources").info("%s", visible(line))

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            self._change(State.CONNECTING)
            stopped = self._one_connection()
            if self._closing.is_set():
                break
            problem = self.target.hide(stopped.problem)
            if stopped.loss == "ended":
                self._change(State.ENDED, problem)
                return
            is_good = self._first_frame_s and time.monotonic() - self._first_frame_s > HEALTHY_S
            failures = 1 if is_good else failures + 1
            has_worked = self._next_index > 0
            retries = self._options.live_retries
            is_hopeless = stopped.loss == "cut" or (stopped.loss == "wrong" and not has_worked)
            if is_hopeless or (retries is not None and failures > retries):
                self._fail(InputError(problem, subject=self.target.name, hint=self.target.hide(stopped.hint) or None))
                return
            delay_s = delay_before(failures)
            self._change(State.RECONNECTING, f"{problem}; trying again in {delay_s:.1f} s")
            self._closing.wait(delay_s)

    def _one_connection(self) -> Stopped:
        """Run a decoder until it is gone, and return why it is."""
        options = self._options
        self._sign_s, self._has_started, self._first_frame_s = time.monotonic(), False, 0.0
        self._clock.restart()
        self._base_index = self._next_index
        try:
            connection = Connection(self.target, options, _SLOTS[options.live])
        except OSError as error:
            return Stopped("lost", f"its decoder cannot be started: {error.strerror or error}")
        with connection:
            with self._changed:
                self._connection = connection
            try:
                if self._closing.is_set():
                    return Stopped("lost", "closed")
                for message in connection:
                    if isinstance(message, Stopped):
                        return message
                    self._heed(message, connection)
            except BrokenDecoderError as error:
                return Stopped("lost", str(error))
            finally:
                with self._changed:
                    self._connection = None
        if self.state is State.STALLED:
            return Stopped("lost", "stalled")
        return Stopped("lost", f"its decoder died ({connection.how_it_ended()})")

    def _heed(self, message: Message, connection: Connection) -> None:
        now_s = time.monotonic()
        if isinstance(message, Waiting):
            self.tell(
                "frames come faster than they are processed, so it has to wait; --live newest drops frames instead"
            )
        elif isinstance(message, Damaged):
            self._heed_damage(self._base_index + message.index, now_s)
        elif isinstance(message, Arrived):
            self._heed_frame(message, connection, now_s)
        else:
            with self._changed:
                self._sign_s, self._has_started = now_s, True
                if isinstance(message, Alive):
                    self.counts.dropped += connection.newly_dropped(message.dropped)
            if isinstance(message, Opened):
                self._stream = Stream(
                    self.target.name,
                    rate=None if message.rate is None else Fraction(message.rate),
                    time_base=None if message.time_base is None else Fraction(message.time_base),
                    is_live=True,
                    status=lambda: self.state.value,
                )

    def _heed_frame(self, message: Arrived, connection: Connection, now_s: float) -> None:
        with self._changed:
            is_first = self.state is State.CONNECTING  # the watchdog may have given it up already
            if is_first:
                self._change(State.RUNNING)
                self._first_frame_s = now_s
                self.counts.reconnects += self._next_index > 0
        if is_first:
            self.tell(f"running, {message.width}×{message.height}")
        stream, index = self._stream, self._base_index + message.index
        source_s = float(message.pts * stream.time_base) if message.pts is not None and stream.time_base else None
        time_s = self._clock.time_of(source_s, now_s)
        frame = Frame(index, f"{stream.name}#{index}", None, time_s, stream, message.pts if stream.time_base else None)
        with self._changed:
            self._sign_s, self._next_index = now_s, index + 1
            self.counts.dropped += connection.newly_dropped(message.dropped)
            self._queue(Held(frame, connection, message.slot, (message.height, message.width)))

    def _heed_damage(self, index: int, now_s: float) -> None:
        with self._changed:
            self.counts.damaged += 1
            self._next_index = index + 1
            self._damage_unsaid += 1
            if self._options.live == "every" and len(self._waiting) < _MAX_ERRORS:
                name = f"{self.target.name}#{index}"
                error = InputError("is damaged, and left out", subject=name)
                self._queue(Held(Frame(index, name, None, None, self._stream, error=error)))
        if now_s - self._damage_said_s > _DAMAGE_SAID_S:
            self.tell(f"damaged frames left out: {self._damage_unsaid}, the last is #{index}")
            self._damage_said_s, self._damage_unsaid = now_s, 0

    def _queue(self, held: Held) -> None:
        """Let a frame wait. With ``newest``, it takes the place of the one that waits, also in the order of streams."""
        is_new = True
        if self._options.live == "newest" and self._waiting and self._waiting[-1].connection is not None:
            self._waiting.pop().drop()
            self.counts.dropped += 1
            is_new = False
        self._waiting.append(held)
        if is_new:
            self._arrived(self)
        self._changed.notify_all()

    def _fail(self, error: YoloshipError) -> None:
        index = self._next_index
        frame = Frame(index, self.target.name, None, None, self._stream, error=error)
        with self._changed:
            self._waiting.append(Held(frame))
            self._arrived(self)
        self._change(State.FAILED, f"given up: {error.problem}")

    def _change(self, new: State, text: str = "") -> None:
        with self._changed:
            assert new in CHANGES[self.state], f"{self.state} → {new}"
            self.state = new
            self._changed.notify_all()
        if text:
            self.tell(text)
