"""The decoder process of one live stream: reads frames into shared memory until the stream or its parent ends.

If its parent can decode with a device, it only takes the stream apart, and sends packets.

It may die or hang, because `yoloship.sources.live.feed` watches it from outside. It gets an order on stdin, and then
the number of each slot that is free again, as one byte. It writes messages to stdout. When stdin ends, its parent is
gone, and it ends too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yoloship.sources.live.messages import Alive, Arrived, Damaged, Opened, Stopped, Waiting, to_bytes
from yoloship.sources.live.ring import SLOT_BYTES, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from yoloship.sources.live.messages import Coded, Message
    from yoloship.sources.pixels import Converter
    from yoloship.sources.settings import LivePolicy

    Fill: TypeAlias = Callable[[npt.NDArray[np.uint8]], None]
    """Writes the BGR pixels of a frame into a slot."""

MEMORY_BYTES: Final = 3 << 30
"""Most memory of a decoder, so that a hostile stream cannot take all of the machine's."""
DECODERS: Final = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mjpeg,mpeg4,mpeg2video,mpeg1video,h263,flv,msmpeg4v3,png,rawvideo"
)
"""Decoders that FFmpeg may use. It has hundreds more, for formats that no camera sends."""
PACKETS: Final = 254
FRAMES: Final = 255
"""The parent's answers to `Coded`, which are not the numbers of slots."""
_WAIT_SAID_S: Final = 2.0
_ALIVE_S: Final = 0.5
_CUT_SHARE: Final = 0.9
_CUT_S: Final = 1.0
"""A stream that ends this much before its declared length was cut."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a decoder has to do.

    Attributes:
        camera: The number of a camera; None for an address.
        address: The address, with its secrets; empty for a camera.
        options: FFmpeg's options for it.
        policy: Whether a frame for which no slot is free is dropped or waits.
        step: Send every n-th frame.
        timeout_s: After this much silence, the connection is lost.
        slots: Slots of the ring.
        memory: The file descriptor of the ring.
        packets: Whether to ask, with `Coded`, if packets shall be sent instead of frames.
    """

    camera: int | None
    address: str
    options: dict[str, str]
    policy: LivePolicy
    step: int
    timeout_s: float
    slots: int
    memory: int
    packets: bool = False


class Slots:
    """The free slots of the ring, and the parent's answer."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))
        self._changed = threading.Condition()
        self._answer: int | None = None

    def give_back(self, slot: int) -> None:
        """A slot is free again."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()

    def take(self, wait_s: float) -> int | None:
        """A free slot; None if there is none within this time."""
        with self._changed:
            self._changed.wait_for(lambda: self._free, wait_s)
            return self._free.popleft() if self._free else None

    def answered(self, answer: int) -> None:
        """The parent has answered."""
        with self._changed:
            self._answer = answer
            self._changed.notify()

    def wait_for_answer(self) -> int:
        """`PACKETS` or `FRAMES`. A parent that does not answer ends this process."""
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None)
            assert self._answer is not None
            return self._answer


class Delivery:
    """Puts decoded frames into slots and tells the parent.

    Args:
        order: What to do.
        slots: The free slots.
        ring: Their memory.
        send: Sends a message.
    """

    def __init__(self, order: Order, slots: Slots, ring: Ring, send: Callable[[Message], None]) -> None:
        self._order, self._slots, self._ring, self.send = order, slots, ring, send
        self._index = self._dropped = 0
        self._waited_s = self._said_s = 0.0
        self.has_frames = False

    def deliver(self, image_hw: tuple[int, int], pts: int | None, fill: Fill) -> None:
        """Deliver the next frame.

        Args:
            image_hw: Its height and width.
            pts: Its time; None if it has none.
            fill: Writes its pixels. It is not called if the frame is dropped.
        """
        index = self._index
        self._index += 1
        self.has_frames = True
        if index % self._order.step:
            self._now_and_then_alive()
            return
        slot = self._slots.take(0.0) if self._order.policy == "newest" else self._wait_for_slot()
        if slot is None:
            self._dropped += 1
            self._now_and_then_alive()
            return
        fill(self._ring.image(slot, image_hw))
        self.send(Arrived(slot, index, *image_hw, pts, self._dropped))

    @property
    def asks_for_packets(self) -> bool:
        """Whether the parent may want packets instead of frames."""
        return self._order.packets

    def may_send_packets(self, coded: Coded) -> bool:
        """Ask the parent whether it decodes the packets of this stream."""
        self.send(coded)
        return self._slots.wait_for_answer() == PACKETS

    def damaged(self) -> None:
        """The next frame cannot be decoded. Before the first good one, that only means that no key frame came yet."""
        if self.has_frames:
            self.send(Damaged(self._index))
            self._index += 1

    def say_alive(self) -> None:
        """Tell the parent that this process works, and what it dropped."""
        self.send(Alive(self._dropped))
        self._said_s = time.monotonic()

    def _now_and_then_alive(self) -> None:
        if time.monotonic() - self._said_s > _ALIVE_S:
            self.say_alive()

    def _wait_for_slot(self) -> int:
        slot = self._slots.take(0.0)
        while slot is None:
            began = time.monotonic()
            slot = self._slots.take(_WAIT_SAID_S)
            before, self._waited_s = self._waited_s, self._waited_s + time.monotonic() - began
            if before < _WAIT_SAID_S <= self._waited_s:
                self.send(Waiting(self._waited_s))
        return slot


def read_address(order: Order, delivery: Delivery) -> Stopped:
    """Read a stream with PyAV until it ends or fails."""
    import av
    from av.error import FFmpegError

    delivery.say_alive()
    options = {**order.options, "codec_whitelist": DECODERS}
    opened = partial(_opened, av, order)
    is_lossless = False
    try:
        if order.packets:
            from yoloship.sources.live.sending import open_for_packets

            container, is_lossless = open_for_packets(opened, order.address, options)
        else:
            container = opened(options)
        with container:
            if not container.streams.video:
                return Stopped("wrong", "has no video", "give the address of a video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                return Stopped("wrong", "its codec is not one that cameras use", f"send one of {DECODERS}")
            return _read_stream(container, stream, delivery, is_lossless=is_lossless)
    except FFmpegError as error:
        return why_lost(error)


def _opened(av: Any, order: Order, options: Mapping[str, str]) -> Any:
    return av.open(order.address, options=dict(options), timeout=order.timeout_s)


def _read_stream(container: Any, stream: Any, delivery: Delivery, *, is_lossless: bool = False) -> Stopped:
    from av.error import FFmpegError, InvalidDataError
    from av.format import Flags

    from yoloship.sources.pixels import Converter

    converter = Converter()
    stream.codec_context.thread_type = "SLICE"  # threads by frame would hold frames back
    stream.codec_context.options = {"max_pixels": str(SLOT_BYTES // 3), "flags": "+low_delay"}
    has_clock = not container.format.flags & Flags.no_timestamps.value and stream.time_base is not None
    rate = stream.average_rate
    delivery.send(Opened(str(rate) if rate else None, str(stream.time_base) if has_clock else None))
    packets: Iterator[Any] = container.demux(stream)
    if delivery.asks_for_packets:
        from yoloship.sources.live.sending import first_look, send_all

        held, coded = first_look(container, stream, packets, converter, is_lossless=is_lossless)
        packets = chain(held, packets)
        if delivery.may_send_packets(coded):
            return _at_end(container, send_all(packets, coded, delivery.send, has_clock=has_clock))
    reached_s = 0.0
    while (packet := next(packets, None)) is not None:
        try:
            frames = packet.decode()
        except InvalidDataError:
            delivery.damaged()
            continue
        except FFmpegError as error:
            return Stopped("wrong", f"its video cannot be decoded: {error.strerror}")
        for frame in frames:
            if frame.is_corrupt:
                delivery.damaged()
            elif frame.width * frame.height * 3 > SLOT_BYTES:
                return Stopped("wrong", f"its frames are too large: {frame.width}×{frame.height}", "send at most 8K")
            else:
                pts, fill = frame.pts if has_clock else None, partial(_fill, frame, converter)
                delivery.deliver(converter.upright_hw(frame), pts, fill)
            if frame.time is not None:
                reached_s = max(reached_s, frame.time)
    return _at_end(container, reached_s)


def _at_end(container: Any, reached_s: float) -> Stopped:
    """What the end of the data means: a camera has no end, and a file has the one that it declares."""
    if not container.duration:
        return Stopped("lost", "closed the connection")
    length_s = container.duration / 1_000_000
    reached_s -= (container.start_time or 0) / 1_000_000
    if reached_s >= length_s * _CUT_SHARE - _CUT_S:
        return Stopped("ended", "has reached its end")
    return Stopped("cut", f"broke off at {reached_s:.1f} of {length_s:.1f} s", "give the file itself as a video")


def _copy(image: npt.NDArray[np.uint8], slot: npt.NDArray[np.uint8]) -> None:
    slot[...] = image


def _fill(frame: Any, converter: Converter, slot: npt.NDArray[np.uint8]) -> None:
    slot[...] = converter.upright_bgr(frame)  # with the pixels that a video file would have


def why_lost(error: Exception) -> Stopped:
    """What an error of FFmpeg means for the user."""
    name, text = type(error).__name__, getattr(error, "strerror", None) or str(error)
    if name in {"HTTPUnauthorizedError", "HTTPForbiddenError"}:
        return Stopped("wrong", "does not accept the user name or the password", "write scheme://USER:PASSWORD@HOST")
    if name == "HTTPNotFoundError":
        return Stopped("wrong", "has no stream at this path", "check the path of the address")
    if name == "InvalidDataError":
        return Stopped("wrong", "does not send video in a known format", "check the address in a player")
    if name in {"ProtocolNotFoundError", "DecoderNotFoundError", "DemuxerNotFoundError", "ArgumentError"}:
        return Stopped("wrong", f"cannot be opened: {text}")
    if name == "ExitError":  # PyAV's own clock
        return Stopped("lost", "does not answer")
    return Stopped("lost", text[:1].lower() + text[1:])


def read_camera(order: Order, delivery: Delivery) -> Stopped:
    """Read a camera of this machine with OpenCV until it is taken away."""
    import cv2

    delivery.say_alive()
    assert order.camera is not None
    if (problem := camera_problem(order.camera)) is not None:
        return problem
    capture = cv2.VideoCapture(order.camera)
    try:
        if not capture.isOpened():
            return Stopped("wrong", "cannot be opened", "close other programs that use it, or give another number")
        if order.policy == "newest":
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return read_capture(capture, delivery)
    finally:
        capture.release()


def read_capture(capture: Any, delivery: Delivery) -> Stopped:
    """Read an open capture of OpenCV until it gives no more frames."""
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS)
    delivery.send(Opened(str(round(rate * 1000)) + "/1000" if 0 < rate < 1000 else None, None))
    while True:
        is_read, image = capture.read()
        if not is_read:
            if delivery.has_frames:
                return Stopped("lost", "gives no more frames")
            return Stopped("wrong", "gives no frames", "close other programs that use it, or give another number")
        if image.nbytes > SLOT_BYTES or image.shape[2:] != (3,):
            return Stopped("wrong", f"its frames are not supported: {image.shape}")
        delivery.deliver(image.shape[:2], None, partial(_copy, image))


def camera_problem(number: int, folder: str = "/dev") -> Stopped | None:
    """Why a camera of Linux cannot be used, as far as its device file tells; None if that is right."""
    if not sys.platform.startswith("linux"):
        return None
    path = f"{folder}/video{number}"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        there = sorted(name for name in os.listdir(folder) if name.startswith("video"))
        found = f"there is {', '.join(there)}" if there else "there is no camera"
        return Stopped("wrong", f"{path} does not exist", f"{found}; in a container, pass it with --device {path}")
    except PermissionError:
        return Stopped("wrong", f"{path} may not be opened by this user", "add the user to the group 'video'")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Stopped("wrong", f"{path} cannot be opened: {reason}", f"see which process uses it: fuser -v {path}")
    return None


def read(order: Order, delivery: Delivery) -> Stopped:
    """Read what was ordered until it ends; every failure has a reason."""
    try:
        return read_address(order, delivery) if order.camera is None else read_camera(order, delivery)
    except MemoryError:
        return Stopped("lost", "its decoder ran out of memory")
    except Exception as error:  # the parent decides whether to try again; a traceback here would reach nobody
        return Stopped("lost", f"its decoder failed: {type(error).__name__}: {error}")


def main() -> None:
    """Do what the order on stdin says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    order = Order(**json.loads(_first_line()))
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that a library prints may be taken for a message
    _limit_memory()
    slots = Slots(order.slots)
    ring = Ring(order.memory, order.slots)
    threading.Thread(target=_listen, args=(slots,), daemon=True).start()

    def send(message: Message) -> None:
        data = memoryview(to_bytes(message))
        try:
            while data:
                data = data[os.write(output, data) :]
        except OSError:  # the parent is gone
            os._exit(0)

    delivery = Delivery(order, slots, ring, send)
    stopped = read(order, delivery)
    delivery.say_alive()
    send(stopped)
    os._exit(0)  # at once, whatever a library still has open


def _first_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        line += byte
    return bytes(line)


def _listen(slots: Slots) -> None:
    """Take the slots that come back. Ends the process when the parent is gone, also if the decoder hangs."""
    while numbers := os.read(0, 64):
        for number in numbers:
            if number in {PACKETS, FRAMES}:
                slots.answered(number)
            else:
                slots.give_back(number)
    os._exit(0)


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):  # not a system that has it
        return
