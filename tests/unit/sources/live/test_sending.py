from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helpers.cameras import video_bytes
from helpers.videos import Clip, write_clip
from yoloship.sources.live import sending as module
from yoloship.sources.live.messages import Coded, Damaged, Packet
from yoloship.sources.live.sending import first_look, open_for_packets, send_all
from yoloship.sources.pixels import Converter

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.sources.live.messages import Message

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet")


def opened(data: bytes) -> tuple[Any, Any, Any]:
    import av

    container = av.open(io.BytesIO(data))
    stream = container.streams.video[0]
    return container, stream, container.demux(stream)


def test_it_is_told_what_a_decoder_needs_and_no_packet_is_lost() -> None:
    container, stream, packets = opened(video_bytes(12))
    with container:
        held, coded = first_look(container, stream, packets, Converter(), is_lossless=True)
        assert (coded.codec, coded.pixels, coded.orientation) == ("h264", "yuv420p", 1)
        assert coded.size == len(coded.data) > 20
        found: list[Message] = []
        reached_s = send_all(iter([*held, *packets]), coded, found.append, has_clock=True)
    assert [message.pts for message in found if isinstance(message, Packet)] == [index * 512 for index in range(12)]
    assert [message.is_key for message in found if isinstance(message, Packet)] == [True, *[False] * 9, True, False]
    assert reached_s == pytest.approx(11 / 25)


def test_a_stream_that_cannot_be_turned_is_not_looked_at() -> None:
    container, stream, packets = opened(video_bytes(12, "mpegts"))
    with container:
        held, coded = first_look(container, stream, packets, Converter(), is_lossless=True)
    assert held == []
    assert coded.orientation == 1


def test_times_that_the_container_makes_up_are_not_sent() -> None:
    container, stream, packets = opened(video_bytes(12, "mpegts"))
    with container:
        found: list[Any] = []
        send_all(
            packets,
            first_look(container, stream, packets, Converter(), is_lossless=True)[1],
            found.append,
            has_clock=False,
        )
    assert [(message.pts, message.dts) for message in found] == [(None, None)] * 12


def test_a_packet_beyond_the_limit_counts_as_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    container, stream, packets = opened(video_bytes(12, "mpegts"))
    with container:
        coded = first_look(container, stream, packets, Converter(), is_lossless=True)[1]
        all_packets = [one for one in packets if one.size]
        sizes = [packet.size for packet in all_packets]
        monkeypatch.setattr(module, "MAX_PACKET_BYTES", max(sizes) - 1)
        found: list[Any] = []
        send_all(iter(all_packets), coded, found.append, has_clock=True)
    assert [type(message) for message in found].count(Damaged) == sizes.count(max(sizes))
    assert len(found) == 12


def test_the_rotation_of_a_container_is_told(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    write_clip(path, Clip(rotation=90))
    container, stream, packets = opened(path.read_bytes())
    with container:
        held, coded = first_look(container, stream, packets, Converter(), is_lossless=True)
        assert coded.orientation in {6, 8}
        assert 1 <= len(held) <= 8
        assert isinstance(coded, Coded)


def test_rtsp_is_opened_over_tcp_alone_unless_the_camera_cannot() -> None:
    asked: list[dict[str, str]] = []

    def opened(options: Any) -> str:
        asked.append(dict(options))
        if camera_lacks_tcp and "rtsp_transport" in options:
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")
        return "container"

    camera_lacks_tcp = False
    assert open_for_packets(opened, "RTSP://camera/", {"a": "1"}) == ("container", True)
    assert asked == [{"a": "1", "rtsp_transport": "tcp"}]
    camera_lacks_tcp = True
    assert open_for_packets(opened, "rtsps://camera/", {"a": "1"}) == ("container", False)
    assert asked[2:] == [{"a": "1"}]
    assert open_for_packets(opened, "tcp://camera/", {}) == ("container", True)
    assert open_for_packets(opened, "udp://camera/", {}) == ("container", False)
    assert open_for_packets(opened, "rtp://camera/", {}) == ("container", False)


def test_another_failure_is_not_tried_again() -> None:
    def refused(_options: Any) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    with pytest.raises(ConnectionRefusedError):
        open_for_packets(refused, "rtsp://camera/", {})
