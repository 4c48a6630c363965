"""Videos as a source: names, times, steps, and what is wrong with one of several."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.videos import TIMES_MS, Clip, packets_of, write_clip
from yoloship.errors import DependencyError, InputError
from yoloship.sources import Frame, SourceOptions, open_source
from yoloship.sources.pyav_video import PyavVideo
from yoloship.sources.video import WITHOUT_PYAV, VideoFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from yoloship.sources.reader import VideoReader


def frames_of(*texts: Path | str, step: int = 1) -> list[Frame]:
    with VideoFiles.open([str(text) for text in texts], SourceOptions(frame_step=step)) as source:
        return list(source)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_frames_have_the_name_of_their_video_their_place_and_their_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    frames = frames_of(path)
    assert [frame.name for frame in frames] == [f"{path}#{index}" for index in range(12)]
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == [time / 1000 for time in TIMES_MS]
    (stream,) = {frame.stream for frame in frames}
    assert stream is not None
    assert (stream.name, stream.path, stream.has_audio, stream.is_live) == (str(path), path, True, False)
    assert "yoloship-read" not in threads()


def test_a_step_gives_every_nth_frame_with_its_own_place_and_time(tmp_path: Path) -> None:
    frames = frames_of(write_clip(tmp_path / "a.mp4"), step=5)
    assert [frame.index for frame in frames] == [0, 5, 10]
    assert [frame.time_s for frame in frames] == [0, 0.243, 0.486]


def test_a_step_leaves_out_no_broken_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    at, size = packets_of(path)[5]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    frames = frames_of(path, step=12)
    (broken,) = (frame for frame in frames if frame.error is not None)
    assert str(broken.error).startswith(f"{path}#{broken.index}: frame is damaged")
    assert frames[0].index == 0
    assert len(frames) == 2


@pytest.mark.parametrize("step", [0, -3])
def test_a_step_below_one_is_refused(step: int) -> None:
    with pytest.raises(InputError, match=rf"frame_step \(--vid-stride\): must be at least 1: got {step}"):
        VideoFiles.open(["a.mp4"], SourceOptions(frame_step=step))


def test_several_videos_and_patterns_follow_each_other_and_none_comes_twice(tmp_path: Path) -> None:
    for name in ("cam10.mp4", "cam2.mp4", "b.mkv"):
        write_clip(tmp_path / name, Clip(times_ms=(0, 40)))
    (tmp_path / "cam3.txt").write_text("no video")
    frames = frames_of(tmp_path / "b.mkv", f"{tmp_path}/cam*", tmp_path / "cam2.mp4")
    assert [Path(frame.name).name for frame in frames] == [
        "b.mkv#0", "b.mkv#1", "cam2.mp4#0", "cam2.mp4#1", "cam10.mp4#0", "cam10.mp4#1",
    ]  # fmt: skip
    assert [frame.time_s for frame in frames] == [0, 0.04] * 3


def test_the_videos_are_known_as_inputs_before_the_run(tmp_path: Path) -> None:
    with VideoFiles.open([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]) as source:
        assert source.inputs == (tmp_path / "a.mp4", tmp_path / "b.mp4")
        assert (source.files, source.count) == (None, None)


def test_a_video_that_cannot_be_read_is_one_error_and_the_others_go_on(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=(0, 40)))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    frames = frames_of(tmp_path / "bad.mp4", path, tmp_path / "missing.mp4")
    assert [frame.error is None for frame in frames] == [False, True, True, False]
    assert str(frames[0].error).startswith(f"{tmp_path / 'bad.mp4'}: is not a video")
    assert str(frames[3].error) == f"{tmp_path / 'missing.mp4'}: no such file"
    assert len({frame.name for frame in frames}) == 4


def test_a_cut_video_ends_with_an_error_at_its_own_place(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(container_options={"movflags": "faststart"}))
    path.write_bytes(path.read_bytes()[:-150])
    *whole, last = frames_of(path)
    assert [frame.index for frame in whole] == list(range(len(whole)))
    assert (last.index, last.name, last.image) == (len(whole), f"{path}#{len(whole)}", None)
    assert str(last.error) == (
        f"{last.name}: is cut short: 150 bytes are missing after this frame; copy the video again"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "the name of a video is empty"), (".", "is a folder, not a video"), ("no*such.mp4", "matches no videos")],
)
def test_what_cannot_be_a_video_is_refused_at_once(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        VideoFiles.open([text])


def test_a_file_is_recognised_by_its_content_and_may_be_read_twice(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    path = path.rename(tmp_path / "download")
    with open_source([str(path)]) as source:
        assert type(source) is VideoFiles
        first, second = list(source), list(source)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.image, other.image)  # type: ignore[arg-type]


def test_leaving_in_the_middle_ends_its_thread(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 4000, 40)))
    with VideoFiles.open([str(path)]) as source:
        frames = iter(source)
        next(frames)
        assert "yoloship-read" in threads()
        frames.close()  # type: ignore[attr-defined]
    assert "yoloship-read" not in threads()


def test_without_pyav_opencv_reads_and_the_notes_say_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloship.sources.reader.find_spec", lambda name: None)
    path = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    with VideoFiles.open([str(path)]) as source:
        assert source.notes == (WITHOUT_PYAV,)
        frames = list(source)
    assert [frame.time_s for frame in frames] == pytest.approx([time / 1000 for time in TIMES_MS], abs=1e-3)
    assert frames[0].stream is not None
    assert not frames[0].stream.has_audio
    (frame,) = frames_of(write_clip(tmp_path / "a.h264", Clip(times_ms=(0, 40), container="h264")))
    assert isinstance(frame.error, DependencyError)
    assert "pip install 'yoloship[video]'" in str(frame.error)


class Lent:
    """Stands for a device that decodes: it opens videos as the CPU does, and notes which."""

    def __init__(self, side_by_side: int) -> None:
        self.side_by_side = side_by_side
        self.takes_files = True
        self.packets: Any = None
        self.opened: list[Path] = []

    def open(self, path: Path, resources: ExitStack, tell: Callable[[str], None]) -> VideoReader:
        self.opened.append(path)
        tell(f"opened {path.name}")
        return PyavVideo.of_path(path, resources)


def test_videos_are_decoded_by_the_device_that_is_lent(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    told: list[str] = []
    lent = Lent(1)
    with VideoFiles.open(list(map(str, paths)), SourceOptions(on_event=told.append)) as source:
        source.decode_with(lent)
        assert source.side_by_side() is None
        assert len(list(source)) == 24
    assert lent.opened == paths
    assert told == ["opened a.mp4", "opened b.mp4"]


def test_several_videos_are_decoded_side_by_side_if_the_device_can(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    with VideoFiles.open(list(map(str, paths))) as source:
        assert source.side_by_side() is None
        source.decode_with(Lent(2))
        mixed = source.side_by_side()
        assert mixed is not None
        names = [frame.name for frame in mixed]
    assert sorted(names) == sorted(f"{path}#{index}" for path in paths for index in range(12))
    with VideoFiles.open([str(paths[0])]) as source:
        source.decode_with(Lent(2))
        assert source.side_by_side() is None
