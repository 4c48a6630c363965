"""Whole processes from start to end: detection on one image and export, beside the least that any program must do.

    python bench/bench_processes.py best.pt photo.jpg [--rounds 15] [--peer NAME=COMMAND …]

`bare` imports OpenCV and ONNX Runtime, opens the same standard-form graph and runs it once on zeros. A peer is any
command that detects on the same photo, for instance one of another environment:

    --peer 'official=env/bin/python bench/_real_peers.py official best.onnx photo.jpg'

Peak memory is the largest of all rounds, as the system counts it (resident, shared libraries included).
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _timing import GAP_S, Timing, conditions, table

TARGETS = "detect .onnx at most 1.6 × bare and 180 MB; export of yolov5n at most 1.2 s"

BARE = """
import sys, cv2, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: numpy.zeros(session.get_inputs()[0].shape, numpy.float32)})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    arguments = parser.parse_args()

    program = str(Path(sys.executable).with_name("yoloship"))
    with tempfile.TemporaryDirectory() as folder:
        graph = str(Path(folder) / "standard.onnx")
        os.environ["YOLOSHIP_CACHE"] = str(Path(folder) / "cache")
        model, photo = str(arguments.model), str(arguments.photo)
        subprocess.run([program, "export", model, "-o", graph], check=True)
        cases = {
            "bare": [sys.executable, "-c", BARE, graph],
            "detect .onnx": [program, "detect", graph, photo, "--no-draw"],
            "detect .onnx, drawing": [program, "detect", graph, photo, "-o", f"{folder}/drawn", "--overwrite"],
            "detect .pt, graph in the cache": [program, "detect", model, photo, "--no-draw"],
            "export .pt": [program, "export", model, "-o", f"{folder}/again.onnx", "--overwrite"],
        }
        for peer in arguments.peer:
            name, _, command = peer.partition("=")
            cases[name] = shlex.split(command)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        peak_kib = dict.fromkeys(cases, 0)
        for turn in range(arguments.rounds + 1):
            for name, command in cases.items():
                time.sleep(GAP_S)
                took, kib = run(command)
                if turn:  # the first round only fills the caches
                    seconds[name].append(took)
                    peak_kib[name] = max(peak_kib[name], kib)
    print(conditions("yoloship", "numpy", "opencv-python-headless", "onnxruntime", "onnx", "click"))
    print(f"targets: {TARGETS}")
    print(table({name: Timing(tuple(values)) for name, values in seconds.items()}, "bare"))
    for name, kib in peak_kib.items():
        print(f"{name:34s} {kib / 1024:9.0f} MB peak, {min(seconds[name]):.3f} s fastest")


def run(command: list[str]) -> tuple[float, int]:
    """Seconds and peak KiB of one process. Its output is dropped. If it fails, the benchmark ends."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    message = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit {process.returncode}: {message.decode(errors='replace')[-500:]}")
    return time.perf_counter() - start, usage.ru_maxrss


if __name__ == "__main__":
    main()
