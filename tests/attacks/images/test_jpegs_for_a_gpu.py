"""JPEGs whose headers different decoders could read differently: a GPU must not get them.

What a file states twice is read here in both ways, by libjpeg. The check of the compressed data runs on the emulator.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pytest

from helpers.cuda_emulator import EmulatedRig, emulator_library
from helpers.cuda_jpeg_contract import verdicts
from helpers.damaged_jpegs import Jpegs, host_takes
from helpers.images import segment
from yoloship.cuda.jpeg_scan import scan_header
from yoloship.images import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

Parts: TypeAlias = list[tuple[int, bytes]]
"""Markers and what their segments hold, up to the header of the scan; 0 stands for bytes without a segment."""

_ADOBE: Final = b"Adobe\0\x64\0\0\0\0"
_LOOSE: Final = (b"\xff", b"\0", b"\xff\x01", b"\xff\xd0", b"\xff\xd8", b"\xff\xff", b"\xff\xd9")
_FACTORS: Final = (0, 1, 2, 3, 4, 0x11, 0x12, 0x14, 0x21, 0x22, 0x31, 0x33, 0x41, *b"RGB")
_MARKERS: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xE1, 0xF0, 0xFE)
_CHANGES: Final = 14


def split(data: bytes) -> tuple[Parts, bytes]:
    at, found = 2, []
    while True:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
        if found[-1][0] == 0xDA:
            return found, data[at:]


def joined(parts: Parts, body: bytes) -> bytes:
    return b"".join([b"\xff\xd8", *[segment(marker, held) if marker else held for marker, held in parts], body])


def change(chance: random.Random, parts: Parts, others: Parts) -> None:
    """Change one thing about the segments of a file."""
    place, which = chance.randrange(len(parts)), chance.randrange(_CHANGES)
    marker, held = parts[place]
    at = chance.randrange(len(held) or 1)
    if which == 0:
        parts.insert(chance.randrange(len(parts)), parts[place])
    elif which == 1:
        other = chance.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
    elif which == 2 and len(parts) > 1:
        del parts[place]
    elif which <= 4:
        parts[place] = marker, held[:at] + bytes([chance.choice([*_FACTORS, chance.randrange(256)])]) + held[at + 1 :]
    elif which <= 6:
        parts.insert(place, chance.choice(others))
    elif which == 7:
        parts.insert(place, (0xEE, _ADOBE + bytes([chance.randrange(3)])))
    elif which == 8:
        parts.insert(place, (0xDD, struct.pack(">H", chance.choice([0, 1, 2, 7, 1000]))))
    elif which == 9:
        parts[place] = marker, held + chance.randbytes(chance.choice([1, 2, 17, 65]))
    elif which == 10:
        parts[place] = marker, held[:at]
    elif which == 11:
        parts.insert(place, (chance.choice(_MARKERS), chance.choice([b"", b"\0\1", chance.randbytes(20)])))
    elif which == 12:
        parts.insert(place, (0, chance.choice(_LOOSE)))
    else:
        parts.insert(place, (0xDB, bytes([chance.randrange(4)]) + bytes([chance.choice([0, 1, 7, 90])]) * 64))


def hostile(seed: int) -> Iterator[tuple[Parts, bytes]]:
    chance, jpegs = random.Random(seed), Jpegs(seed)
    while True:
        parts, body = split(jpegs.sound())
        others, _ = split(jpegs.sound())
        for _ in range(chance.choice([1, 1, 2, 3])):
            change(chance, parts, others)
        yield parts, body + chance.choice([b"", b"", b"", joined(others, body), b"\xff\xd9"])


def stated_once(parts: Parts, *, first: bool) -> Parts:
    """The segments without those tables, restart intervals, Adobe segments and frames that come again."""
    kept: dict[object, tuple[int, bytes]] = {}
    for number, (marker, held) in enumerate(parts):
        key: object = number
        single = [(marker, held)]
        if marker == 0xDB and len(held) % 65 == 0:
            single = [(marker, held[at : at + 65]) for at in range(0, len(held), 65)]
        elif marker == 0xC4:
            single, at = [], 0
            while at < len(held):
                end = at + 17 + sum(held[at + 1 : at + 17])
                single, at = [*single, (marker, held[at:end])], end
        elif marker in {0xC0, 0xC1, 0xDD, 0xEE}:
            key = marker & 0xFE if marker < 0xD0 else marker
        for one in single:
            name = (marker, one[1][:1]) if marker in {0xDB, 0xC4} else key
            if first and name in kept:
                continue
            kept[name] = one
    scan = kept.pop(len(parts) - 1)
    return [*kept.values(), scan]


def test_what_is_sent_to_a_gpu_has_one_size_and_one_reading_and_is_sound() -> None:
    import simplejpeg

    rig = EmulatedRig(emulator_library())
    files = hostile(11)
    sent = 0
    for _ in range(25):
        cases = [next(files) for _ in range(32)]
        whole = [joined(*case) for case in cases]
        for (parts, body), data, is_sound in zip(cases, whole, verdicts(rig, whole), strict=True):
            scan, header = scan_header(data), read_header(data)
            if scan is None or header is None or header.problem:
                continue
            assert (scan.width, scan.height) == (header.width, header.height)
            if not is_sound:
                continue
            assert host_takes(data)
            sent += 1
            pixels = simplejpeg.decode_jpeg(data, "BGR", strict=False)
            for first in (True, False):
                again = simplejpeg.decode_jpeg(joined(stated_once(parts, first=first), body), "BGR", strict=False)
                assert np.array_equal(pixels, again)
    assert sent > 100


def test_a_head_that_is_remembered_says_what_a_search_for_all_segments_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0%c\0\0\0\0\0\0\0"
    chance, files = random.Random(5), hostile(23)
    cases = []
    for _ in range(1500):
        parts, body = next(files)
        for _ in range(chance.randrange(3)):
            parts.insert(chance.randrange(len(parts)), (0xE1, exif % chance.randrange(1, 9)))
        cases.append(joined(parts, body)[: chance.choice([None, None, None, chance.randrange(200, 2000)])])
    headers = [read_header(data) for data in cases]
    monkeypatch.setattr("yoloship.images.jpeg.jpeg_head", lambda _: None)
    for data, header in zip(cases, headers, strict=True):
        assert read_header(data) == (header and header._replace(head=None))
    assert sum(header is not None and header.head is not None and not header.problem for header in headers) > 300


def test_an_empty_frame_header_hides_no_other_size() -> None:
    """It is taken for a frame of one column, so that the memory for its pixels would be too small."""
    parts, body = split(Jpegs(3).large(64, 96))
    at = next(number for number, (marker, _) in enumerate(parts) if marker == 0xC0)
    data = joined([*parts[:at], (0xC0, b""), (0xFE, b"\1" * 200), *parts[at:]], body)
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height) != (96, 64)
    assert scan_header(data) is None
