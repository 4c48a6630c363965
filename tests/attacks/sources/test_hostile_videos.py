"""Videos made to harm: each ends in frames and clear lines, within bounds, and in no crash of the process.

FFmpeg is C code, so each group of files is read in a process of its own: a crash fails the test, and not the test run.
The mutations are the same in every run. ``python tests/attacks/sources/test_hostile_videos.py FOLDER COUNT SEED`` tries
as many others.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helpers.videos import Clip, read_back, write_clip
from yoloship.errors import OutputError, YoloshipError
from yoloship.sinks.annotated_video import AnnotatedVideo
from yoloship.sinks.annotated_videos import AnnotatedVideos
from yoloship.sources import Frame, Stream
from yoloship.sources.video import VideoFiles

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GROUPS: dict[str, Clip] = {
    "a.mp4": Clip(audio="aac"),
    "fast.mp4": Clip(audio="aac", container_options={"movflags": "faststart"}),
    "fragmented.mp4": Clip(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": Clip(audio="libopus", codec="libvpx"),
    "a.avi": Clip(codec="mpeg4", times_ms=range(0, 480, 40), time_base=Fraction(1, 25)),
    "a.ts": Clip(audio="aac"),
    "a.flv": Clip(codec="flv"),
    "a.mpg": Clip(codec="mpeg2video", times_ms=range(0, 480, 40), time_base=Fraction(1, 25), container="mpeg"),
    "a.h264": Clip(container="h264"),
    "a.y4m": Clip(codec="wrapped_avframe", times_ms=(0, 40, 80), time_base=Fraction(1, 25), container="yuv4mpegpipe"),
}
COUNT = 10
MAX_RSS_MB = 700


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One of the ways in which a file can be wrong."""
    changed = bytearray(data)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    if kind == 1:
        start = rng.randrange(len(changed))
        del changed[start : start + rng.randrange(1, 4096)]
        return bytes(changed)
    if kind == 2:
        start = rng.randrange(len(changed))
        return bytes(changed[:start] + rng.randbytes(rng.randrange(1, 2048)) + changed[start:])
    head = min(len(changed), 4096) if kind == 3 else len(changed)
    for _ in range(rng.randrange(1, 40)):
        if kind == 5 and len(changed) > 8:  # a number that says too much
            at = rng.randrange(len(changed) - 8)
            struct.pack_into(">I", changed, at, rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 24)))
        else:
            changed[rng.randrange(head)] = rng.randrange(256)
    return bytes(changed)


def read(path: Path) -> dict[str, Any]:
    """Read one file to its end and write its frames into an annotated video, as a run does, and say what came of it."""
    frames = errors = 0
    times: list[float] = []
    videos = AnnotatedVideos(overwrite=True)
    with VideoFiles.open([str(path)]) as source:
        for frame in source:
            if frame.error is None:
                frames += 1
                assert isinstance(frame.image, np.ndarray)
                assert frame.time_s is not None
                times.append(frame.time_s)
                with suppress(YoloshipError):
                    videos.write(path.parent / "out", frame.image, frame)
            else:
                errors += 1
                assert isinstance(frame.error, YoloshipError)
                assert str(frame.error).isprintable()
                assert str(frame.error).startswith(str(path))
    with suppress(YoloshipError):
        videos.close()
    assert times == sorted(times)
    assert frames + errors > 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("yoloship-")]
    return {"frames": frames, "errors": errors}


def peak_mb() -> int:
    """The most memory that this process has had; `getrusage` would count the process that started it, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # macOS counts bytes


def run_group(folder: Path, name: str, count: int, seed: int) -> dict[str, int]:
    """Try mutations of one file, in this process."""
    (folder / "out").mkdir(exist_ok=True)
    data = (folder / name).read_bytes()
    rng = random.Random(f"{seed} {name}")
    total = {"frames": 0, "errors": 0, "whole": read(folder / name)["frames"]}
    for _ in range(count):
        case = folder / f"case-{name}"
        case.write_bytes(mutated(data, rng))
        found = read(case)
        total["frames"] += found["frames"]
        total["errors"] += found["errors"]
    total["rss_mb"] = peak_mb()
    return total


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="the memory of a process is measured in another way")
@pytest.mark.parametrize("name", list(GROUPS))
def test_every_mutation_ends_in_frames_and_clear_lines(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / name, GROUPS[name])
    program = [sys.executable, __file__, "--group", str(tmp_path), name, str(COUNT), "1"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    total = json.loads(done.stdout)
    assert total["whole"] >= 3, "the file itself can be read"
    assert total["frames"] + total["errors"] >= COUNT
    assert total["rss_mb"] < MAX_RSS_MB


def frames_of(path: Path) -> list[Frame]:
    with VideoFiles.open([str(path)]) as source:
        return list(source)


def errors_of(path: Path) -> list[str]:
    return [str(frame.error) for frame in frames_of(path) if frame.error is not None]


@pytest.mark.parametrize("size", [(65_536, 65_536), (1_000_000, 2), (30_000, 30_000), (0, 0), (-5, 7)])
def test_absurd_sizes_are_refused_before_they_take_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W%d H%d F25:1 C420\nFRAME\n" % size + bytes(5000))
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", *(extent & 0xFFFF for extent in size))
    (tmp_path / "a.mjpeg").write_bytes(bytes(jpeg) * 3)
    for one in (path, tmp_path / "a.mjpeg") if max(size) <= 65_536 else (path,):
        assert errors_of(one)
        assert all(frame.image is None for frame in frames_of(one))


def test_a_table_of_frames_that_cannot_be_there_takes_no_memory(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(audio="aac"))
    data = path.read_bytes()
    before_mb = 0 if resource is None else peak_mb()
    for box, value in ((b"stsz", 0xFFFFFFF), (b"stts", 0xFFFFFFF), (b"stsc", 0xFFFFFFF), (b"ctts", 0x7FFFFFFF)):
        at = data.index(box)
        for offset in (8, 12):
            changed = bytearray(data)
            struct.pack_into(">I", changed, at + offset, value)
            path.write_bytes(changed)
            assert frames_of(path)
    if resource is not None:
        assert peak_mb() < before_mb + MAX_RSS_MB


def test_times_that_begin_anew_in_the_middle_go_on(tmp_path: Path) -> None:
    part = write_clip(tmp_path / "a.ts", Clip(times_ms=range(0, 4000, 40)))
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)
    frames = [frame for frame in frames_of(path) if frame.image is not None]
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    assert len(frames) >= 198
    assert times == sorted(times)
    assert 7.8 < times[-1] < 8.2
    with AnnotatedVideo(tmp_path / "out.mp4", Stream("x", time_base=Fraction(1, 90_000)), overwrite=False) as video:
        for frame in frames:
            assert isinstance(frame.image, np.ndarray)
            video.write(frame.image, frame)
    shown = read_back(tmp_path / "out.mp4").times
    assert len(shown) == len(frames)
    assert sorted(set(shown)) == list(shown)


def test_frames_without_times_have_those_of_the_rate(tmp_path: Path) -> None:
    times = [frame.time_s for frame in frames_of(write_clip(tmp_path / "a.h264", Clip(container="h264")))]
    assert times == pytest.approx([0.04 * index for index in range(12)])


@pytest.mark.parametrize("last_ms", [86_400_000 * 365, 2**40])
def test_absurd_durations_are_times_like_others(tmp_path: Path, last_ms: int) -> None:
    path = write_clip(tmp_path / "a.mkv", Clip(times_ms=(0, 40, last_ms), codec="ffv1", pixel_format="bgr0"))
    frames = frames_of(path)
    assert [frame.time_s for frame in frames] == [0, 0.04, last_ms / 1000]
    assert frames[0].stream is not None
    video = AnnotatedVideo(tmp_path / "out.mp4", frames[0].stream, overwrite=False)
    with suppress(OutputError):  # MP4 may have no number for it
        for frame in frames:
            assert isinstance(frame.image, np.ndarray)
            video.write(frame.image, frame)
        video.close()
    with suppress(OutputError):
        video.close()


def test_a_reference_to_another_file_is_not_followed(tmp_path: Path) -> None:
    """A QuickTime file may keep its frames elsewhere (ISO/IEC 14496-12, section 8.7.2)."""
    path = write_clip(tmp_path / "a.mov")
    data = path.read_bytes()
    secret = write_clip(tmp_path / "secret.mov", Clip(times_ms=(0, 40)))
    entry = b"url \0\0\0\0" + bytes(secret) + b"\0"
    at = data.index(b"url \0\0\0\1") - 4
    changed = data[:at] + struct.pack(">I", len(entry) + 4) + entry + data[at + 12 :]
    path.write_bytes(changed)
    followed = [None if frame.image is None else bytes(np.asarray(frame.image)) for frame in frames_of(path)]
    secret.unlink()
    alone = [None if frame.image is None else bytes(np.asarray(frame.image)) for frame in frames_of(path)]
    assert followed == alone


@pytest.mark.timeout(120)
def test_nothing_is_left_running_if_the_interpreter_ends_in_the_middle(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Clip(times_ms=range(0, 40_000, 40), size=(320, 240)))
    program = (
        "import sys\nfrom pathlib import Path\nfrom yoloship.sources.video import VideoFiles\n"
        "from yoloship.sinks.annotated_video import AnnotatedVideo\n"
        "frames = iter(VideoFiles.open([sys.argv[1]]))\nframe = next(frames)\n"
        "video = AnnotatedVideo(Path(sys.argv[2]), frame.stream, overwrite=False)\n"
        "for _ in range(9):\n    video.write(frame.image, frame)\n    frame = next(frames)\n"
        "print(frame.index)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path, tmp_path / "out.mp4"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")


def main() -> None:
    if sys.argv[1] == "--group":
        sys.stdout.write(json.dumps(run_group(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
        return
    folder, count, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in GROUPS.items():
        write_clip(folder / name, clip)
        program = [sys.executable, __file__, "--group", str(folder), name, count, seed]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        sys.stdout.write(f"{name}: {done.returncode} {done.stdout} {done.stderr[-2000:]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)
