"""How many bytes a cut video lacks, by its own words."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from helpers.videos import Clip, write_clip
from yoloship.sources.truncation import missing_bytes

if TYPE_CHECKING:
    from pathlib import Path

CLIPS = {
    "ordinary.mp4": Clip(),
    "fast.mp4": Clip(container_options={"movflags": "faststart"}),
    "fragmented.mp4": Clip(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": Clip(),
    "a.avi": Clip(codec="mpeg4", times_ms=range(0, 480, 40), time_base=Fraction(1, 25)),
}


@pytest.mark.parametrize("name", list(CLIPS))
def test_a_whole_video_lacks_nothing_and_every_cut_one_what_was_cut(tmp_path: Path, name: str) -> None:
    data = write_clip(tmp_path / name, CLIPS[name]).read_bytes()
    assert missing_bytes(io.BytesIO(data)) == 0
    for end in range(len(data) // 3, len(data) - 1, max(1, len(data) // 40)):
        found = missing_bytes(io.BytesIO(data[:end]))
        if name == "fragmented.mp4":  # it may end after any fragment
            assert 0 <= found <= len(data) - end
        else:
            assert 0 < found <= len(data) - end


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x00" + bytes(20),
        b"\x1a\x45\xdf\xa3\xff" + bytes(20),
        b"RIFF",
        b"RIFF\xff\xff\xff\xffAVI ",
        b"\0\0\0\x08ftyp",
        b"\0\0\0\x00ftypisom",
        b"\0\0\0\x07ftypisom",
        b"\0\0\0\x0cftypisom" + bytes(7),
        b"\0\0\0\x0cftypisom" + b"\0\0\0\x08free" * 200_000,
        b"YUV4MPEG2 W2 H2\n",
        bytes(1000),
    ],
    ids=range(13),
)
def test_what_says_nothing_lacks_nothing(data: bytes) -> None:
    assert missing_bytes(io.BytesIO(data)) == 0


def test_a_box_with_a_long_length_that_is_not_there_lacks_it() -> None:
    assert missing_bytes(io.BytesIO(b"\0\0\0\x01ftyp")) == 8
