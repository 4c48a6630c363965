"""What every reader of a video gives, whichever library it uses."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.videos import Clip, write_clip
from yoloship.sources.opencv_video import OpencvVideo
from yoloship.sources.pyav_video import PyavVideo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from yoloship.sources.reader import VideoReader

OPEN: dict[str, Callable[[Path, ExitStack], VideoReader]] = {"pyav": PyavVideo.of_path, "opencv": OpencvVideo.of_path}


@pytest.fixture(params=list(OPEN))
def open_video(request: pytest.FixtureRequest) -> Callable[[Path, ExitStack], VideoReader]:
    return OPEN[request.param]


def test_frames_come_in_the_order_of_their_times(
    open_video: Callable[[Path, ExitStack], VideoReader], tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 400, 40), time_base=Fraction(1, 25)))
    with ExitStack() as stack:
        video = open_video(path, stack)
        base = video.stream.time_base
        frames = list(video.frames(lambda place: place != 3))
    assert base is not None
    assert [(frame.pts or 0) * base for frame in frames] == [Fraction(place, 25) for place in range(10)]
    assert [frame.image is None for frame in frames] == [place == 3 for place in range(10)]
    assert all(frame.error is None for frame in frames)
    assert (video.stream.name, video.stream.path, video.stream.rate) == (str(path), path, Fraction(25))


def test_both_give_the_same_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(rotation=90))
    with ExitStack() as stack:
        ours, theirs = (list(open_video(path, stack).frames(lambda _: True)) for open_video in OPEN.values())
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.image, other.image)  # type: ignore[arg-type]
        assert not other.image.flags.writeable  # type: ignore[union-attr]
