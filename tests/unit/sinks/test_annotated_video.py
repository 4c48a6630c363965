"""An annotated video as a file: whole under its name or playable under another, never in the place of its source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.videos import Clip, read_back, scene, write_clip
from yoloship.errors import OutputError
from yoloship.sinks.annotated_video import AnnotatedVideo
from yoloship.sources import Frame, Stream
from yoloship.sources.video import VideoFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def frames_of(path: Path) -> list[Frame]:
    with VideoFiles.open([str(path)]) as source:
        return list(source)


def write_all(path: Path, frames: list[Frame], *, overwrite: bool = False) -> None:
    stream = frames[0].stream
    assert stream is not None
    with AnnotatedVideo(path, stream, overwrite=overwrite) as video:
        for frame in frames:
            assert isinstance(frame.image, np.ndarray)
            video.write(frame.image, frame)


def noise(count: int) -> Iterator[tuple[np.ndarray, Frame]]:
    """Frames that take much room."""
    stream = Stream("noise")
    rng = np.random.default_rng(1)
    for index in range(count):
        yield rng.integers(0, 256, (120, 160, 3), np.uint8), Frame(index, f"noise#{index}", None, index * 0.04, stream)


def threads() -> set[str]:
    return {thread.name.rpartition("_")[0] for thread in threading.enumerate()}


def test_it_appears_whole_with_times_and_sound_and_leaves_no_thread(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    write_all(tmp_path / "b.mp4", frames_of(source))
    found, whole = read_back(tmp_path / "b.mp4"), read_back(source)
    assert (found.times, found.audio) == (whole.times, whole.audio)
    for ours, theirs in zip(found.images, whole.images, strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert "yoloship-encode" not in threads()


def test_without_a_frame_no_file_is_left(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "b.mp4", Stream("a"), overwrite=False)
    video.close()
    video.close()
    video.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    frames = frames_of(write_clip(tmp_path / "a.mp4", Clip(times_ms=(0, 40))))
    (tmp_path / "b.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists; give another name, or --overwrite"):
        write_all(tmp_path / "b.mp4", frames)
    assert (tmp_path / "b.mp4").read_bytes() == b"mine"
    write_all(tmp_path / "b.mp4", frames, overwrite=True)
    assert len(read_back(tmp_path / "b.mp4").times) == 2


def test_the_source_is_never_replaced_also_through_a_link(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(times_ms=(0, 40)))
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for path in (source, tmp_path / "link.mp4"):
        with pytest.raises(OutputError, match="would replace an input; give another folder"):
            write_all(path, frames_of(source), overwrite=True)
    assert source.read_bytes() == before


def test_a_name_that_is_taken_meanwhile_is_kept_and_the_frames_too(tmp_path: Path) -> None:
    frames = frames_of(write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 8000, 40))))
    assert frames[0].stream is not None
    video = AnnotatedVideo(tmp_path / "b.mp4", frames[0].stream, overwrite=False)
    for frame in frames:
        assert isinstance(frame.image, np.ndarray)
        video.write(frame.image, frame)
    (tmp_path / "b.mp4").write_bytes(b"theirs")
    with pytest.raises(OutputError, match=r"b\.mp4: already exists; the frames before it are in .*b\.mp4\..*\.part"):
        video.close()
    assert (tmp_path / "b.mp4").read_bytes() == b"theirs"
    assert len(read_back(video.part).times) == 200


@pytest.mark.skipif(resource is None, reason="this system has no limit on the size of files")
@pytest.mark.parametrize(("limit", "is_kept"), [(100, False), (900_000, True)])
def test_a_full_disk_is_one_line_that_says_where_the_frames_are(tmp_path: Path, limit: int, is_kept: bool) -> None:
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    video = AnnotatedVideo(tmp_path / "b.mp4", Stream("noise"), overwrite=False)
    try:
        with pytest.raises(OutputError) as caught:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, previous[1]))
            for image, frame in noise(150):
                video.write(image, frame)
            video.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        video.close()
    said = f"the frames before it are in {video.part}" if is_kept else "free some space"
    assert str(caught.value) == f"{tmp_path / 'b.mp4'}: cannot be written: File too large; {said}"
    if not is_kept:
        assert list(tmp_path.iterdir()) == []
        return
    frames = frames_of(video.part)
    assert len([frame for frame in frames if frame.image is not None]) >= 40
    assert "is cut short" in str(frames[-1].error)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "no" / "b.mp4", Stream("a"), overwrite=False)
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"), video:
        video.write(scene(0, (64, 48)), Frame(0, "a#0", None, 0.0, Stream("a")))


KILLED = """
import os, signal, sys
from pathlib import Path
from yoloship.sinks.annotated_video import AnnotatedVideo
from yoloship.sources.video import VideoFiles
video = None
for frame in VideoFiles.open([sys.argv[1]]):
    video = video or AnnotatedVideo(Path(sys.argv[2]), frame.stream, overwrite=False)
    video.write(frame.image, frame)
    if frame.index == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
@pytest.mark.parametrize("at", [120, 233])
def test_a_killed_process_leaves_a_video_that_can_be_played(tmp_path: Path, at: int) -> None:
    source = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 12_000, 40), audio="aac"))
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, source, out / "b.mp4", str(at)], check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = out.iterdir()
    assert part.name.startswith("b.mp4.")
    assert part.suffix == ".part"
    found, whole = read_back(part), read_back(source)
    assert found.times == whole.times[: len(found.times)]
    assert at - 100 < len(found.times) <= at + 1
    assert found.audio
    assert found.audio == whole.audio[: len(found.audio)]


def test_a_stream_is_not_a_place_for_a_video() -> None:
    with pytest.raises(OutputError, match="is not a regular file, which a video needs"):
        AnnotatedVideo(Path(os.devnull), Stream("a"), overwrite=True)
