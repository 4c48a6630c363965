"""What a decoder process and its shared memory cost, against decoding the same 1080p stream in the process itself.

    python bench/bench_live.py

The stream is H.264, 1920×1080, served over loopback as fast as it is taken, with ``every``. Each round measures both
ways. The numbers are milliseconds of processor time a frame, and frames a second.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
FRAMES = 200
HW = (1080, 1920)
ROUNDS = 5


def in_a_process(address: str) -> dict[str, float]:
    """Through `open_source`."""
    from yoloship.sources import SourceOptions, open_source

    count, own_s, began_s = 0, 0.0, 0.0
    with open_source([address], SourceOptions(live="every", on_event=lambda _: None)) as source:
        for frame in source:
            assert frame.image is not None
            if count == 0:  # the start of the process is not what a frame costs
                own_s, began_s = time.process_time(), time.perf_counter()
            count += 1
        own_s, passed_s = time.process_time() - own_s, time.perf_counter() - began_s
    assert count == FRAMES
    return {"own_ms": own_s / count * 1000, "fps": (count - 1) / passed_s}


def here(address: str) -> dict[str, float]:
    """With PyAV, in this process."""
    import av

    from yoloship.sources.pixels import Converter

    converter, count, own_s, began_s = Converter(), 0, 0.0, 0.0
    with av.open(address) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        for frame in container.decode(stream):
            converter.upright_bgr(frame)
            if count == 0:
                own_s, began_s = time.process_time(), time.perf_counter()
            count += 1
        own_s, passed_s = time.process_time() - own_s, time.perf_counter() - began_s
    return {"own_ms": own_s / count * 1000, "fps": (count - 1) / passed_s}


def main() -> None:
    from helpers.cameras import BytesServer, video_bytes

    data = video_bytes(FRAMES, "mp4", HW)
    found: dict[str, list[dict[str, float]]] = {"process": [], "here": []}
    for _ in range(ROUNDS):
        with BytesServer(data) as server:
            before = os.times()
            found["process"].append(in_a_process(server.address))
            after = os.times()
            children_s = after.children_user + after.children_system - before.children_user - before.children_system
            found["process"][-1]["child_ms"] = children_s / FRAMES * 1000
            found["here"].append(here(server.address))
    for name, rounds in found.items():
        for key in rounds[0]:
            values = [one[key] for one in rounds]
            print(
                f"{name:8} {key:9} median {statistics.median(values):7.2f}  from {min(values):.2f} to {max(values):.2f}"
            )


if __name__ == "__main__":
    main()
