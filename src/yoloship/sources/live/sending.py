"""A stream as packets, in its decoder process: takes it apart for a parent that decodes with a device."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from yoloship.sources.live.messages import MAX_EXTRADATA_BYTES, MAX_PACKET_BYTES, Coded, Damaged, Packet
from yoloship.sources.pixels import orientation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from yoloship.sources.live.messages import Message
    from yoloship.sources.pixels import Converter

_TURNING: Final = frozenset({"mov", "mp4", "matroska"})
"""Containers that may say that a video is to be turned."""
_MOST_HELD: Final = 32
"""Packets before the first frame of such a file. If there are more, it counts as upright."""


def first_look(
    container: Any, stream: Any, packets: Iterator[Any], converter: Converter, *, is_lossless: bool
) -> tuple[list[Any], Coded]:
    """What a parent has to know before it can decode a stream.

    PyAV does not tell the rotation that a container states, but its frames do. So the first frame of a container that
    can state one is decoded here.

    Args:
        container: Of PyAV, open.
        stream: Its video.
        packets: Those of the stream.
        converter: Reads the rotation of a frame.
        is_lossless: Whether the connection repeats what is lost on the way.

    Returns:
        The packets that were looked at, and what to tell.
    """
    context = stream.codec_context
    held: list[Any] = []
    orientation = 1
    if _TURNING.intersection(container.format.name.split(",")):
        from av.error import FFmpegError

        for packet in packets:
            held.append(packet)
            try:
                shown = packet.decode()
            except FFmpegError:
                shown = []
            if shown:
                orientation = orientation_of(converter.matrix(shown[0]))
            if shown or not packet.size or len(held) == _MOST_HELD:
                break
        if context.is_open:
            context.flush_buffers()
    extradata = context.extradata or b""
    codec, pixels = context.codec.canonical_name, context.pix_fmt
    return held, Coded(codec, pixels, orientation, is_lossless, len(extradata), extradata)


def send_all(packets: Iterator[Any], coded: Coded, send: Callable[[Message], None], *, has_clock: bool) -> float:
    """Send packets until the data end. One that is too large counts as damaged.

    Args:
        packets: Of PyAV.
        coded: What was told about them.
        send: Sends a message.
        has_clock: Whether the times of the packets are those of the stream.

    Returns:
        The latest time of a packet, in seconds.
    """
    reached_s = 0.0
    for packet in packets:
        if not packet.size:  # the end
            continue
        if packet.has_sidedata("new_extradata"):
            changed = bytes(packet.get_sidedata("new_extradata"))
            if len(changed) <= MAX_EXTRADATA_BYTES:
                send(replace(coded, size=len(changed), data=changed))
        if packet.pts is not None and packet.time_base is not None:
            reached_s = max(reached_s, float(packet.pts * packet.time_base))
        if packet.size > MAX_PACKET_BYTES:
            send(Damaged(0))
        else:
            pts, dts = (packet.pts, packet.dts) if has_clock else (None, None)
            send(Packet(pts, dts, packet.is_keyframe, packet.is_corrupt, packet.size, bytes(packet)))
    return reached_s


def open_for_packets(
    opened: Callable[[Mapping[str, str]], Any], address: str, options: Mapping[str, str]
) -> tuple[Any, bool]:
    """Open an address in the way in which nothing is lost, if it has one. RTSP then runs over TCP alone.

    Args:
        opened: Opens it with options of FFmpeg.
        address: Where the stream is.
        options: Of FFmpeg.

    Returns:
        The container, and whether the connection repeats what is lost on the way.
    """
    scheme = address.partition("://")[0].lower()
    if scheme not in {"rtsp", "rtsps"}:
        return opened(options), scheme not in {"udp", "rtp"}
    try:
        return opened({**options, "rtsp_transport": "tcp"}), True
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
    return opened(options), False
