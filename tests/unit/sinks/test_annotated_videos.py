"""The annotated videos of a run: one for each video and camera."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from helpers.videos import read_back, scene
from yoloship.errors import OutputError
from yoloship.sinks.annotated_videos import AnnotatedVideos
from yoloship.sources import Frame, Stream

CLIP, OTHER = Stream("in/clip.mp4"), Stream("more/clip.avi")
CAMERAS = Stream("rtsp://host/front", is_live=True), Stream("rtsp://host/back", is_live=True)


def add(videos: AnnotatedVideos, folder: Path, stream: Stream, index: int) -> Path | None:
    return videos.write(
        folder, scene(index, (64, 48)), Frame(index, f"{stream.name}#{index}", None, index / 25, stream)
    )


def parts(folder: Path) -> list[str]:
    return sorted(path.name[: path.name.index(".mp4") + 4] for path in folder.iterdir() if path.suffix == ".part")


def encoders() -> int:
    return sum(thread.name.startswith("yoloship-encode") for thread in threading.enumerate())


def test_a_video_is_finished_when_the_next_begins_and_cameras_stay_open(tmp_path: Path) -> None:
    with AnnotatedVideos(overwrite=False) as videos:
        for index in range(3):
            assert add(videos, tmp_path, CLIP, index) == tmp_path / "clip.mp4"
        assert add(videos, tmp_path, OTHER, 0) == tmp_path / "clip-2.mp4"
        assert len(read_back(tmp_path / "clip.mp4").times) == 3
        for index in range(4):
            for camera in CAMERAS:
                add(videos, tmp_path, camera, index)
        assert encoders() == 2
        assert parts(tmp_path) in ([], ["back.mp4"], ["front.mp4"], ["back.mp4", "front.mp4"])
    assert {path.name: len(read_back(path).times) for path in tmp_path.iterdir()} == {
        "clip.mp4": 3, "clip-2.mp4": 1, "front.mp4": 4, "back.mp4": 4,
    }  # fmt: skip
    assert encoders() == 0


def test_a_video_that_cannot_be_written_is_said_once_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    with AnnotatedVideos(overwrite=False) as videos:
        with pytest.raises(OutputError, match="already exists"):
            add(videos, tmp_path, CLIP, 0)
        assert add(videos, tmp_path, CLIP, 1) is None
        assert add(videos, tmp_path, OTHER, 0) == tmp_path / "clip-2.mp4"
    assert len(read_back(tmp_path / "clip-2.mp4").times) == 1
    assert (tmp_path / "clip.mp4").read_bytes() == b"mine"


def test_a_failure_while_it_grows_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnnotatedVideos(overwrite=False) as videos:
        add(videos, tmp_path, CLIP, 0)
        monkeypatch.setattr("yoloship.sinks.mp4.Mp4Encoder.add", _full)
        with pytest.raises(OutputError, match="No space left"):
            for index in range(1, 9):
                add(videos, tmp_path, CLIP, index)
        assert add(videos, tmp_path, CLIP, 9) is None
    assert list(tmp_path.iterdir()) == []


def _full(self: object, image: object, frame: object) -> None:
    raise OSError(28, os.strerror(28))


def test_what_fails_at_the_end_is_said_and_all_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = AnnotatedVideos(overwrite=False)
    for camera in CAMERAS:
        add(videos, tmp_path, camera, 0)
    (tmp_path / "front.mp4").write_bytes(b"theirs")
    with pytest.raises(OutputError, match=r"front\.mp4: already exists"):
        videos.close()
    assert len(read_back(tmp_path / "back.mp4").times) == 1
    videos.close()
    assert encoders() == 0
