"""Kill a run at random moments while it writes an annotated video: can what it left be played?

    python bench/bench_video_kill.py [--rounds 60] [--seed 1]

The source is made at run time: 60 seconds of 640×360 at uneven times, with a tone. Each round decodes it and writes it,
in a process that is killed (SIGKILL) after a random time. The file that it left is then decoded by FFmpeg's library up
to where it ends. Its frames and its sound must be the first ones of the source, at the same times.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

PROGRAM = """
import sys
from pathlib import Path
from yoloship.sinks.annotated_video import AnnotatedVideo
from yoloship.sources.video import VideoFiles
video = None
for frame in VideoFiles.open([sys.argv[1]]):
    video = video or AnnotatedVideo(Path(sys.argv[2]), frame.stream, overwrite=False)
    video.write(frame.image, frame)
    if frame.index % 10 == 0:
        print(frame.index, flush=True)
video.close()
"""
STEPS_MS = (40, 33, 50, 20, 57)
AUDIO_RATE = 48_000


def make_source(path: Path, seconds: float) -> None:
    scene = np.repeat(np.repeat(np.random.default_rng(1).integers(0, 255, (18, 32, 3), np.uint8), 20, 0), 20, 1)
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio: Any = output.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        now_ms = heard = index = 0
        while now_ms < seconds * 1000:
            image = scene.copy()
            image[100:160, 5 * index % 560 : 5 * index % 560 + 60] = 255
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = now_ms, Fraction(1, 1000)
            output.mux(video.encode(frame))
            now_ms += STEPS_MS[index % len(STEPS_MS)]
            index += 1
            while heard * 1000 < now_ms * AUDIO_RATE:
                wave = (8000 * np.sin(np.arange(heard, heard + 1024) * 0.0576)).astype(np.int16)
                sound = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = AUDIO_RATE, heard, Fraction(1, AUDIO_RATE)
                output.mux(audio.encode(sound))
                heard += 1024
        output.mux(video.encode(None))
        output.mux(audio.encode(None))


def played(path: Path) -> tuple[list[Fraction], list[tuple[Fraction, bytes]]]:
    """The times of the frames, and the sound, as far as they can be read."""
    times: list[Fraction] = []
    sound: list[tuple[Fraction, bytes]] = []
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.is_corrupt:
                continue
            if packet.stream.type == "audio" and packet.size:
                sound.append((packet.pts * Fraction(packet.time_base), bytes(packet)))
            elif packet.stream.type == "video":
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue  # the last one, of which there is a part
                times += [frame.pts * Fraction(frame.time_base) for frame in frames]
    return times, sound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    report: dict[str, Any] = {"rounds": 0, "finished": 0, "nothing yet": 0, "playable": 0, "lost s": [], "broken": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "a.mp4"
        make_source(source, arguments.seconds)
        times, sound = played(source)
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-c", PROGRAM, source, folder / "whole.mp4"], check=True, capture_output=True)
        whole_s = time.monotonic() - began_s
        assert played(folder / "whole.mp4") == (times, sound)
        for place in range(arguments.rounds):
            out = folder / f"out{place}"
            out.mkdir()
            run = subprocess.Popen([sys.executable, "-c", PROGRAM, source, out / "b.mp4"], stdout=subprocess.PIPE)
            time.sleep(rng.uniform(0.1, 1.1) * whole_s)
            run.send_signal(signal.SIGKILL)
            said = run.communicate()[0].split()
            reached = int(said[-1]) if said else 0
            left = sorted(out.iterdir())
            report["rounds"] += 1
            if (out / "b.mp4").exists():
                report["finished"] += 1
                good = played(out / "b.mp4") == (times, sound) and len(left) == 1
            elif not left or left[0].stat().st_size == 0:
                report["nothing yet"] += 1
                good = times[reached] < 7  # the encoder and the first fragment hold some seconds
            else:
                found, heard = played(left[0])
                good = bool(found) and found == times[: len(found)] and heard == sound[: len(heard)]
                report["playable"] += good
                report["lost s"].append(round(float(times[reached] - found[-1]), 2) if found else None)
            if not good:
                report["broken"].append([place, reached, [one.name for one in left]])
    report["lost s"].sort(key=lambda value: value or 0)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
