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
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helpers.videos import Clip, write_clip

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
CASE_S = 60.0


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
    """Read one file to its end, as a run does, and say what came of it."""
    from yoloship.errors import YoloshipError
    from yoloship.sources.video import VideoFiles

    began_s = time.monotonic()
    frames = errors = 0
    times: list[float] = []
    with VideoFiles.open([str(path)]) as source:
        for frame in source:
            if frame.error is None:
                frames += 1
                assert frame.image is not None
                assert frame.time_s is not None
                times.append(frame.time_s)
            else:
                errors += 1
                assert isinstance(frame.error, YoloshipError)
                assert str(frame.error).isprintable()
                assert str(frame.error).startswith(str(path))
    assert times == sorted(times)
    assert frames + errors > 0
    assert "yoloship-read" not in {thread.name for thread in threading.enumerate()}
    took_s = time.monotonic() - began_s
    assert took_s < CASE_S, took_s
    return {"frames": frames, "errors": errors}


def run_group(folder: Path, name: str, count: int, seed: int) -> dict[str, int]:
    """Try mutations of one file, in this process."""
    import resource

    data = (folder / name).read_bytes()
    rng = random.Random(f"{seed} {name}")
    total = {"frames": 0, "errors": 0, "whole": read(folder / name)["frames"]}
    for _ in range(count):
        case = folder / f"case-{name}"
        case.write_bytes(mutated(data, rng))
        found = read(case)
        total["frames"] += found["frames"]
        total["errors"] += found["errors"]
    total["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return total


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="the memory of a process is measured in another way")
@pytest.mark.parametrize("name", list(GROUPS))
def test_every_mutation_ends_in_frames_and_clear_lines(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / name, GROUPS[name])
    program = [sys.executable, __file__, "--group", tmp_path, name, str(COUNT), "1"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    total = json.loads(done.stdout)
    assert total["whole"] >= 3, "the file itself can be read"
    assert total["frames"] + total["errors"] >= COUNT
    assert total["rss_mb"] < MAX_RSS_MB


def main() -> None:
    if sys.argv[1] == "--group":
        folder, name, count, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
        sys.stdout.write(json.dumps(run_group(folder, name, count, seed)))
        return
    folder, count, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in GROUPS.items():
        write_clip(folder / name, clip)
        done = subprocess.run(
            [sys.executable, __file__, "--group", folder, name, count, seed],
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stdout.write(f"{name}: {done.returncode} {done.stdout} {done.stderr[-2000:]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)
