from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.videos import Clip, write_clip
from yoloship.errors import InputError, YoloshipError
from yoloship.evaluate.bench_sources import BenchSources, VideoLoop, first_frames

IMAGES = [np.full((4, 6, 3), number, np.uint8) for number in range(2)]
ANY: Any = None


def test_images_and_files_are_handed_over_in_turn() -> None:
    files = [Path("a.png"), Path("b.png")]
    with ExitStack() as stack:
        arrays = BenchSources(IMAGES).handed(ANY, 3, stack)
        paths = BenchSources(IMAGES, "file", files).handed(ANY, 3, stack)
    assert [int(array[0, 0, 0]) for array in arrays] == [0, 1, 0]
    assert paths == [*files, files[0]]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        BenchSources([])
    with pytest.raises(InputError, match=r"not one file for each image: expected 2, got 1"):
        BenchSources(IMAGES, "file", [Path("a.png")])


def test_nobody_decodes_what_is_in_memory() -> None:
    assert BenchSources(IMAGES).decoded_by(ANY) is None
    assert BenchSources(IMAGES, "device").decoded_by(ANY) is None


@pytest.fixture
def video(tmp_path: Path) -> Path:
    pytest.importorskip("av")
    return write_clip(tmp_path / "clip.mp4", Clip(times_ms=(0, 40, 80)))


def test_a_video_begins_again_at_its_end(video: Path) -> None:
    ways: tuple[Any, ...] = (iter(VideoLoop([video])), VideoLoop([video]).when_asked())
    for frames in ways:
        taken: list[Any] = list(islice(frames, 7))
        assert [frame.index for frame in taken] == [0, 1, 2, 0, 1, 2, 0]
        assert np.array_equal(taken[0].image, taken[3].image)
        assert not np.array_equal(taken[0].image, taken[1].image)
        frames.close()


def test_the_first_frames_come_from_all_videos_in_turn(video: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", Clip(times_ms=(0, 40), size=(64, 48)))
    found = first_frames([video, other], 3)
    assert found[1].shape == (48, 64, 3)
    assert found[0].shape == found[2].shape
    assert not np.array_equal(found[0], found[2])


def test_a_file_that_is_no_video_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(YoloshipError, match=r"clip\.mp4"):
        first_frames([tmp_path / "clip.mp4"], 1)
