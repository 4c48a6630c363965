"""What a frame of a camera costs Python on its way from its decoder process to its result, measured without a GPU.

    python bench/live_cost.py                                  # 8 and 32 cameras at 30 frames a second
    python bench/live_cost.py --cameras 64 --seconds 10 --json cost.json

The GPU and its decoders are the stand-ins of `frame_cost.py` and `video_cost.py`, which take their time without a
processor. The decoder processes send packets that hold nothing, at the rate of a camera, each with its own phase, and
state when they sent them. So the processor time of this process is what Python and the bindings take. Those processes
run on the same cores, so latencies are worth something only beside others of the same machine.

For each number of cameras: frames a second, microseconds of processor time for each frame, how often a thread waited or
lost the processor (per frame, as Linux counts them), milliseconds from sending a packet to its result, and frames lost.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "src")]

import numpy as np  # noqa: E402 - the path above comes first
from frame_cost import detector_on  # noqa: E402
from video_cost import StillAv  # noqa: E402

RATE = 30
SETTLED = 15
CAMERA = f"""
import json, os, sys, time
sys.path[:] = json.loads(sys.argv[1])
from yoloship.sources.live.messages import Alive, Coded, Opened, Packet, to_bytes
order = json.loads(sys.stdin.buffer.raw.readline())
def send(message):
    data = memoryview(to_bytes(message))
    while data:
        data = data[os.write(1, data):]
send(Alive())
send(Opened("{RATE}", "1/1000000"))
send(Coded("h264", "yuv420p", 1, True, 4, b"none"))
os.read(0, 1)
count = int(order["address"].rsplit("/", 1)[1])
due = time.monotonic() + (count * 0.618 % 1) / {RATE}
sizes = [80_000] + [16_000] * 29
number = 0
while True:
    time.sleep(max(0.0, due - time.monotonic()))
    due += 1 / {RATE}
    size = sizes[number % 30]
    number += 1
    send(Packet(int(time.monotonic() * 1e6), None, size > 50_000, False, size, bytes(size)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="8,32")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--decoder-us", type=int, default=2000, help="of an engine for a frame")
    parser.add_argument("--run-us", default="900,310,500", help="of a batch, of an image in it; GB/s of copies")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    from helpers.cuda_emulator import with_stand_in_driver

    with tempfile.TemporaryDirectory() as cache:
        environment = {**with_stand_in_driver(Path(cache)), "STAND_IN_IDLE": arguments.run_us}
        command = [sys.executable, __file__, *sys.argv[1:], "--child"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    print(f"{'cameras':>8}{'frames/s':>9}{'µs a frame':>12}{'waits':>7}{'taken':>7}", end="")
    print(f"{'p50':>7}{'p99':>7}{'most ms':>9}{'lost':>6}")
    for row in rows:
        print(
            f"{row['cameras']:8}{row['rate']:9.0f}{row['all_us']:12.1f}{row['waits']:7.2f}{row['taken']:7.2f}"
            f"{row['p50_ms']:7.1f}{row['p99_ms']:7.1f}{row['most_ms']:9.1f}{row['lost']:6}"
        )
        for name, (number, us, waits) in row["threads"].items():
            print(f"{number:16} × {name:30}{us:8.1f} µs{waits:7.2f} waits")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def child(arguments: argparse.Namespace) -> None:
    from helpers.kept import compiled_kernels
    from yoloship.cuda import nvdec
    from yoloship.cuda.compiler import KernelSet
    from yoloship.cuda.device import Device
    from yoloship.detect.gpu.video_decoding import VideoDecoding
    from yoloship.sources.live import connection

    parts: Any = connection
    parts._PROGRAM = CAMERA
    decoders: Any = nvdec
    stand_in = StillAv(arguments.decoder_us / 1e6)
    decoders.load_av = lambda _: stand_in
    rows = []
    with detector_on(1) as detector, Device.open() as device, KernelSet(device, compiled_kernels()) as kernels:
        pipeline: Any = detector._pipeline
        pipeline._videos = VideoDecoding(device, kernels, "gpu", "model")
        for _ in range(arguments.rounds):
            rows += [measured(detector, int(count), arguments.seconds) for count in arguments.cameras.split(",")]
        pipeline._videos.close()
    print(json.dumps(sorted(rows, key=lambda row: row["cameras"])))


def by_thread() -> Counter[tuple[str, str]]:
    """Microseconds of processor time and waits so far, of all threads whose names differ by a number only."""
    found: Counter[tuple[str, str]] = Counter()
    for thread in threading.enumerate():
        task = Path(f"/proc/self/task/{thread.native_id}")
        with suppress(OSError):
            name = re.sub(r"[\d/:.-]+", " ", thread.name)
            found[name, "us"] += int((task / "schedstat").read_text().split()[0]) // 1000
            found[name, "waits"] += int((task / "status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
            found[name, "threads"] += 1
    return found


def measured(detector: Any, cameras: int, seconds: float) -> dict[str, Any]:
    from yoloship.sources import SourceOptions, open_source

    seen: Counter[str] = Counter()
    late: list[float] = []
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    names = [f"rtsp://127.0.0.1:9/{number}" for number in range(cameras)]
    started: float | None = None
    with open_source(names, SourceOptions(on_event=lambda _: None)) as source:
        for outcome in detector.stream(source):
            now, frame = time.monotonic(), outcome.frame
            name = frame.stream.name
            outcome.unwrap()
            seen[name] += 1
            if started is None:
                if len(seen) == cameras and min(seen.values()) >= SETTLED:
                    started, before, processor = now, getrusage(RUSAGE_SELF), time.process_time()
                    threads = by_thread()
                continue
            late.append(now - frame.pts / 1e6)
            first.setdefault(name, frame.index)
            last[name] = frame.index
            if now - started > seconds:
                now_threads = by_thread()
                break
        took, processor = time.monotonic() - started, time.process_time() - processor
        after = getrusage(RUSAGE_SELF)
    table = {
        name: [round((now_threads[name, what] - threads[name, what]) / len(late), 2) for what in ("us", "waits")]
        for name, _ in now_threads
    }
    p50, p99, most = np.percentile(np.array(late) * 1e3, (50, 99, 100))
    return {
        "cameras": cameras,
        "rate": len(late) / took,
        "all_us": processor / len(late) * 1e6,
        "waits": (after.ru_nvcsw - before.ru_nvcsw) / len(late),
        "taken": (after.ru_nivcsw - before.ru_nivcsw) / len(late),
        "p50_ms": p50,
        "p99_ms": p99,
        "most_ms": most,
        "threads": {name: [now_threads[name, "threads"], *values] for name, values in table.items()},
        "lost": sum(last[name] - first[name] + 1 for name in last) - len(late),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
