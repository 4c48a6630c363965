"""Eight simulated cameras that die at random: do all come back, and does anything grow?

    python bench/soak_cameras.py --minutes 30
    python bench/soak_cameras.py --minutes 15 --model best.pt

With a model, its detector takes the frames, and `--show`'s page has a viewer all the time.
Four cameras send MJPEG over HTTP and four H.264 over RTSP, 640×360 at 10 frames a second, from a process of their own.
About every two seconds one of them, chosen at random, suffers one of four things: its server closes for up to 8
seconds, it sends nothing for up to 8 seconds (longer than the timeout of 4 seconds in half of the cases), its decoder
process is killed, or its decoder process is stopped (SIGSTOP), as if it hung. Memory, file descriptors and threads of
the run, and the number of its decoders and their memory, are measured every 10 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yoloship.sources import Frame, Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
CAMERAS = 8
HW = (360, 640)
RATE = 10
TIMEOUT_S = 4.0
MEGA = 1024 * 1024


def serve() -> None:
    """The cameras: a line of stdin is ``die|stall NUMBER SECONDS``."""
    from helpers.cameras import Camera, MjpegCamera, RtspCamera

    cameras: list[Camera] = []
    for number in range(CAMERAS):
        if number % 2:
            cameras.append(RtspCamera(rate=RATE, image_hw=HW))
        else:
            cameras.append(MjpegCamera(rate=RATE))
            cameras[-1].image_hw = HW
    print(json.dumps([camera.address for camera in cameras]), flush=True)

    def suffer(camera: Camera, what: str, seconds: float) -> None:
        if what == "die":
            camera.die()
            time.sleep(seconds)
            while True:
                with suppress(OSError):  # another connection may have its port for a moment
                    camera.appear()
                    return
                time.sleep(0.1)
        else:
            camera.stalled.set()
            time.sleep(seconds)
            camera.stalled.clear()

    for line in sys.stdin:
        what, number, seconds = line.split()
        threading.Thread(target=suffer, args=(cameras[int(number)], what, float(seconds)), daemon=True).start()


def children() -> list[int]:
    """The decoder processes."""
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    every = [Path(path).read_text() for path in Path("/proc/self/task").glob("*/children")]
    found = {int(word) for words in [text, *every] for word in words.split()}
    return [pid for pid in found if b"live.decoder" in _read(f"/proc/{pid}/cmdline")]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def memory_mb(pid: int | str) -> float:
    """Memory that belongs to a process: without the shared ring and the files."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure() -> dict[str, float]:
    decoders = children()
    return {
        "run_mb": round(memory_mb("self"), 1),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "decoders": len(decoders),
        "largest_decoder_mb": round(max(map(memory_mb, decoders), default=0), 1),
        "shared_mb": round(_shared() / MEGA, 1),
    }


def _shared() -> int:
    """Bytes of the rings that are mapped and really taken."""
    maps = _read("/proc/self/smaps").split(b"\n")
    total, inside = 0, False
    for line in maps:
        if b"-" in line.split(b" ", 1)[0]:
            inside = b"yoloship-live" in line
        elif inside and line.startswith(b"Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@contextmanager
def frames_of(source: Source, model: str | None) -> Iterator[Iterator[Frame]]:
    """The frames of a source, by themselves or through a detector and a page that somebody looks at."""
    if model is None:
        yield iter(source)
        return
    import yoloship
    from yoloship.sinks import Entry
    from yoloship.sinks.show import ShowPage

    def look(address: str) -> None:
        with suppress(OSError), urllib.request.urlopen(f"{address}everything") as response:
            while response.read(65_536):
                pass

    with yoloship.load(model, imgsz=320) as detector, ShowPage() as page:
        viewer = threading.Thread(target=look, args=(page.address,), daemon=True)
        viewer.start()

        def shown() -> Iterator[Frame]:
            for outcome in detector.stream(source, keep_images=True):
                outcome.unwrap()
                page.write(Entry.of(outcome))
                assert outcome.frame is not None
                yield outcome.frame

        with closing(shown()) as frames:
            yield frames
    viewer.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.serve:
        serve()
        return

    from yoloship.sources import SourceOptions, open_source

    chance = random.Random(options.seed)
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    addresses = json.loads(server.stdout.readline())
    texts = [f"live:{one}" if one.startswith("http") else one for one in addresses]
    began = time.monotonic()
    end = began + options.minutes * 60
    events: list[str] = []
    suffered: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    last_seen: dict[str, float] = dict.fromkeys(addresses, began)
    longest: dict[str, float] = dict.fromkeys(addresses, 0.0)
    times: dict[str, float] = {}
    backwards = 0
    samples: list[dict[str, float]] = []
    stopping = threading.Event()

    def torment() -> None:
        while not stopping.wait(chance.uniform(1, 3)):
            what = chance.choice(["die", "stall", "kill", "stop"])
            suffered[what] += 1
            if what in {"die", "stall"}:
                server.stdin.write(f"{what} {chance.randrange(CAMERAS)} {chance.uniform(0.5, 8):.1f}\n")
                continue
            decoders = children()
            if decoders:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(decoders), signal.SIGKILL if what == "kill" else signal.SIGSTOP)

    def watch() -> None:
        while not stopping.wait(10):
            samples.append({"minute": round((time.monotonic() - began) / 60, 2), **measure()})
            print(samples[-1], flush=True)

    rules = SourceOptions(live_timeout_s=TIMEOUT_S, on_event=events.append)
    helpers = [threading.Thread(target=one, daemon=True) for one in (torment, watch)]
    quiet_s = 60.0  # then nothing more happens, so that all can come back
    with open_source(texts, rules) as source, frames_of(source, options.model) as frames:
        for helper in helpers:
            helper.start()
        for frame in frames:
            now = time.monotonic()
            name = frame.stream.name
            seen[name] += 1
            longest[name] = max(longest[name], now - last_seen[name])
            last_seen[name] = now
            backwards += frame.time_s <= times.get(name, -1.0)
            times[name] = frame.time_s
            if frame.image.shape != (*HW, 3):
                raise SystemExit(f"{frame.name}: a wrong size: {frame.image.shape}")
            if now > end - quiet_s and not stopping.is_set():
                stopping.set()
            if now > end:
                alive = {name: round(now - at, 2) for name, at in last_seen.items()}
                final = measure()
                break
    time.sleep(1)
    after = measure()
    server.kill()
    result = {
        "minutes": options.minutes,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "suffered": dict(suffered),
        "seconds_since_last_frame_at_the_end": alive,
        "all_came_back": all(seconds < 2 for seconds in alive.values()),
        "frames": dict(seen),
        "longest_gap_s": {name: round(value, 1) for name, value in longest.items()},
        "times_that_went_back": backwards,
        "counts": [line for line in events if " frames, " in line],
        "running_events": sum(": running" in line for line in events),
        "stalled_events": sum(": no frame for" in line for line in events),
        "at_the_end": final,
        "after_close": after,
        "samples": samples,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
