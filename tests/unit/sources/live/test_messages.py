from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from yoloship.sources.live.messages import (
    MAX_EXTRADATA_BYTES,
    MAX_LINE,
    MAX_PACKET_BYTES,
    MAX_TEXT,
    PACKET_HEAD_BYTES,
    PACKET_MARK,
    Alive,
    Arrived,
    BrokenDecoderError,
    Coded,
    Damaged,
    Incoming,
    Message,
    Opened,
    Packet,
    Stopped,
    Waiting,
    from_line,
    packet_from,
    to_bytes,
)
from yoloship.sources.live.ring import SLOT_BYTES

GOOD: list[Message] = [
    Alive(),
    Alive(7),
    Opened("30000/1001", "1/90000"),
    Opened(None, None),
    Arrived(3, 12, 1080, 1920, -5, 2),
    Arrived(0, 0, 1, 1, None),
    Coded("h264", "yuv420p", 6, True, 0),
    Coded("hevc", None, 1, False, MAX_EXTRADATA_BYTES),
    Damaged(4),
    Waiting(2.5),
    Stopped("wrong", "has no video", "give another"),
]
ARRIVED = {"kind": "Arrived", "slot": 0, "index": 0, "height": 2, "width": 2, "pts": None, "dropped": 0}
CODED = {"kind": "Coded", "codec": "h264", "pixels": None, "orientation": 1, "is_lossless": True, "size": 0}
BAD: list[Any] = [
    {**CODED, "codec": "h264/../x"},
    {**CODED, "codec": "x" * 41},
    {**CODED, "codec": 7},
    {**CODED, "pixels": ""},
    {**CODED, "orientation": 0},
    {**CODED, "orientation": 9},
    {**CODED, "orientation": True},
    {**CODED, "is_lossless": 1},
    {**CODED, "size": MAX_EXTRADATA_BYTES + 1},
    {**CODED, "size": -1},
    {**CODED, "data": ""},
    {**CODED, "data": "x"},
    "",
    "[]",
    "null",
    "7",
    "{",
    "[" * 3000,
    {},
    {"kind": "Exit"},
    {"kind": "Packet", "pts": None, "dts": None, "is_key": True, "is_corrupt": False, "size": 1},
    {"kind": ["Alive"]},
    {"kind": "Alive", "more": 1},
    {"kind": "Alive", "dropped": -1},
    {"kind": "Alive", "dropped": True},
    {**ARRIVED, "slot": 4},
    {**ARRIVED, "slot": -1},
    {**ARRIVED, "slot": 1.0},
    {**ARRIVED, "index": 1 << 62},
    {**ARRIVED, "height": 0},
    {**ARRIVED, "height": SLOT_BYTES, "width": SLOT_BYTES},
    {**ARRIVED, "width": "2"},
    {**ARRIVED, "pts": 1 << 63},
    {**ARRIVED, "pts": "0"},
    {"kind": "Arrived", "slot": 0},
    {"kind": "Opened", "rate": "1e999999999", "time_base": None},
    {"kind": "Opened", "rate": "1/0", "time_base": None},
    {"kind": "Opened", "rate": "0", "time_base": None},
    {"kind": "Opened", "rate": 30, "time_base": None},
    {"kind": "Stopped", "loss": "gone", "problem": "", "hint": ""},
    {"kind": "Stopped", "loss": "lost", "problem": "x" * (MAX_TEXT + 1), "hint": ""},
    {"kind": "Stopped", "loss": ["lost"], "problem": "", "hint": ""},
    {"kind": "Waiting", "seconds": float("nan")},
    {"kind": "Waiting", "seconds": -1.0},
]


@pytest.mark.parametrize("message", GOOD, ids=repr)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    line = to_bytes(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line, 4) == message


@pytest.mark.parametrize(
    "packet",
    [
        Packet(-5, None, True, False, 1, b"x"),
        Packet(None, 7, False, True, 3, b"{\n\0"),
        Packet(0, 1 - (1 << 63), False, False, 1, b"\0"),
        Packet((1 << 63) - 1, 0, True, True, MAX_PACKET_BYTES, bytes(MAX_PACKET_BYTES)),
    ],
    ids=lambda packet: str(packet)[:60],
)
def test_a_packet_arrives_as_it_was_sent(packet: Packet) -> None:
    sent = to_bytes(packet)
    assert sent[0] == PACKET_MARK
    assert packet_from(sent) == replace(packet, data=b"")
    assert packet_from(b"##" + sent, 2) == replace(packet, data=b"")
    assert sent[PACKET_HEAD_BYTES:] == packet.data


@pytest.mark.parametrize(
    "head",
    [
        (1, 0, 1, 0, 0),
        (PACKET_MARK, 16, 1, 0, 0),
        (PACKET_MARK, 0, 0, 0, 0),
        (PACKET_MARK, 0, MAX_PACKET_BYTES + 1, 0, 0),
        (PACKET_MARK, 4, 1, -(1 << 63), 0),  # FFmpeg's "no time"
        (PACKET_MARK, 8, 1, 0, -(1 << 63)),
    ],
)
def test_no_other_packet_is_believed(head: tuple[int, ...]) -> None:
    with pytest.raises(BrokenDecoderError, match="a Packet with values out of range"):
        packet_from(struct.pack("<BBIqq", *head))


def test_a_line_is_short_enough_to_be_written_at_once() -> None:
    line = to_bytes(Stopped("lost", "\x1b" * 100_000, "😀" * 100_000))
    assert len(line) < 2 * MAX_LINE
    message = from_line(line, 4)
    assert isinstance(message, Stopped)
    assert len(message.problem) <= MAX_TEXT


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:60])
def test_nothing_else_is_believed(bad: Any) -> None:
    line = bad if isinstance(bad, str) else json.dumps(bad)
    with pytest.raises(BrokenDecoderError):
        from_line(line.encode(), 4)


def test_damaged_lines_are_refused_or_harmless() -> None:
    chance = random.Random(7)
    lines = [to_bytes(message) for message in GOOD]
    for _ in range(3000):
        line = bytearray(chance.choice(lines))
        for _ in range(chance.randint(1, 4)):
            line[chance.randrange(len(line))] = chance.randrange(256)
        try:
            message = from_line(bytes(line), 4)
        except BrokenDecoderError:
            continue
        if isinstance(message, Arrived):
            assert 0 <= message.slot < 4
            assert message.height * message.width * 3 <= SLOT_BYTES


SENT: list[Message] = [
    Alive(),
    Opened("30", "1/90000"),
    Coded("h264", "yuv420p", 1, True, 5, b"\n{}\0\0"),
    Packet(0, 0, True, False, 70_000, bytes(range(250)) * 280),
    Packet(3000, None, False, False, 1, b"{"),
    Coded("hevc", None, 1, True, 0),
    Packet(None, None, False, True, 3, b"\0\0\n"),
    Damaged(4),
    Arrived(1, 3, 4, 6, None),
    Stopped("lost", "closed the connection"),
]


@pytest.mark.parametrize("most", [1, 7, 100, 65536, 1_000_000])
def test_messages_come_whole_and_in_order(most: int) -> None:
    data, chance = b"".join(map(to_bytes, SENT)), random.Random(3)
    incoming = Incoming(4)
    found: list[Message] = []
    while data:
        size = chance.randint(1, most)
        found += incoming.messages(data[:size])
        data = data[size:]
    assert found == SENT


def test_what_comes_before_nonsense_is_given_first() -> None:
    messages = Incoming(4).messages(to_bytes(Alive(3)) + b"\1\2\3\n")
    assert next(messages) == Alive(3)
    with pytest.raises(BrokenDecoderError):
        next(messages)


def test_a_line_without_an_end_is_not_collected() -> None:
    incoming = Incoming(4)
    assert list(incoming.messages(b"{" * (MAX_LINE - 1))) == []
    with pytest.raises(BrokenDecoderError):
        list(incoming.messages(b"{"))


def test_a_packet_with_wrong_values_is_refused_before_its_bytes_are_collected() -> None:
    head = bytearray(to_bytes(Packet(0, 0, True, False, 1, b"x"))[:-1])
    head[5] = 255  # the highest byte of its size
    with pytest.raises(BrokenDecoderError):
        list(Incoming(4).messages(bytes(head)))
