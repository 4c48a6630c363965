"""One hour of 1080p video through decoding, a stand-in network, drawing, encoding and JSON Lines: is memory flat?

    python bench/bench_video_hour.py /tmp/hour [--minutes 60] [--preset ultrafast]

The source is made at run time: 25 frames a second on average, at uneven times, with a tone. Ten seconds of it are
encoded, and their packets repeated, each time at new times. Decoding, drawing, encoding, the sound and the records are
the real ones. The network is a stand-in that finds two objects in every image, because a real one would take many hours
on two cores. Afterwards the annotated video is read packet by packet, and compared with the source.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from yoloship.detect.detector import Detector
from yoloship.job.run import Run
from yoloship.model import METADATA_KEY, ModelInfo, TensorSpec
from yoloship.runtime.session import Session
from yoloship.sinks import AnnotatedImages
from yoloship.sinks import mp4 as encoder
from yoloship.sinks.json_lines import JsonLines
from yoloship.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloship.sinks import Entry

SIZE = (1920, 1080)
RATE = 25
TICKS = 90_000
LOOP_FRAMES = 250
STEPS = (3600, 2970, 4500, 1800, 5130)
"""Ticks between frames, in turn: 20 to 57 ms, 40 ms on average."""
AUDIO_RATE = 48_000
CANVAS = (96, 160)


class TwoObjects(Session):
    """A stand-in for a network: it answers the same rows to every image."""

    def __init__(self) -> None:
        record = ModelInfo(
            task="detect", family="yolov5", class_names=("person", "car"), strides=(8, 16, 32),
            anchors=(((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),) * 3, input_form="image", output_form="raw",
            input_hw=CANVAS, batch=1,
        )  # fmt: skip
        cells = sum((CANVAS[0] // stride) * (CANVAS[1] // stride) for stride in record.strides)
        rows = np.zeros((1, 3 * cells, 7), np.float32)
        rows[..., 2:4] = 8
        rows[0, 10] = (40, 40, 30, 40, 0.9, 1, 0)
        rows[0, 99] = (110, 50, 40, 20, 0.8, 0, 1)
        super().__init__(
            [TensorSpec("images", "uint8", (1, *CANVAS, 3))], [TensorSpec("output0", "float32", rows.shape)],
            {METADATA_KEY: record.to_json()},
        )  # fmt: skip
        self._rows = rows

    @property
    def name(self) -> str:
        return "stand-in"

    def run(self, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
        del feeds
        return (self._rows,)

    def close(self) -> None:
        pass


def loop(video: Any) -> list[tuple[bytes, bool]]:
    """Ten seconds of H.264: a still scene of coloured blocks, over which a square moves."""
    small = np.random.default_rng(1).integers(30, 200, (27, 48, 3), np.uint8)
    scene = np.repeat(np.repeat(small, 40, 0), 40, 1)
    packets: list[tuple[bytes, bool]] = []
    for index in [*range(LOOP_FRAMES), None]:
        frame = None
        if index is not None:
            image = scene.copy()
            at = 6 * index % (SIZE[0] - 200)
            image[400:600, at : at + 200] = (40, 200, 240)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index * TICKS // RATE, Fraction(1, TICKS)
        packets += [(bytes(packet), packet.is_keyframe) for packet in video.encode(frame)]
    return packets


def make_source(path: Path, minutes: float) -> int:
    """Write the source and return how many frames it has."""
    count = round(minutes * 60 * RATE)
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "30", "bf": "0"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base, video.codec_context.gop_size = Fraction(1, TICKS), 50
        audio: Any = output.add_stream("aac", rate=AUDIO_RATE)
        packets = loop(video)
        pts, heard = 0, 0
        for index in range(count):
            data, is_key = packets[index % LOOP_FRAMES]
            packet = av.Packet(data)
            packet.pts = packet.dts = pts
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, TICKS), is_key, video
            output.mux(packet)
            pts += STEPS[index % len(STEPS)]
            while heard * TICKS < pts * AUDIO_RATE:
                wave = (8000 * np.sin(np.arange(heard, heard + 1024) * (2 * np.pi * 440 / AUDIO_RATE))).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, heard, Fraction(1, AUDIO_RATE)
                output.mux(audio.encode(frame))
                heard += 1024
        output.mux(audio.encode(None))
    return count


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


class Watch:
    """Notes the memory at each minute of the video."""

    def __init__(self, log: Path) -> None:
        self.log, self.rows, self.started_s = log, list[tuple[int, float, float]](), time.monotonic()

    def write(self, entry: Entry) -> None:
        if entry.index % (60 * RATE) == 0:
            self.rows.append((entry.index // (60 * RATE), rss_mb(), time.monotonic() - self.started_s))
            self.log.write_text(json.dumps(self.rows))


def facts(path: Path) -> dict[str, Any]:
    """The time of each frame, by its packet, and the packets of the sound."""
    found: dict[str, Any] = {"times": [], "audio": 0, "codecs": []}
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        found["codecs"] = [stream.codec_context.name for stream in container.streams]
        for packet in container.demux():
            if packet.size and packet.stream.type == "video":
                found["times"].append(packet.pts * packet.time_base)
            elif packet.size:
                found["audio"] += 1
                digest.update(bytes(packet))
    found["audio_sha256"] = digest.hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--preset", default="veryfast", help="of x264")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    source, started_s = folder / "hour.mp4", time.monotonic()
    count = make_source(source, arguments.minutes)
    print(f"source: {count} frames, {source.stat().st_size / 1e6:.0f} MB, made in {time.monotonic() - started_s:.0f} s")
    encoder.QUALITY = {**encoder.QUALITY, "preset": arguments.preset}  # type: ignore[misc]

    watch = Watch(folder / "memory.json")
    out = folder / "annotated"
    with Detector(TwoObjects(), imgsz=CANVAS) as detector, open_source([str(source)]) as frames:
        run = Run(
            {"jsonl": lambda: JsonLines.open(folder / "found.jsonl", overwrite=True)},
            AnnotatedImages.open(out, overwrite=True),
            [watch],
        )
        started_s = time.monotonic()
        run.write(detector.stream(frames, keep_images=True))
        elapsed_s = time.monotonic() - started_s
    ours, theirs = facts(out / "hour.mp4"), facts(source)
    memory = [row[1] for row in watch.rows[1:]]
    with (folder / "found.jsonl").open() as records:
        times = [json.loads(line)["time_s"] for line in records]
    report = {
        "frames": len(ours["times"]),
        "frames of the source": len(theirs["times"]),
        "times equal": ours["times"] == theirs["times"],
        "times in the records equal": times == [float(one) for one in theirs["times"]],
        "failures": run.tally.failures,
        "sound equal": ours["audio_sha256"] == theirs["audio_sha256"],
        "packets of sound": ours["audio"],
        "codecs": ours["codecs"],
        "size MB": (out / "hour.mp4").stat().st_size / 1e6,
        "frames a second": count / elapsed_s,
        "memory MB after each minute of the video": [round(row[1], 1) for row in watch.rows],
        "memory after the first minute MB": (min(memory), max(memory)) if memory else None,
        "load": os.getloadavg(),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
