"""One live stream as the run sees it: its decoder, started again whenever it dies, hangs or loses the stream."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from yoloship._util.closing import wait_for
from yoloship.errors import InputError, visible
from yoloship.sources.live.connection import Connection
from yoloship.sources.live.messages import (
    Alive,
    Arrived,
    BrokenDecoderError,
    Coded,
    Damaged,
    Opened,
    Packet,
    Stopped,
    Waiting,
)
from yoloship.sources.live.packets import NotDecodedError, Shown, TooLargeError, Unpacker
from yoloship.sources.live.states import CHANGES, Counts, State
from yoloship.sources.live.stream_clock import StreamClock
from yoloship.sources.source import Frame, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yoloship.errors import YoloshipError
    from yoloship.sources.live.messages import Message
    from yoloship.sources.live.packets import PacketDecoding
    from yoloship.sources.live.target import Target
    from yoloship.sources.settings import SourceOptions
    from yoloship.sources.source import ImageOnDevice

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
_WAIT_SAID_S: Final = 2.0
_ROOM_S: Final = 0.5
_LOSSY: Final = (
    "parts of frames can be lost on the way, which a GPU does not tell; "
    "decode='gpu' (--decode gpu) takes it nevertheless"
)
_WAITS: Final = (
    "frames come faster than they are processed, so it has to wait; live='newest' (--live newest) drops frames instead"
)


def delay_before(failures: int) -> float:
    """Seconds until the next attempt: up to twice as long after each failure.

    They are partly random, so that cameras that were lost together do not come back together.

    Args:
        failures: Attempts that failed in a row, from 1.
    """
    longest: float = min(MAX_DELAY_S, _FIRST_DELAY_S * 2 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True, eq=False)
class InSlot:
    """An image in a slot of a decoder process.

    Attributes:
        connection: Whose slot it is.
        slot: The slot.
        image_hw: Height and width of the image.
    """

    connection: Connection
    slot: int
    image_hw: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A frame that waits to be taken.

    Attributes:
        frame: The frame, without its image.
        image: Where its image is; None if the frame has an error.
    """

    frame: Frame
    image: InSlot | ImageOnDevice | None = None

    def take(self) -> Frame:
        """The frame with its image: a copy of a slot, which is free afterwards, or what is on a device."""
        image = self.image
        if image is None:
            return self.frame
        if isinstance(image, InSlot):
            return replace(self.frame, image=image.connection.take(image.slot, image.image_hw))
        return replace(self.frame, image=image)

    def drop(self) -> None:
        """Free the slot, or the memory of the device."""
        if isinstance(self.image, InSlot):
            self.image.connection.give_back(self.image.slot)
        elif self.image is not None:
            self.image.close()


class Feed:
    """One stream, with a thread that keeps its decoder running.

    Args:
        target: What to read.
        options: How.
        changed: Guards everything that a feed shares with the run; notified when a frame is there or the state changes.
        arrived: Called with the feed, under `changed`, for each frame that waits anew.

    Attributes:
        decoding: Decodes the stream in this process, on a device; None leaves that to its decoder process.
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
        self._has_started = self._lacks_room = False
        self._damage_unsaid = 0
        self._waited_s, self._fallback_said = 0.0, ""
        self.decoding: PacketDecoding | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def pop(self) -> Held:
        """The next frame that waits; called under `changed`, once for each call of `arrived`."""
        held = self._waiting.popleft()
        self._sign_s = time.monotonic()  # a stream that had to wait for room was not silent
        self.counts.frames += held.image is not None
        if self._lacks_room:
            self._changed.notify_all()
        return held

    def check(self, now_s: float) -> None:
        """Kill the decoder if it has been silent for too long; called by the watchdog.

        Args:
            now_s: `time.monotonic`.
        """
        with self._changed:
            connection = self._connection
            limit_s = self._options.live_timeout_s if self._has_started else START_S
            is_full = self._lacks_room or (connection is not None and connection.is_full)
            is_silent = connection is not None and not is_full and now_s - self._sign_s > limit_s
            if not is_silent or State.STALLED not in CHANGES[self.state]:
                return
            self._change(State.STALLED, f"no frame for {limit_s:g} s; restarting its decoder")
        assert connection is not None
        connection.kill()

    def stop(self) -> None:
        """Begin to stop, without waiting for it."""
        self._closing.set()
        with self._changed:
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.kill()

    def close(self) -> None:
        """Stop; nothing of it is left when this returns. It may be called twice."""
        self.stop()
        if self._thread.ident is not None:
            wait_for(self._thread)
        with self._changed:
            while self._waiting:
                self._waiting.pop().drop()
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
            try:
                stopped = self._one_connection()
            except NotDecodedError as error:
                self.decoding = None
                self._change(State.RECONNECTING, f"decoded by the CPU from now on: {self.target.hide(error.problem)}")
                continue
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
        """Run a decoder until it is gone, and return why it is.

        Raises:
            NotDecodedError: the device does not decode the stream any further, but the CPU may.
        """
        options = self._options
        self._sign_s, self._has_started, self._first_frame_s = time.monotonic(), False, 0.0
        self._clock.restart()
        self._base_index, self._waited_s = self._next_index, 0.0
        uses_device = self.decoding is not None and self.target.camera is None
        try:
            connection = Connection(self.target, options, _SLOTS[options.live], packets=uses_device)
        except OSError as error:
            return Stopped("lost", f"its decoder cannot be started: {error.strerror or error}")
        unpacker = None if self.decoding is None else Unpacker(self.decoding, options.frame_step, self._closing.wait)
        with connection, unpacker or nullcontext():
            with self._changed:
                self._connection = connection
            try:
                if self._closing.is_set():
                    return Stopped("lost", "closed")
                for message in self._unpacked(connection, unpacker if uses_device else None):
                    if isinstance(message, Stopped):
                        return message
                    self._heed(message, connection)
            except BrokenDecoderError as error:
                return Stopped("lost", str(error))
            except TooLargeError as error:
                return Stopped("wrong", f"{error.problem}: {error.got}", error.hint or "")
            except NotDecodedError as error:
                if self.decoding is None or self.decoding.has_fallback or self._closing.is_set():
                    raise
                return Stopped(
                    "wrong", f"cannot be decoded by the GPU: {error.problem}", "use decode='auto' (--decode auto)"
                )
            finally:
                with self._changed:
                    self._connection = None
        if self.state is State.STALLED:
            return Stopped("lost", "stalled")
        return Stopped("lost", f"its decoder died ({connection.how_it_ended()})")

    def _unpacked(self, connection: Connection, unpacker: Unpacker | None) -> Iterator[Message | Shown]:
        """The messages of a decoder process; if it sends packets, what becomes of them here."""
        is_agreed = False
        for message in connection:
            if isinstance(message, Coded) and unpacker is not None and not is_agreed:
                is_agreed = True
                connection.answer(packets=self._agrees(message, unpacker))
            elif unpacker is not None and unpacker.is_open and isinstance(message, Coded | Packet | Damaged):
                yield from unpacker.frames(message)
            elif isinstance(message, Coded | Packet) or (
                isinstance(message, Arrived) and unpacker is not None and unpacker.is_open
            ):
                raise BrokenDecoderError("sent something that was not requested", subject="the decoder")
            else:
                if isinstance(message, Stopped) and unpacker is not None:
                    yield from unpacker.frames(None)
                yield message

    def _agrees(self, coded: Coded, unpacker: Unpacker) -> bool:
        """Whether the device decodes a stream. If not, the CPU does.

        Raises:
            NotDecodedError: the CPU must not.
        """
        assert self.decoding is not None
        try:
            if not coded.is_lossless and self.decoding.has_fallback:
                raise NotDecodedError(_LOSSY)
            unpacker.open(coded)
        except NotDecodedError as error:
            if not self.decoding.has_fallback:
                raise
            if error.problem != self._fallback_said:
                self._fallback_said = error.problem
                self.tell(f"decoded by the CPU: {error.problem}")
            return False
        return True

    def _heed(self, message: Message | Shown, connection: Connection) -> None:
        now_s = time.monotonic()
        if isinstance(message, Waiting):
            self.tell(_WAITS)
        elif isinstance(message, Damaged):
            self._heed_damage(self._base_index + message.index, now_s)
        elif isinstance(message, Arrived):
            image = InSlot(connection, message.slot, (message.height, message.width))
            self._heed_frame(message, image, image.image_hw, now_s, connection.newly_dropped(message.dropped))
        elif isinstance(message, Shown):
            self._wait_for_room()
            self._heed_frame(message, message.image, message.image_hw, now_s)
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

    def _heed_frame(
        self,
        message: Arrived | Shown,
        image: InSlot | ImageOnDevice,
        image_hw: tuple[int, int],
        now_s: float,
        dropped: int = 0,
    ) -> None:
        with self._changed:
            is_first = self.state is State.CONNECTING  # the watchdog may have given it up already
            if is_first:
                self._change(State.RUNNING)
                self._first_frame_s = now_s
                self.counts.reconnects += self._next_index > 0
        if is_first:
            self.tell(f"running, {image_hw[1]}×{image_hw[0]}")
        stream, index = self._stream, self._base_index + message.index
        base = stream.time_base
        source_s = message.pts * base.numerator / base.denominator if message.pts is not None and base else None
        time_s = self._clock.time_of(source_s, now_s)
        frame = Frame(index, f"{stream.name}#{index}", None, time_s, stream, message.pts if base else None)
        with self._changed:
            self._sign_s, self._next_index = now_s, index + 1
            self.counts.dropped += dropped
            self._queue(Held(frame, image))

    def _wait_for_room(self) -> None:
        """With ``every``, wait until few frames wait. Nothing reads the stream meanwhile, so that it waits too."""
        if self._options.live != "every":
            return
        while not self._closing.is_set():
            began = time.monotonic()
            with self._changed:
                self._lacks_room = len(self._waiting) >= _QUEUED
                if not self._lacks_room:
                    return
                self._changed.wait(_ROOM_S)
            before, self._waited_s = self._waited_s, self._waited_s + time.monotonic() - began
            if before < _WAIT_SAID_S <= self._waited_s:
                self.tell(_WAITS)

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
        if self._options.live == "newest" and self._waiting and self._waiting[-1].image is not None:
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
