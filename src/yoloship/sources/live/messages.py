"""What a decoder process tells this one, and what of it is believed.

A message is a line of JSON; a `Packet`, of which there are many, is a few bytes that are read much faster. Behind a
`Coded` or a `Packet` are the bytes that it announces. A decoder reads what strangers send, so what it says is checked
like any other input.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from yoloship._util.fields import is_int
from yoloship.errors import YoloshipError
from yoloship.sources.live.ring import SLOT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE: Final = 4000
"""Bytes of a line with its end; fewer than a pipe takes whole, so lines of different threads do not mix."""
MAX_TEXT: Final = 400
MAX_PACKET_BYTES: Final = 1 << 24
"""Of one compressed frame: a key frame of 8K at the highest rates that cameras use has a few megabytes."""
MAX_EXTRADATA_BYTES: Final = 1 << 16
"""Of a codec's parameters, which are a few hundred bytes."""

Loss: TypeAlias = Literal["lost", "wrong", "ended", "cut"]
"""Why a decoder stops: the connection was lost (try again); what was asked for cannot work (wrong address, missing
camera); the stream has reached its declared end; it ended before."""
_LOSSES: Final = frozenset({"lost", "wrong", "ended", "cut"})


class BrokenDecoderError(YoloshipError):
    """A decoder process said something that makes no sense."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The decoder has loaded its libraries; later: it decodes frames, but none of them is to be sent.

    Attributes:
        dropped: As in `Arrived`.
    """

    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection stands.

    Attributes:
        rate: Declared frames per second; None if there is no such rate.
        time_base: Seconds of one unit of `Arrived.pts`; None if the stream has no clock.
    """

    rate: str | None
    time_base: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame is in a slot, which now belongs to the receiver.

    Attributes:
        slot: The slot.
        index: The frame's place in this connection, from 0, counting those that were not sent.
        height: In pixels.
        width: In pixels.
        pts: Its time in `Opened.time_base`; None if it has none.
        dropped: Good frames of this connection so far that were not sent, because no slot was free.
    """

    slot: int
    index: int
    height: int
    width: int
    pts: int | None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Coded:
    """The stream can be sent as packets, which the receiver decodes. Comes again if the parameters change.

    After the first one, the decoder waits for `yoloship.sources.live.decoder.PACKETS` or `FRAMES`.

    Attributes:
        codec: FFmpeg's name of the codec.
        pixels: FFmpeg's name of how the CPU's decoder would lay the pixels out; None if that is not known yet.
        orientation: How frames become upright, 1 to 8, as Exif numbers it.
        is_lossless: Whether the connection repeats what is lost on the way, as TCP does.
        size: Bytes of `data`.
        data: The codec's parameters as the container has them (FFmpeg's ``extradata``). They follow the line.
    """

    codec: str
    pixels: str | None
    orientation: int
    is_lossless: bool
    size: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Packet:
    """A compressed frame.

    Attributes:
        pts: When it is shown, in `Opened.time_base`; None if it has no time.
        dts: When it is decoded, in the same unit.
        is_key: Whether a decoder can begin with it.
        is_corrupt: Whether the connection or the container says that a part is missing.
        size: Bytes of `data`, from 1.
        data: The frame. It follows the line.
    """

    pts: int | None
    dts: int | None
    is_key: bool
    is_corrupt: bool
    size: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A frame could not be decoded, or only with invented parts.

    Attributes:
        index: As in `Arrived`. Among packets it means nothing, because only the receiver counts frames.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The decoder is waiting for a free slot, because frames are not taken as fast as they come."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The decoder stops.

    Attributes:
        loss: Why.
        problem: What happened, for the user.
        hint: What the user can do; empty if there is nothing to say.
    """

    loss: Loss
    problem: str
    hint: str = ""


Message: TypeAlias = Alive | Opened | Arrived | Coded | Packet | Damaged | Waiting | Stopped
_KINDS: Final = MappingProxyType(
    {kind.__name__: kind for kind in (Alive, Opened, Arrived, Coded, Damaged, Waiting, Stopped)}
)
PACKET_MARK: Final = 0
"""The first byte of a packed `Packet`, which no line of JSON has."""
_PACKET: Final = struct.Struct("<BBIqq")
PACKET_HEAD_BYTES: Final = _PACKET.size
_IS_KEY, _IS_CORRUPT, _HAS_PTS, _HAS_DTS = 1, 2, 4, 8


def to_bytes(message: Message) -> bytes:
    """A message as a decoder sends it, and the bytes that follow it."""
    if isinstance(message, Packet):
        flags = message.is_key * _IS_KEY | message.is_corrupt * _IS_CORRUPT
        flags |= (message.pts is not None) * _HAS_PTS | (message.dts is not None) * _HAS_DTS
        return _PACKET.pack(PACKET_MARK, flags, message.size, message.pts or 0, message.dts or 0) + message.data
    values: dict[str, Any] = asdict(message)
    fields = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in values.items()}
    data = fields.pop("data", b"")
    assert isinstance(data, bytes)
    return json.dumps({"kind": type(message).__name__, **fields}).encode() + b"\n" + data


def packet_from(head: bytes | bytearray, at: int = 0) -> Packet:
    """Read a packed `Packet`, without its `data`, which follow.

    Args:
        head: At least `PACKET_HEAD_BYTES` from there on.
        at: Where it begins.

    Raises:
        BrokenDecoderError: its values are out of range.
    """
    mark, flags, size, pts, dts = _PACKET.unpack_from(head, at)
    if mark != PACKET_MARK or flags > 15 or not 1 <= size <= MAX_PACKET_BYTES or min(pts, dts) < 1 - (1 << 63):
        raise BrokenDecoderError("a Packet with values out of range", subject="the decoder")
    return Packet(
        pts if flags & _HAS_PTS else None, dts if flags & _HAS_DTS else None,
        bool(flags & _IS_KEY), bool(flags & _IS_CORRUPT), size,
    )  # fmt: skip


def from_line(line: bytes, slots: int) -> Message:
    """Read a line. A `Coded` is without its `data`, which follow.

    Args:
        line: With its end.
        slots: How many slots the ring has.

    Raises:
        BrokenDecoderError: it is not a message, or its values are out of range.
    """
    try:
        fields = json.loads(line)
        kind = _KINDS[fields.pop("kind")]
        message: Message = kind(**fields)
        is_right = _CHECKS[kind](message, slots)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ZeroDivisionError) as error:
        raise BrokenDecoderError("said something that is not understood", subject="the decoder") from error
    if not is_right:
        raise BrokenDecoderError(f"a {kind.__name__} with values out of range", subject="the decoder")
    return message


def _is_count(value: object) -> bool:
    return is_int(value, 0, (1 << 62) - 1)


def _is_fraction(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(_FRACTION.fullmatch(value)) and Fraction(value) > 0)


_FRACTION: Final = re.compile("[0-9]{1,12}(/[0-9]{1,12})?")


def _is_opened(message: Any, slots: int) -> bool:
    del slots
    return _is_fraction(message.rate) and _is_fraction(message.time_base)


def _is_arrived(message: Any, slots: int) -> bool:
    sizes = (message.height, message.width)
    return (
        all(map(_is_count, (message.slot, message.index, message.dropped, *sizes)))
        and message.slot < slots
        and min(sizes) > 0
        and max(sizes) <= SLOT_BYTES
        and sizes[0] * sizes[1] * 3 <= SLOT_BYTES
        and _is_time(message.pts)
    )


def _is_time(value: object) -> bool:
    return value is None or is_int(value, 1 - (1 << 63), (1 << 63) - 1)


_NAME: Final = re.compile("[a-z0-9_]{1,40}")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _is_coded(message: Any, slots: int) -> bool:
    del slots
    return (
        _is_name(message.codec)
        and (message.pixels is None or _is_name(message.pixels))
        and is_int(message.orientation, 1, 8)
        and type(message.is_lossless) is bool
        and is_int(message.size, 0, MAX_EXTRADATA_BYTES)
        and message.data == b""
    )


def _is_stopped(message: Any, slots: int) -> bool:
    del slots
    return (
        message.loss in _LOSSES
        and isinstance(message.problem, str)
        and isinstance(message.hint, str)
        and len(message.problem) <= MAX_TEXT
        and len(message.hint) <= MAX_TEXT
    )


_CHECKS: Final = MappingProxyType(
    {
        Alive: lambda message, _: _is_count(message.dropped),
        Opened: _is_opened,
        Arrived: _is_arrived,
        Coded: _is_coded,
        Damaged: lambda message, _: _is_count(message.index),
        Waiting: lambda message, _: type(message.seconds) is float and 0 <= message.seconds < 1e9,
        Stopped: _is_stopped,
    }
)


class Incoming:
    """The messages of one decoder process, which come in pieces of any size.

    Args:
        slots: How many slots its ring has.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._rest = bytearray()

    def messages(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with a further piece.

        Args:
            data: What came.

        Raises:
            BrokenDecoderError: it makes no sense; the messages before it are given first.
        """
        rest = self._rest
        rest += data
        at = 0
        try:
            while at < len(rest):
                end = self._end_of_head(at)
                if end is None:
                    return
                is_packet = rest[at] == PACKET_MARK
                message = packet_from(rest, at) if is_packet else from_line(bytes(rest[at:end]), self._slots)
                if isinstance(message, Coded | Packet):
                    if len(rest) < end + message.size:
                        return
                    message = replace(message, data=bytes(rest[end : end + message.size]))
                    end += message.size
                at = end
                yield message
        finally:
            del rest[:at]

    def _end_of_head(self, at: int) -> int | None:
        """Where the line or the packed head ends that begins there; None if it is not complete."""
        rest = self._rest
        if rest[at] == PACKET_MARK:
            return at + PACKET_HEAD_BYTES if len(rest) >= at + PACKET_HEAD_BYTES else None
        end = rest.find(b"\n", at, at + MAX_LINE) + 1
        if not end and len(rest) >= at + MAX_LINE:
            raise BrokenDecoderError("said something that is not understood", subject="the decoder")
        return end or None
