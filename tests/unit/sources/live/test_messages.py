from __future__ import annotations

import json
import random
from typing import Any

import pytest

from yoloship.sources.live.messages import (
    MAX_EXTRADATA_BYTES,
    MAX_LINE,
    MAX_PACKET_BYTES,
    MAX_TEXT,
    Alive,
    Arrived,
    BrokenDecoderError,
    Coded,
    Damaged,
    Message,
    Opened,
    Packet,
    Stopped,
    Waiting,
    from_line,
    to_line,
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
    Packet(-5, None, True, False, 1),
    Packet(None, 7, False, True, MAX_PACKET_BYTES),
    Damaged(4),
    Waiting(2.5),
    Stopped("wrong", "has no video", "give another"),
]
ARRIVED = {"kind": "Arrived", "slot": 0, "index": 0, "height": 2, "width": 2, "pts": None, "dropped": 0}
CODED = {"kind": "Coded", "codec": "h264", "pixels": None, "orientation": 1, "is_lossless": True, "size": 0}
PACKET = {"kind": "Packet", "pts": None, "dts": None, "is_key": True, "is_corrupt": False, "size": 1}
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
    {**PACKET, "size": 0},
    {**PACKET, "size": MAX_PACKET_BYTES + 1},
    {**PACKET, "size": 1e9},
    {**PACKET, "pts": 1 << 63},
    {**PACKET, "dts": "0"},
    {**PACKET, "is_key": 1},
    {**PACKET, "is_corrupt": None},
    {**PACKET, "data": [1]},
    "",
    "[]",
    "null",
    "7",
    "{",
    "[" * 3000,
    {},
    {"kind": "Exit"},
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
    line = to_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line, 4) == message


def test_a_line_is_short_enough_to_be_written_at_once() -> None:
    line = to_line(Stopped("lost", "\x1b" * 100_000, "😀" * 100_000))
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
    lines = [to_line(message) for message in GOOD]
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
