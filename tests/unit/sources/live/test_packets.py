from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.cameras import HW, picture, video_bytes
from helpers.packet_decoding import CpuPacketDecoder, CpuPackets
from yoloship.images import ImageLimits
from yoloship.sources.live import packets as module
from yoloship.sources.live.messages import Alive, Coded, Damaged, Packet
from yoloship.sources.live.packets import NotDecodedError, Shown, TooLargeError, Unpacker

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet")
CODED = Coded("h264", "yuv420p", 1, True, 0)


def sent(count: int = 12) -> list[Packet]:
    """What the camera of the tests sends, whose key frames repeat the parameters."""
    import io

    import av

    with av.open(io.BytesIO(video_bytes(count, "mpegts"))) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    return [Packet(one.pts, one.dts, one.is_keyframe, one.is_corrupt, one.size, bytes(one)) for one in packets]


def unpacker(decoding: CpuPackets, step: int = 1) -> Unpacker:
    made = Unpacker(decoding, step, lambda _: None)
    made.open(CODED)
    return made


def taken(one: Unpacker, packets: Sequence[Any]) -> list[Any]:
    return [found for packet in packets for found in one.frames(packet)]


def test_packets_become_frames_with_their_times_and_places() -> None:
    decoding, packets = CpuPackets(), sent()
    with unpacker(decoding) as one:
        found = taken(one, [*packets, None])
    assert [shown.index for shown in found] == list(range(12))
    assert [shown.pts for shown in found] == [packet.pts for packet in packets]
    assert all(shown.image_hw == HW for shown in found)
    assert all(np.abs(shown.image.host().astype(int) - picture(shown.index)).mean() < 4 for shown in found)
    assert decoding.in_use == 12
    assert decoding.open_now == 0


def test_the_step_leaves_frames_out_without_making_images_of_them() -> None:
    decoding = CpuPackets()
    with unpacker(decoding, 5) as one:
        found = taken(one, sent())
    assert [shown.index for shown in found if isinstance(shown, Shown)] == [0, 5, 10]
    assert found.count(Alive()) == 9
    assert decoding.given == 3


def test_damage_counts_once_there_was_a_good_frame() -> None:
    rubbish = Packet(None, None, False, False, 4, b"\0\0\1\x65")
    packets = sent()
    with unpacker(CpuPackets()) as one:
        assert taken(one, [rubbish, Damaged(0), rubbish]) == []
        kinds = [type(found) for found in taken(one, [packets[0], rubbish, Damaged(7), packets[1]])]
        assert kinds == [Shown, Damaged, Damaged, Shown]
        assert [found.index for found in taken(one, packets[2:4])] == [4, 5]


def test_new_parameters_open_a_new_decoder_behind_the_frames_of_the_last_one() -> None:
    decoding, packets = CpuPackets(), sent()
    with unpacker(decoding) as one:
        found = taken(one, [*packets[:10], CODED, *packets[10:]])
        assert decoding.open_now == 1
    assert [shown.index for shown in found] == list(range(12))
    assert len(decoding.opened) == 2


def test_what_the_device_does_not_decode_is_said() -> None:
    with (
        Unpacker(CpuPackets(refuses=("h264",)), 1, lambda _: None) as one,
        pytest.raises(NotDecodedError, match="h264: is a codec that NVDEC does not have"),
    ):
        one.open(CODED)
    with (
        Unpacker(CpuPackets(), 1, lambda _: None) as one,
        pytest.raises(NotDecodedError, match="UnknownCodecError: c264"),
    ):
        one.open(replace(CODED, codec="c264"))
    decoding = CpuPackets(fails_at=3)
    with unpacker(decoding) as one, pytest.raises(NotDecodedError, match="has no session left"):
        taken(one, sent())
    assert decoding.given == 3


def test_a_decoder_that_cannot_go_on_is_not_taken_for_a_damaged_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    from av.error import ExternalError

    def fail(_self: object, _packet: object) -> list[Any]:
        raise ExternalError(542398533, "Generic error in an external library")

    monkeypatch.setattr("helpers.packet_decoding.CpuPacketDecoder.decode", fail)
    with unpacker(CpuPackets()) as one, pytest.raises(NotDecodedError, match="external library"):
        taken(one, sent())


@pytest.mark.parametrize("step", ["decode", "image"])
def test_whatever_goes_wrong_in_a_decoder_leaves_the_stream_to_its_own_process(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(_self: object, _argument: object) -> Any:
        raise RuntimeError("not expected")

    monkeypatch.setattr(CpuPacketDecoder, step, fail)
    with unpacker(CpuPackets()) as one, pytest.raises(NotDecodedError, match="RuntimeError: not expected"):
        taken(one, sent())


def test_frames_beyond_the_limit_end_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.packet_decoding.LIMITS", ImageLimits(max_side_px=HW[1] - 1))
    with unpacker(CpuPackets()) as one, pytest.raises(TooLargeError, match="its frames are too large: got 64×48"):
        taken(one, sent())


def test_a_flood_of_packets_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PACKETS_PER_S", 5)
    pauses: list[float] = []
    with Unpacker(CpuPackets(), 1, pauses.append) as one:
        one.open(CODED)
        taken(one, sent(8))
    assert all(0 < pause <= 1 for pause in pauses)
    assert 1 <= len(pauses) <= 3


def test_no_packet_whatever_its_bytes_leaves_more_than_frames_and_damage() -> None:
    source = random.Random(7)
    decoding, packets = CpuPackets(), sent(30)
    with unpacker(decoding) as one:
        for _ in range(40):
            for packet in packets:
                data = bytearray(packet.data)
                for _ in range(source.choice((0, 1, 8))):
                    data[source.randrange(len(data))] = source.randrange(256)
                data = data[: source.choice((len(data), source.randint(1, len(data))))]
                changed = Packet(
                    source.choice((None, -1, 2**62)), None, True, source.random() < 0.1, len(data), bytes(data)
                )
                for found in one.frames(changed):
                    assert isinstance(found, Shown | Damaged | Alive)
                    if isinstance(found, Shown):
                        found.image.close()
    assert decoding.in_use == 0
