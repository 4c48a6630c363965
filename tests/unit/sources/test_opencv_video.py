"""The fallback without PyAV: what it gives, and what it leaves to PyAV."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from helpers.videos import TIMES_MS, Clip, write_clip
from yoloship.errors import DependencyError, InputError
from yoloship.images import ImageLimits
from yoloship.sources.opencv_video import OpencvVideo

if TYPE_CHECKING:
    from pathlib import Path

    from yoloship.sources.reader import Decoded


def decoded(path: Path, limits: ImageLimits | None = None) -> list[Decoded]:
    with ExitStack() as stack:
        return list(OpencvVideo.of_path(path, stack, limits=limits or ImageLimits()).frames(lambda _: True))


def test_variable_times_are_kept_to_a_millisecond(tmp_path: Path) -> None:
    frames = decoded(write_clip(tmp_path / "a.mp4"))
    assert [abs((frame.pts or 0) / 90 - time) < 1 for frame, time in zip(frames, TIMES_MS, strict=True)] == [True] * 12


def test_a_cut_video_ends_with_an_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(container_options={"movflags": "faststart"}))
    path.write_bytes(path.read_bytes()[:-200])
    frames = decoded(path)
    assert [frame.error is None for frame in frames[:-1]] == [True] * (len(frames) - 1)
    assert "is cut short: 200 bytes are missing after this frame" in str(frames[-1].error)


@pytest.mark.parametrize("data", [b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile a.mp4\n", bytes(600), b""])
def test_what_has_not_the_content_of_a_video_never_reaches_opencv(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cv2.VideoCapture", None)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(DependencyError, match=r"needs PyAV, or not a video; pip install 'yoloship\[video\]'"):
        decoded(path)


def test_a_damaged_beginning_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(3000))
    with pytest.raises(InputError, match="cannot be opened by OpenCV"):
        decoded(path)


def test_frames_beyond_the_limits_end_the_video(tmp_path: Path) -> None:
    frames = decoded(write_clip(tmp_path / "a.mp4"), ImageLimits(max_pixels=5000))
    assert [str(frame.error) for frame in frames] == [
        "frame is too large: expected at most 5,000 pixels and 65,535 on a side, got 96×64"
    ]
